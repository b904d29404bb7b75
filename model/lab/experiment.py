"""What the strategies of a simulation share: the pool of a seed with its labels, and the pretext networks."""

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from model.data.atomic_files import save_array, write_atomically
from model.data.bank import ImageBank
from model.data.views import ViewBank
from model.encoders.registry import AUTO as AUTO_ENCODER
from model.encoders.registry import NONE, encoder_info
from model.errors import BadInput, UnknownName
from model.lab.datasets import Views
from model.lab.sources import FOREIGN, TEST, TRAIN, Source
from model.learners.base import PoolImages
from model.learners.registry import AUTO as AUTO_LEARNER
from model.learners.registry import OWN, reads_activations
from model.pretext.registry import pretext_info, pretext_task
from model.problems import problem
from model.problems.base import Problem, Target
from model.querying.outputs import FloatArray, IntArray
from model.training.registry import RECIPE_INFOS

if TYPE_CHECKING:
    from model.encoders.encoder import Encoder

# Streams of random numbers: what one stream draws does not depend on how much another one drew.
POOL_STREAM, TEST_STREAM, QUERY_STREAM, MIX_STREAM = 0, 1, 2, 3

CLASS_NAMES = "classes.json"  # in the folder of a seed, for the report
CHECKED = 512  # images of a pool on which a pretext task is checked before it is trained
MOST_NAMED = 20  # classes up to which the log counts the images of each by name


def _even(classes: int) -> FloatArray:
    return np.ones(classes)


def _ramp(classes: int) -> FloatArray:
    """Rise evenly to ten times the first class (PT4AL's imbalanced CIFAR-10: 500, 1000, ..., 5000)."""
    return np.linspace(0.1, 1.0, classes)


def _long_tail(classes: int) -> FloatArray:
    """Fall by the same factor from class to class, to a fiftieth of the first one (initial-pools paper, 4.1)."""
    shares: FloatArray = LONG_TAIL ** -(np.arange(classes) / max(classes - 1, 1))
    return shares


LONG_TAIL = 50.0  # the first class against the last one
# From the number of classes to the size of each, up to a factor.
IMBALANCES: dict[str, Callable[[int], FloatArray]] = {"none": _even, "ramp": _ramp, "long_tail": _long_tail}


@dataclass(frozen=True)
class ExperimentConfig:
    """What all strategies of a results file share; a run continues a file only with the same configuration.

    pool, test: number of images; None for all of the set. k: images that a round asks. holdout: number of random images
    that a round asks besides, to measure with, as a share of k. imbalance: of the pool, a name of IMBALANCES. batches:
    of the pool, None for as many as rounds. epochs, pretext_epochs: None for those of the recipe. mix: another set
    whose images are put into the pool, ``name`` or ``name:N`` for N of them. put_back: whether those that were asked go
    back to the pool, as in DALBT. side: of the images in pixels, None for what suits them. encoder, learner: see
    ``model.encoders`` and ``model.learners``.
    """

    data: str
    rounds: int
    k: int
    pool: int | None = None
    test: int | None = None
    imbalance: str = "none"
    network: str = "auto"
    init: str = "pretext"
    recipe: str = "auto"
    epochs: int | None = None
    pretext_epochs: int | None = None
    holdout: float = 0.0
    mix: str | None = None
    put_back: bool = False
    side: int | None = None
    batches: int | None = None
    encoder: str = AUTO_ENCODER
    learner: str = AUTO_LEARNER


