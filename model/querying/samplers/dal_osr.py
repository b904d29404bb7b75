"""Open-set recognition on features (DAL-OSR: Mandivarapu, Camp and Estrada 2020)."""

import numpy as np

from model.querying.distances import unit_rows
from model.querying.info import StrategyInfo
from model.querying.outputs import FloatArray
from model.querying.samplers.weibull import fit_weibull
from model.querying.selection import Candidates, Query, query_by_rank

TAIL = 0.05  # share of a class's distances that its Weibull is fitted to: the largest
FEWEST = 3  # of them at least
SHIFT = 1.0  # between the smallest of them and the Weibull's origin (libMR: translateAmount)


class DalOsr:
    """Ask the images that are most probably of none of the classes, as far as the class that the model guesses tells.

    Per class: the mean feature of the labeled images that the model gets right, their cosine distances from it, and a
    Weibull of the largest of these. The paper's latents are those of a variational autoencoder that is its classifier
    too; here they are the features of the learner. Its code has two orders, the least outlying first and the reverse;
    here it is the paper's, the most outlying first.
    """

    info = StrategyInfo(
        "outliers of the guessed class's largest distances; on the learner's features, not a variational autoencoder's",
        "Mandivarapu et al. 2020",
    )
    needs = frozenset({"probs", "embeddings", "labels"})
    scores_are_ranks = True

    def select(self, candidates: Candidates, k: int, generator: np.random.Generator) -> Query:
        """Return the ``k`` candidates of the highest outlier probability, of those that have none the farthest first.

        Images of a guessed class without a mean are outliers of all. The order of a batch where no label helps.
        """
        labeled, labels = candidates.labeled()
        right = candidates.rows("probs", labeled).argmax(axis=1) == labels
        if not right.any():
            return query_by_rank(candidates.indices[:k])
        latents, classes = candidates.rows("embeddings", labeled[right]), labels[right]
        mine, guesses = candidates.rows("embeddings"), candidates.rows("probs").argmax(axis=1)
        outlying, distance = np.full(len(mine), np.inf), np.full(len(mine), np.inf)
        for c in np.unique(classes):
            mean, members = latents[classes == c].mean(axis=0), guesses == c
            distance[members] = cosine_distances(mine[members], mean)
            outlying[members] = outlier_exponents(cosine_distances(latents[classes == c], mean), distance[members])
        order = np.lexsort((candidates.indices, -distance, -outlying))
        return query_by_rank(candidates.indices[order[:k]])


def cosine_distances(x: FloatArray, mean: FloatArray) -> FloatArray:
    """Return 1 minus the cosine between each row and a vector, (n, D) and (D,) -> (n,)."""
    distances: FloatArray = 1.0 - unit_rows(x) @ unit_rows(mean[None])[0]
    return distances


def outlier_exponents(known: FloatArray, distances: FloatArray) -> FloatArray:
    """Return e of each distance, whose outlier probability is 1 - exp(-e) (libMR: ``fit_high``, ``w_score``).

    known: (m,) distances of a class's labeled images. A Weibull is fitted to the largest TAIL of them, moved so that
    the smallest of these is at SHIFT; what is nearer than that has one too. 0 where they are too few or alike.
    """
    tail = np.sort(np.asarray(known, np.float64))[-max(FEWEST, round(TAIL * len(known))) :]
    fit = fit_weibull(tail - tail[0] + SHIFT)
    if fit is None:
        return np.zeros(len(distances))
    shape, scale = fit
    moved = np.maximum(np.asarray(distances, np.float64) - tail[0] + SHIFT, 0.0)
    exponents: FloatArray = (moved / scale) ** shape
    return exponents
