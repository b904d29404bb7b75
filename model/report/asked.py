"""Charts of which images were asked: how much strategies have in common, and where they lie among all (PT4AL, Fig. 4).

What was asked, the images and the pretext network lie in the work folder beside the results.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from model.bank import ImageBank
from model.curves import Row
from model.outputs import FloatArray, IntArray
from model.report.chart import GREY, Chart, Trace, colour

MOST_MAPPED = 2000  # images of a map
MARKED = 3  # rounds that a map shows: the first, the middle and the last, as the paper does

Asked = Mapping[str, Sequence[IntArray]]  # strategy -> pool indices of each round


def charts(rows: Sequence[Row], work: Path, device: str) -> list[Chart]:
    """Return the charts of what the work folder still has; none where it is gone."""
    strategies = list(dict.fromkeys(row["strategy"] for row in rows))
    seeds = sorted({row["seed"] for row in rows})
    by_seed = {seed: _asked(work / f"seed-{seed}", strategies) for seed in seeds}
    known = {seed: asked for seed, asked in by_seed.items() if asked}
    if not known:
        return []
    shared = [name for name in strategies if all(name in asked for asked in known.values())]
    found = [_overlap(known, shared, first=True), _overlap(known, shared, first=False)] if len(shared) > 1 else []
    seed = min(known)
    return [*found, *_maps(work / f"seed-{seed}", known[seed], device)]


def _asked(folder: Path, strategies: Sequence[str]) -> dict[str, list[IntArray]]:
    """Return what each strategy asked in each round, for those that are there."""
    found = {}
    for name in strategies:
        paths = sorted((folder / name.replace("/", "+")).glob("asked-*.npy"))
        if paths:
            found[name] = [np.load(path) for path in paths]
    return found


def _overlap(by_seed: Mapping[int, Asked], names: Sequence[str], *, first: bool) -> Chart:
    """Return the share of images that one strategy asked and another too, the mean over the seeds."""
    cells = [[float(np.mean([_share(a[x], a[y], first) for a in by_seed.values()])) for y in names] for x in names]
    when, name = ("after the first round", "overlap-first") if first else ("in the end", "overlap")
    trace = Trace("overlap", list(names), list(names), values=[[100 * cell for cell in row] for row in cells])
    note = "Of what the strategy on the left asked, the share that the one below asked too, in %."
    return Chart(name, f"What strategies have in common {when}", "cells", "", "", [trace], note)


def _share(one: Sequence[IntArray], other: Sequence[IntArray], first: bool) -> float:
    a, b = (np.concatenate(list(asked[:1] if first else asked)) for asked in (one, other))
    return float(np.isin(a, b).mean()) if len(a) else 0.0


def _maps(folder: Path, asked: Asked, device: str) -> list[Chart]:
    """Return a map a strategy: all on the same places."""
    everything = [index for rounds in asked.values() for index in _marked(rounds)]
    wanted = np.unique(np.concatenate(everything)) if everything else np.empty(0, np.int64)
    features = _features(folder, wanted, device)
    if features is None or len(features[0]) < 10:
        return []
    indices, rows = features
    places = _places(rows)
    return [_map(number, name, rounds, indices, places) for number, (name, rounds) in enumerate(asked.items())]


def _features(folder: Path, wanted: IntArray, device: str) -> tuple[IntArray, FloatArray] | None:
    """Return the pretext features of the images asked and of a sample of the others, with their pool indices."""
    weights = next(iter(sorted(folder.glob("pretext-*/weights.pt"))), None)
    if weights is None or not (folder / "pool" / "complete").exists():
        return None
    bank = ImageBank.open(folder / "pool")
    kept = weights.with_name("embeddings.npy")
    if kept.exists():
        features: FloatArray = np.load(kept)
    else:
        from model.pretext import extract_embeddings

        features = extract_embeddings(bank, weights, device=device)
    generator = np.random.default_rng(0)
    wanted = generator.permutation(wanted)[:MOST_MAPPED]
    others = generator.permutation(np.setdiff1d(np.arange(len(bank)), wanted))[: MOST_MAPPED - len(wanted)]
    indices = np.sort(np.concatenate([wanted, others]))
    return indices, features[indices]


def _places(features: FloatArray) -> FloatArray:
    """Return t-SNE places (n, 2) of the features (van der Maaten and Hinton 2008)."""
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(features) - 1) / 3)
    places: FloatArray = TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(features)
    return places


def _marked(rounds: Sequence[IntArray]) -> list[IntArray]:
    return [rounds[number] for number in _marked_rounds(rounds)]


def _marked_rounds(rounds: Sequence[IntArray]) -> list[int]:
    return sorted({int(number) for number in np.linspace(0, len(rounds) - 1, MARKED)})


def _map(number: int, name: str, rounds: Sequence[IntArray], indices: IntArray, places: FloatArray) -> Chart:
    traces = [Trace("pool", places[:, 0].tolist(), places[:, 1].tolist(), GREY)]
    for place, marked in enumerate(_marked_rounds(rounds)):
        own = np.isin(indices, rounds[marked])
        traces.append(Trace(f"round {marked}", places[own, 0].tolist(), places[own, 1].tolist(), colour(place)))
    note = "t-SNE of the pretext network's features; the places are the same for every strategy."
    return Chart(f"map-{number:02d}", f"Where the images asked lie: {name}", "points", "", "", traces, note)
