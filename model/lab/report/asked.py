"""Charts of which images were asked: how many strategies share, and where they lie in the pool (PT4AL, Fig. 4).

The images, the indices asked and the pretext network are in the work folder beside the results.
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from model.data.bank import ImageBank
from model.lab.learning_curves import RoundRow
from model.lab.report.chart import GREY, MARKERS, Chart, Trace, colour
from model.querying.outputs import FloatArray, IntArray

MOST_MAPPED = 2000  # images of a map
MARKED = 3  # rounds that a map shows: the first, the middle and the last, as the paper does
FEWEST_MARKED = 10  # images of a round, however many strategies share the map
FEWEST_MAPPED = 10  # images of a pool below which there is no map
PREFERRED = "pretext-rotation"  # the network whose features make the map, if there are several

Asked = Mapping[str, Sequence[IntArray]]  # strategy -> pool indices of each round


def charts(rows: Sequence[RoundRow], work: Path, device: str) -> list[Chart]:
    """Return the charts that the files of the work folder allow; none without it."""
    strategies = list(dict.fromkeys(row["strategy"] for row in rows))
    seeds = sorted({row["seed"] for row in rows})
    by_seed = {seed: _asked(work / f"seed-{seed}", strategies) for seed in seeds}
    known = {seed: asked for seed, asked in by_seed.items() if asked}
    if not known:
        return []
    shared = [name for name in strategies if all(name in asked for asked in known.values())]
    overlaps = []
    if len(shared) > 1:
        sizes = {seed: size for seed in known if (size := _pool_size(work / f"seed-{seed}")) is not None}
        overlaps = [_overlap(known, shared, sizes, first=first) for first in (True, False)]
    seed = min(known)
    return [*overlaps, *_maps(work / f"seed-{seed}", known[seed], device)]


def _asked(folder: Path, strategies: Sequence[str]) -> dict[str, list[IntArray]]:
    """Return the indices that each strategy asked in each round, for the strategies that have files."""
    rounds = {}
    for name in strategies:
        paths = sorted((folder / name.replace("/", "+")).glob("asked-*.npy"))
        if paths:
            rounds[name] = [np.load(path) for path in paths]
    return rounds


def _overlap(by_seed: Mapping[int, Asked], names: Sequence[str], sizes: Mapping[int, int], *, first: bool) -> Chart:
    """Return the chart of the share of images that two strategies both asked, the mean over the seeds."""
    cells = [[float(np.mean([_share(a[x], a[y], first) for a in by_seed.values()])) for y in names] for x in names]
    when, name = ("after the first round", "overlap-first") if first else ("in the end", "overlap")
    trace = Trace("overlap", list(names), list(names), values=[[100 * cell for cell in row] for row in cells])
    note = "Of the images that the strategy on the left asked, the share that the one below asked too, in %."
    return Chart(
        name,
        f"What strategies have in common {when}",
        "cells",
        "",
        "",
        [trace],
        note + _chance(by_seed, names, sizes, first),
    )


def _chance(by_seed: Mapping[int, Asked], names: Sequence[str], sizes: Mapping[int, int], first: bool) -> str:
    """Return the share that two random draws have in common, as a sentence: the size of a draw over the pool's."""
    shares = [100 * len(_flat(by_seed[seed][name], first)) / size for seed, size in sizes.items() for name in names]
    if not shares:
        return ""
    low, high = f"{min(shares):.0f}", f"{max(shares):.0f}"
    return f" Chance alone gives {low if low == high else f'{low} to {high}'}."


def _pool_size(folder: Path) -> int | None:
    return len(ImageBank.open(folder / "pool")) if (folder / "pool" / "complete").exists() else None


def _flat(asked: Sequence[IntArray], first: bool) -> IntArray:
    return np.concatenate(list(asked[:1] if first else asked))


def _share(asked: Sequence[IntArray], other: Sequence[IntArray], first: bool) -> float:
    a, b = _flat(asked, first), _flat(other, first)
    return float(np.isin(a, b).mean()) if len(a) else 0.0


def _maps(folder: Path, asked: Asked, device: str) -> list[Chart]:
    """Return a map for each strategy; an image has the same place on all of them."""
    most = max(MOST_MAPPED // (2 * MARKED * len(asked)), FEWEST_MARKED)
    marks = {name: _marked(rounds, most) for name, rounds in asked.items()}
    wanted = np.unique(np.concatenate([indices for by_round in marks.values() for indices in by_round.values()]))
    weights = _pretext(folder)
    size = _pool_size(folder)
    if weights is None or size is None or size < FEWEST_MAPPED:
        return []
    others = np.random.default_rng(0).permutation(np.setdiff1d(np.arange(size), wanted))
    indices = np.sort(np.concatenate([wanted, others[: MOST_MAPPED - len(wanted)]]))
    places = _places(_features(ImageBank.open(folder / "pool"), weights, indices, device))
    capped = any(len(rounds[number]) > most for rounds in asked.values() for number in _marked_rounds(rounds))
    note = (
        f"t-SNE of the features of the pretext network '{weights.parent.name.removeprefix('pretext-')}', which saw no "
        "label (PT4AL's Fig. 4: of a network trained with all labels). The places are the same for every strategy."
        + (f" {most} images of a round are marked, drawn from all that it asked." if capped else "")
    )
    return [
        _map(number, name, by_round, indices, places, note) for number, (name, by_round) in enumerate(marks.items())
    ]


def _pretext(folder: Path) -> Path | None:
    """Return the weights of a pretext network: those of rotation, or the first by name."""
    paths = sorted(folder.glob("pretext-*/weights.pt"), key=lambda path: (path.parent.name != PREFERRED, path))
    return next(iter(paths), None)


def _features(bank: ImageBank, weights: Path, indices: IntArray, device: str) -> FloatArray:
    """Return the pretext features of these images only, (n, D)."""
    saved = weights.with_name("embeddings.npy")
    if saved.exists():
        features: FloatArray = np.load(saved, mmap_mode="r")[indices]
        return features
    from model.pretext.run import extract_embeddings

    with tempfile.TemporaryDirectory() as folder:
        drawn = ImageBank.create(Path(folder) / "drawn", bank.side)
        drawn.append(bank.gather(indices))
        return extract_embeddings(drawn, weights, device=device)


def _places(features: FloatArray) -> FloatArray:
    """Return t-SNE places (n, 2) of the features (van der Maaten and Hinton 2008)."""
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(features) - 1) / 3)
    places: FloatArray = TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(features)
    return places


def _marked(rounds: Sequence[IntArray], most: int) -> dict[int, IntArray]:
    """Return the indices asked by the rounds that a map shows, by round; at most ``most`` of each, drawn."""
    draw = np.random.default_rng(0)
    return {number: draw.permutation(rounds[number])[:most] for number in _marked_rounds(rounds)}


def _marked_rounds(rounds: Sequence[IntArray]) -> list[int]:
    return sorted({int(number) for number in np.linspace(0, len(rounds) - 1, MARKED)})


def _map(
    number: int, name: str, marks: Mapping[int, IntArray], indices: IntArray, places: FloatArray, note: str
) -> Chart:
    traces = [Trace("pool", places[:, 0].tolist(), places[:, 1].tolist(), GREY)]
    for place, (marked, asked) in enumerate(marks.items()):
        shown = np.isin(indices, asked)
        x, y = places[shown, 0].tolist(), places[shown, 1].tolist()
        traces.append(Trace(f"round {marked}", x, y, colour(place), marker=MARKERS[place]))
    return Chart(f"map-{number:02d}", f"Where the images asked lie: {name}", "points", "", "", traces, note)