class Experiment:
    """The pool of one seed with its true labels, the test set, and the pretext networks; all kept in a folder.

    truth: (N,) class ids by pool index, -1 where an image has no label; 0 where the problem has not one class an image.
    targets: by pool index, None without a label. test_truth, test_targets: of the test images.
    """

    def __init__(self, folder: Path, source: Source, config: ExperimentConfig, seed: int, device: str) -> None:
        self.folder, self.config, self.seed, self.device = folder, config, seed, device
        images = source.images
        self.source = source
        pool, self.truth = pool_of(source, config, seed)
        tested = np.flatnonzero(images.test_labels >= 0)
        # The test set is the same for all seeds: only the pool and the training differ.
        tested = np.random.default_rng([0, TEST_STREAM]).permutation(tested)[: config.test]
        self.test_truth = images.test_labels[tested]
        drawn, foreign = chosen_of(source, config, seed), foreign_of(source, seed)
        of_pool, of_test = images.targets(test=False), images.targets(test=True)
        self.problem: Problem = problem(images.problem)
        self.targets: list[Target | None] = [of_pool[row] for row in drawn] + [None] * len(foreign)
        self.test_targets: list[Target] = [of_test[row] for row in tested]
        self.bank = _bank(folder / "pool", pool)
        self.test_bank = _bank(folder / "test", images.test[tested])
        self.class_names = images.classes
        self._tested = tested
        write_atomically(folder / CLASS_NAMES, json.dumps(images.classes).encode())

    @cache  # noqa: B019 - an experiment lives as long as its process
    def pool(self, learner: str) -> PoolImages:
        """Return the images of the pool, with what a learner reads of the encoder."""
        drawn = {TRAIN: chosen_of(self.source, self.config, self.seed), FOREIGN: foreign_of(self.source, self.seed)}
        return self._images("pool", self.bank, drawn, learner, self.source.images.train_views)

    @cache  # noqa: B019
    def test(self, learner: str) -> PoolImages:
        """Return the images of the test set, likewise."""
        return self._images("test", self.test_bank, {TEST: self._tested}, learner, self.source.images.test_views)

    def _views(self, name: str, views: Views | None, rows: IntArray) -> ViewBank | None:
        if views is None:
            return None
        bank = ViewBank.create(self.folder / f"{name}-views", views.pixels.shape[1])
        if len(bank) < len(rows):
            bank.write(np.arange(len(rows)), views.pixels[rows], views.sizes[rows])
        return bank

    def _images(
        self, name: str, bank: ImageBank, parts: Mapping[str, IntArray], learner: str, views: Views | None
    ) -> PoolImages:
        if self.config.encoder == NONE or learner == OWN:
            return PoolImages(bank)
        features, activations = self.source.embedded(
            self.config.encoder, parts, folder=self.folder / f"{name}-embedded", cache=self.folder.parent,
            device=self.device, activations=reads_activations(learner, len(self.bank)),
        )  # fmt: skip
        own = self._views(name, views, next(iter(parts.values())))
        maps = None
        if views is not None and own is not None:
            everything = len(own) == len(views.sizes)  # else a row is another image in each seed
            maps = (self.folder.parent if everything else self.folder) / f"{name}-maps"
        return PoolImages(
            bank, features, own, encoders=self.folder.parent / "encoders", activations=activations, maps=maps
        )

    @property
    def classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)

    def __str__(self) -> str:
        """Return how many images of each class the pool has; it may be smaller than the configuration asks for."""
        counts = np.array(self.histogram(np.arange(len(self.truth))))
        labeled, wanted = int((self.truth >= 0).sum()), self.config.pool
        short = f" (of {wanted} asked for)" if wanted is not None and labeled < wanted else ""
        foreign = len(self.truth) - labeled
        more = f" and {foreign} of {self.config.mix}" if foreign else ""
        if self.classes > MOST_NAMED:
            spread = f"{counts.min()} to {counts.max()} of each of {self.classes} classes"
        else:
            spread = ", ".join(f"{name} {count}" for name, count in zip(self.class_names, counts, strict=True))
        return f"pool of {labeled} images{short}{more}: {spread}; {len(self.test_targets)} test images"

    def histogram(self, indices: IntArray) -> list[int]:
        """Return for each class how many of these images have it."""
        targets = (self.targets[index] for index in indices)
        counts = Counter(name for target in targets if target is not None for name in self.problem.classes_of(target))
        return [counts[name] for name in self.class_names]

    def pretext(self, name: str) -> tuple[Path, FloatArray]:
        """Return the weights of a pretext network and its losses (N,) of the pool; train it if that is not done yet.

        name: a task, trained as the configuration says, or ``task@recipe``: by that recipe, with that recipe's network.
        """
        from model.pretext.run import extract_losses, train_pretext

        task, recipe = pretext_of(name)
        folder = self.folder / f"pretext-{name}"
        weights, losses = folder / "weights.pt", folder / "losses.npy"
        if not losses.exists():
            folder.mkdir(parents=True, exist_ok=True)
            train_pretext(
                task,
                self.bank,
                out=weights,
                checkpoint=folder / "checkpoint.pt",
                network=self.config.network if recipe is None else "auto",
                recipe=recipe or self.config.recipe,
                epochs=self.config.pretext_epochs,
                seed=self.seed,
                device=self.device,
            )
            save_array(losses, extract_losses(self.bank, weights, device=self.device, seed=self.seed))
        return weights, np.load(losses)

    def encoder_of_losses(self) -> "Encoder":
        """Return the encoder for the images that rotation turns; the first time it is prepared."""
        from model.encoders.encoder import open_encoder
        from model.pretext.on_encoder import encoder_side

        name, side = encoder_info(self.config.encoder).name, encoder_side(self.bank.side)
        return open_encoder(name, side, self.folder.parent / "encoders", self.device)

    def losses_on_encoder(self, task: str) -> FloatArray:
        """Return the losses (N,) of a pretext task as a head on the encoder; compute them if that is not done yet."""
        from model.pretext.heads import Heads

        folder = self.folder / ("pretext-on-encoder" if task == "rotation" else f"{task}-on-encoder")
        losses, weights, work = folder / "losses.npy", folder / "weights.pt", folder / "ways-up"
        if not losses.exists():
            folder.mkdir(parents=True, exist_ok=True)
            heads = Heads(self.config.encoder, self.folder.parent / "encoders", self.device)
            heads.fit(task, self.bank, out=weights, work=work, seed=self.seed)
            save_array(losses, heads.losses(self.bank, weights, np.arange(len(self.bank)), work=work))
        return np.load(losses)  # type: ignore[no-any-return]

    def pretext_embeddings(self, name: str) -> FloatArray:
        """Return the features (N, D) of a pretext network; extract them if that is not done yet."""
        from model.pretext.run import extract_embeddings

        weights, _ = self.pretext(name)
        path = weights.with_name("embeddings.npy")
        if not path.exists():
            save_array(path, extract_embeddings(self.bank, weights, device=self.device))
        features: FloatArray = np.load(path)
        return features


