"""BADGE: k-means++ seeding on gradient embeddings (Ash et al. 2020, Algorithm 1)."""

import numpy as np

from model.querying.info import StrategyInfo
from model.querying.outputs import FloatArray
from model.querying.selection import Candidates, Query, query_by_rank


class Badge:
    """Ask images whose last-layer gradients, under the label that the model guesses, are large and diverse.

    The gradient of image x is the outer product of (posterior - one-hot guess) and the embedding, C * D numbers.
    Distances between outer products follow from the distances of their factors, so it is never written out.
    """

    info = StrategyInfo("large and diverse gradients", "Ash et al. 2020")
    needs = frozenset({"probs", "embeddings"})
    scores_are_ranks = True

    def select(self, candidates: Candidates, k: int, generator: np.random.Generator) -> Query:
        """Return ``k`` candidates: first the largest gradient, then draws weighted by squared distance to the picks."""
        gradients = _Gradients(candidates.rows("probs"), candidates.rows("embeddings"))
        nearest = np.full(len(candidates.indices), np.inf)
        picks: list[int] = []
        for _ in range(min(k, len(nearest))):
            far = nearest / nearest.sum() if picks else None
            pick = int(gradients.norms.argmax()) if far is None else int(generator.choice(len(far), p=far))
            picks.append(pick)
            nearest = np.minimum(nearest, gradients.squared_distances(pick))
            nearest[picks] = 0.0
            if not nearest.any():  # only copies of what is picked are left
                rest = np.setdiff1d(np.arange(len(nearest)), picks)
                picks.extend(generator.permutation(rest)[: k - len(picks)].tolist())
                break
        return query_by_rank(candidates.indices[picks])


class _Gradients:
    def __init__(self, probs: FloatArray, embeddings: FloatArray) -> None:
        self.error = np.array(probs, np.float64)
        self.error[np.arange(len(probs)), probs.argmax(axis=1)] -= 1.0
        self.embeddings = np.asarray(embeddings)
        self.norms = (self.error**2).sum(axis=1) * np.einsum("nd,nd->n", embeddings, embeddings)

    def squared_distances(self, pick: int) -> FloatArray:
        inner = (self.error @ self.error[pick]) * (self.embeddings @ self.embeddings[pick])
        squared: FloatArray = np.maximum(self.norms + self.norms[pick] - 2 * inner, 0.0)
        # What rounding leaves of a distance of zero is no distance: without this, copies of a pick could be drawn.
        squared[squared < 1e-6 * self.norms[pick]] = 0.0
        return squared
