"""Fetching, decoding and embedding images together: shards that any worker of any machine does.

One worker has the job, and is the only one that writes banks and store, in the order of the images. Where others are
there, it hands out shards, and does itself what nobody has begun. What a shard makes is written to a file under a name
that follows from what is asked: a shard that two have done is the same file, and what a killed job has left is of use
to the next one. Of a worker that dies, one shard is done again.
"""

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from backend.chunks import chunks
from backend.errors import QueueUnavailable
from backend.items.fetching import FetchedImage, download_images
from backend.loop.heartbeat import Progress
from backend.project_files import Files
from backend.studio.project import StudioProject
from model.data.atomic_files import replacing, write_atomically
from model.data.decoding import Sides
from model.data.ranges import Depth, Ranges
from model.encoders.encoder import Encoder

if TYPE_CHECKING:
    from backend.loop.steps.features import Encoders

COMMIT_IMAGES = 128  # images that are written at once: five seconds of embedding, by which a first queue may be late
COMMIT_VIEWS = 64  # the same where there are views, of which one takes a hundred times as much memory
WAIT_S = 0.05  # between two looks for a shard that another worker does
AHEAD = 3  # shards a worker that wait for it, or to be written

ImageRefs = Sequence[tuple[int, str]]  # task id and reference of each image


class Helpers(Protocol):
    """Where shards are handed out: ``backend.queueing.shards``."""

    def helpers(self) -> int:
        """Return how many other workers there are."""

    def hand_out(self, key: str) -> None:
        """Let one of them do a shard."""

    def take_back(self, key: str) -> bool:
        """Keep them from doing it; return False if one has begun."""

    def is_at_work(self, key: str) -> bool:
        """Tell whether a living one has begun it."""

    def forget(self, key: str) -> None:
        """Delete what is known of one that is done."""


@dataclass(frozen=True)
class Recipe:
    """What is made of an image: at which sides, by which ranges, and the features of which encoder."""

    sides: Sides
    ranges: Ranges | None = None
    encoder: str | None = None
    activations: bool = False

    @property
    def size(self) -> int:
        """How many images are a shard: those that are written at once, so that all are cut in the same way."""
        return COMMIT_IMAGES if self.sides.view is None else COMMIT_VIEWS

    def order(self, refs: ImageRefs) -> bytes:
        """Return what a worker has to know to follow it for these images."""
        return json.dumps({"refs": [list(ref) for ref in refs], **asdict(self)}, sort_keys=True).encode()


class Shards:
    """Follows recipes for the images of one project, with the help of others."""

    def __init__(
        self, helpers: Helpers, studio: StudioProject, files: Files, encoders: "Encoders", progress: Progress
    ) -> None:
        """progress: may raise to stop the job, also while another worker is waited for."""
        self._helpers, self._studio, self._files, self._encoders = helpers, studio, files, encoders
        self._progress, self._share = progress, 0.0

    def progress(self, share: float) -> None:
        """Note the share of the job that is done."""
        self._share = share
        self._progress(share)

    def images(self, refs: ImageRefs, recipe: Recipe) -> Iterator[FetchedImage]:
        """Yield every image of ``refs`` in their order; those that other workers have made come with their features.

        Raises:
            StudioUnreachable, StudioRefused: Label Studio as a whole fails, not a single image.
        """
        if len(refs) <= recipe.size or not self._number_of_helpers():
            yield from download_images(self._studio, refs, recipe.sides, ranges=recipe.ranges)
            return
        parts = list(chunks(refs, recipe.size))
        keys = [_key(recipe.order(part)) for part in parts]
        made: dict[str, list[FetchedImage]] = {}  # by this worker, before its turn
        handed = 0
        try:
            for number, part in enumerate(parts):
                window = min(number + AHEAD * (self._number_of_helpers() + 1), len(parts))
                for other in range(max(handed, number), window):
                    self._hand_out(keys[other], recipe.order(parts[other]))
                handed = max(handed, window)
                while (images := self._of_turn(keys[number], part, recipe, made)) is None:
                    if not self._make_one(range(number + 1, handed), keys, parts, recipe, made):
                        self._progress(self._share)
                        time.sleep(WAIT_S)
                yield from images
                self._done(keys[number])
        finally:  # of a job that makes way; the next one finds them
            for key, images in made.items():
                write_shard(self._files.shard(key), images)

    def clear(self) -> None:
        """Delete what killed jobs have left, once all images are written; another job of the project may be at work."""
        self._files.drop_old_shards(time.time())

    def _number_of_helpers(self) -> int:
        try:
            return self._helpers.helpers()
        except QueueUnavailable:
            return 0

    def _hand_out(self, key: str, order: bytes) -> None:
        if self._files.shard(key).exists():
            return
        if not self._files.shard_order(key).exists():
            write_atomically(self._files.shard_order(key), order)
        try:
            self._helpers.hand_out(key)
        except QueueUnavailable:  # this worker will do it
            return

    def _of_turn(
        self, key: str, part: ImageRefs, recipe: Recipe, made: dict[str, list[FetchedImage]]
    ) -> list[FetchedImage] | None:
        """Return the images of the shard that is next, None while another worker makes them."""
        if key in made:
            return made.pop(key)
        if (images := read_shard(self._files.shard(key))) is not None:
            return images
        try:
            if not self._helpers.take_back(key) and self._helpers.is_at_work(key):
                return None
        except QueueUnavailable:  # whoever does it may be done before Redis is back; if not, it is done twice
            pass
        if (images := read_shard(self._files.shard(key))) is not None:  # it was done meanwhile
            return images
        return make(self._studio, self._encoders, part, recipe)

    def _make_one(
        self,
        numbers: range,
        keys: Sequence[str],
        parts: Sequence[ImageRefs],
        recipe: Recipe,
        made: dict[str, list[FetchedImage]],
    ) -> bool:
        """Make the first of these shards that nobody has begun; return whether there was one."""
        for number in numbers:
            try:
                if keys[number] not in made and self._helpers.take_back(keys[number]):
                    made[keys[number]] = make(self._studio, self._encoders, parts[number], recipe)
                    return True
            except QueueUnavailable:
                return False
        return False

    def _done(self, key: str) -> None:
        self._files.shard(key).unlink(missing_ok=True)
        self._files.shard_order(key).unlink(missing_ok=True)
        try:
            self._helpers.forget(key)
        except QueueUnavailable:  # it is forgotten by itself
            return