def pretext_of(name: str) -> tuple[str, str | None]:
    """Return task and recipe of ``task`` or ``task@recipe``; raise UnknownName if one is in no registry."""
    task, _, recipe = name.partition("@")
    pretext_info(task)
    if recipe and recipe not in RECIPE_INFOS:
        raise UnknownName("recipe", recipe, RECIPE_INFOS)
    return task, recipe or None


def draw_pool(
    labels: IntArray, size: int | None, generator: np.random.Generator, *, imbalance: str = "none"
) -> IntArray:
    """Return the indices of the training images that make up the pool, ascending.

    labels: (N,) of the training set. imbalance: ``none``: a uniform draw. Any other of IMBALANCES: as many images as
    ``size`` and the smallest class allow, in its proportions.
    """
    size = min(size or len(labels), len(labels))
    if imbalance == "none":
        return np.sort(generator.permutation(len(labels))[:size])
    counts = np.bincount(labels)
    shares = IMBALANCES[imbalance](len(counts))
    keep = np.floor(min(size / shares.sum(), (counts / shares).min()) * shares + 1e-9).astype(np.int64)
    picks = [generator.permutation(np.flatnonzero(labels == c))[: keep[c]] for c in range(len(counts))]
    return np.sort(np.concatenate(picks))


def chosen_of(source: Source, config: ExperimentConfig, seed: int) -> IntArray:
    """Return the indices of the training images that make up a seed's pool, without those of another set."""
    labels = source.images.train_labels
    known = np.flatnonzero(labels >= 0)  # the oracle has no label for the others
    generator = np.random.default_rng([seed, POOL_STREAM])
    chosen = known[draw_pool(labels[known], config.pool, generator, imbalance=config.imbalance)]
    if not len(chosen):
        raise BadInput(f"a pool of {config.pool} images has none of each class of '{config.data}'")
    return chosen


def foreign_of(source: Source, seed: int) -> IntArray:
    """Return the indices of the images of another set that are mixed into a seed's pool, ascending."""
    return np.sort(np.random.default_rng([seed, MIX_STREAM]).permutation(len(source.foreign))[: source.mixed])


def pool_of(source: Source, config: ExperimentConfig, seed: int) -> tuple[npt.NDArray[np.uint8], IntArray]:
    """Return the images of a seed's pool and their class ids (N,); -1 for an image of another set: it has no class."""
    images, labels, chosen = source.images.train, source.images.train_labels, chosen_of(source, config, seed)
    others = source.foreign[foreign_of(source, seed)]
    return np.concatenate([images[chosen], others]), np.concatenate([labels[chosen], np.full(len(others), -1)])


def check_pretext(source: Source, config: ExperimentConfig, seed: int, names: Iterable[str]) -> None:
    """Raise BadInput if a pretext task refuses (a sample of) the pool, before any of them is trained."""
    images, _ = pool_of(source, config, seed)
    sample = np.unique(np.linspace(0, max(len(images) - 1, 0), CHECKED).astype(np.int64))[: len(images)]
    with tempfile.TemporaryDirectory() as folder:
        bank = _bank(Path(folder) / "sample", images[sample])
        for name in names:
            pretext_task(pretext_of(name)[0]).check(bank)


def _bank(folder: Path, images: npt.NDArray[np.uint8]) -> ImageBank:
    """Return the bank of these images; write it if it does not exist or was not written to its end."""
    if (folder / "complete").exists():
        return ImageBank.open(folder)
    for part in folder.glob("*"):
        part.unlink()
    bank = ImageBank.create(folder, images.shape[1])
    bank.append(images)
    write_atomically(folder / "complete", b"")
    return bank