def do_shard(studio: StudioProject, files: Files, encoders: "Encoders", key: str) -> None:
    """Do a shard that was handed out, unless it is not wanted any more."""
    try:
        order = json.loads(files.shard_order(key).read_bytes())
    except FileNotFoundError:
        return
    refs = [(int(task_id), str(reference)) for task_id, reference in order.pop("refs")]
    ranges = order["ranges"]
    recipe = Recipe(
        sides=Sides(**order["sides"]),
        ranges=None if ranges is None else {kind: (low, high) for kind, (low, high) in ranges.items()},
        encoder=order["encoder"],
        activations=order["activations"],
    )
    images = make(studio, encoders, refs, recipe)
    if files.shard_order(key).exists():
        write_shard(files.shard(key), images)


def make(studio: StudioProject, encoders: "Encoders", refs: ImageRefs, recipe: Recipe) -> list[FetchedImage]:
    """Return the images of a shard, with features in place of the pixels that they are made of."""
    images = list(download_images(studio, refs, recipe.sides, ranges=recipe.ranges))
    if recipe.encoder is None or recipe.sides.encoder is None:
        return images
    return embedded(images, encoders.open(recipe.encoder, recipe.sides.encoder), recipe.activations)


def embedded(images: Sequence[FetchedImage], encoder: Encoder, both: bool) -> list[FetchedImage]:
    """Return the images with their features, and activations if ``both`` are wanted."""
    good = [number for number, image in enumerate(images) if image.large is not None]
    done = list(images)
    if not good:
        return done
    pixels = np.stack([large for image in images if (large := image.large) is not None])
    features, activations = encoder.activate(pixels) if both else (encoder.embed(pixels), None)
    for row, number in enumerate(good):
        of_block = None if activations is None else activations[row]
        done[number] = replace(images[number], large=None, features=features[row], activations=of_block)
    return done


_ARRAYS = ("pixels", "view", "features", "activations")


def write_shard(path: Path, images: Sequence[FetchedImage]) -> None:
    """Write images, whole or not at all."""
    about = [
        {
            "task_id": image.task_id,
            "has": [name for name in _ARRAYS if getattr(image, name) is not None],
            "size": image.size,
            "depth": None if image.depth is None else asdict(image.depth),
            "error": image.error,
            "transient": image.transient,
        }
        for image in images
    ]
    arrays: dict[str, Any] = {"about": np.frombuffer(json.dumps(about).encode(), np.uint8)}
    for name in _ARRAYS:
        if rows := [row for image in images if (row := getattr(image, name)) is not None]:
            arrays[name] = np.stack(rows)
    with replacing(path) as file:
        np.savez(file, **arrays)


def read_shard(path: Path) -> list[FetchedImage] | None:
    """Return what ``write_shard`` wrote; None where there is nothing."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: iter(file[name]) for name in file.files if name != "about"}
            about = json.loads(file["about"].tobytes())
    except FileNotFoundError:
        return None
    return [
        FetchedImage(
            task_id=one["task_id"],
            size=None if one["size"] is None else (one["size"][0], one["size"][1]),
            depth=None if one["depth"] is None else Depth(**one["depth"]),
            error=one["error"],
            transient=one["transient"],
            **{name: next(arrays[name]) for name in one["has"]},
        )
        for one in about
    ]


def _key(order: bytes) -> str:
    return hashlib.sha256(order).hexdigest()[:32]
