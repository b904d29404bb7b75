"""Image sets by name, for benchmarks, simulations and command lines: arrays, labels and a test split.

``digits`` is part of scikit-learn; ``fashion-mnist``, ``cifar10``, ``photos``, ``objects``, ``blood-cells`` and
``camvid`` are in the folder that the environment variable PT4AL_DATA names; any other name is a folder of images in
which each subfolder is a class. ``blood-cells`` are microscope images with a box around each cell,
``blood-cells:kinds`` crops of microscope images with the kinds of cell in each of them (several an image), ``camvid``
street scenes with their masks, ``camvid:mixed`` the same with test images that are drawn from all of them,
``camvid:boxes`` with boxes around some of their things, ``camvid:patches`` patches of them with what fills them.
"""

import csv
import gzip
import io
import os
import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from model.data.decoding import Sides, auto_side, decode_with_depth, measure
from model.data.masks import IGNORED, pack
from model.errors import BadImage, BadInput
from model.problems import problem as problem_of
from model.problems.base import Target
from model.problems.detection import canonical
from model.querying.outputs import IntArray
from model.training.registry import RECIPE_INFOS

LARGEST_SIDE = RECIPE_INFOS["auto"].largest_side  # where no side is given
DATA_FOLDER = "PT4AL_DATA"
DEFAULT_FOLDER = Path("../shared/data")
SIZE_SAMPLE = 200  # images whose sizes choose the side
CROP = 160  # pixels: side of the crops of microscope images; one has ten cells or so
PATCH, FILLED = 48, 0.75  # pixels: side of a patch of a street scene, and the share of it that one class has to fill
THINGS, SMALLEST_THING = (
    ("Car", "Pedestrian", "SignSymbol"),
    8,
)  # of street scenes that are boxes; pixels of their sides
CAMVID_CLASSES = 11  # the class behind them is what nobody labeled
SUFFIXES = frozenset(
    f".{end}" for end in ("jpg", "jpeg", "png", "gif", "webp", "bmp", "tif", "tiff", "avif", "jp2", "ppm")
)


@dataclass(frozen=True)
class Views:
    """Images with their aspect kept (``model.data.views``). pixels: (N, S, S, 3). sizes: (N, 2), width and height."""

    pixels: npt.NDArray[np.uint8]
    sizes: IntArray


@dataclass(frozen=True)
class ImageSet:
    """Images as arrays: a pool (``train``) and a test split, which is for measuring only.

    train, test: (N, side, side, 3). train_labels, test_labels: (N,) class ids, -1 for an image without a label. paths:
    origin of each image of the pool. broken: path and reason of each image that could not be decoded. size_of_files:
    the median width and height of the images as they came, in pixels. problem: what there is to predict.
    train_targets, test_targets: the targets of the problem; None where they are the names of the classes. train_views,
    test_views: where the problem needs them, and no side was asked for.
    """

    name: str
    classes: tuple[str, ...]
    train: npt.NDArray[np.uint8]
    train_labels: IntArray
    test: npt.NDArray[np.uint8]
    test_labels: IntArray
    paths: tuple[str, ...]
    broken: tuple[tuple[str, str], ...] = ()
    size_of_files: tuple[int, int] = (0, 0)
    problem: str = "single_label"
    train_targets: tuple[Target | None, ...] | None = None
    test_targets: tuple[Target | None, ...] | None = None
    train_views: Views | None = None
    test_views: Views | None = None

    def targets(self, *, test: bool) -> list[Target | None]:
        """Return the target of each image of the pool, or of the test split; None for one without a label."""
        labels, targets = (self.test_labels, self.test_targets) if test else (self.train_labels, self.train_targets)
        if targets is not None:
            return list(targets)
        return [self.classes[label] if label >= 0 else None for label in labels]


def load_images(data: str, *, side: int | None = None, test_share: float = 0.25) -> ImageSet:
    """Return the set of that name, or the folder, decoded to ``side`` pixels (None: chosen from its image sizes).

    test_share: the share that becomes the test split of a set without a test split (digits, folders), the same in
    every call.

    Raises:
        BadInput: there is no such set.
    """
    loaders: dict[str, Callable[[int | None, float], ImageSet]] = {
        "digits": _digits,
        "fashion-mnist": _fashion_mnist,
        "cifar10": _cifar10,
        "photos": _photos,
        "objects": _objects,
        "blood-cells": _blood_cells,
        "blood-cells:kinds": _blood_cell_kinds,
        "camvid": _camvid,
        "camvid:mixed": _camvid_mixed,
        "camvid:boxes": _camvid_boxes,
        "camvid:patches": _camvid_patches,
    }
    if not 0 <= test_share < 1:
        raise BadInput(f"the test split has to be a share in [0, 1), found {test_share}")
    if data in loaders:
        return loaders[data](side, test_share)
    if not Path(data).is_dir():
        raise BadInput(f"'{data}' is neither a folder nor one of the sets {', '.join(sorted(loaders))}")
    return _folder(Path(data), side, test_share)


# -- the sets ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Item:
    """An image file that is not decoded yet. target: where it is not the name of the class."""

    path: str
    data: bytes
    label: int
    test: bool
    target: Target | None = None


def _digits(side: int | None, test_share: float) -> ImageSet:
    from sklearn.datasets import load_digits

    digits = load_digits()
    grey = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    labels = digits.target.astype(np.int64)
    test = _draw_test(labels, test_share)
    paths = [f"digits/{number:04d}" for number in range(len(grey))]
    return _from_grey("digits", [str(digit) for digit in range(10)], grey, labels, test, paths, side)


def _fashion_mnist(side: int | None, test_share: float) -> ImageSet:
    folder = set_folder("fashion-mnist")
    images, labels = [], []
    for part in ("train", "t10k"):
        images.append(_idx(folder / f"{part}-images-idx3-ubyte.gz", header=16).reshape(-1, 28, 28))
        labels.append(_idx(folder / f"{part}-labels-idx1-ubyte.gz", header=8).astype(np.int64))
    test = np.repeat([False, True], [len(part) for part in labels])
    paths = [
        f"{part}/{number:05d}" for part, n in zip(("train", "test"), labels, strict=True) for number in range(len(n))
    ]
    classes = (folder / "classes.txt").read_text().splitlines()
    return _from_grey("fashion-mnist", classes, np.concatenate(images), np.concatenate(labels), test, paths, side)


def _cifar10(side: int | None, test_share: float) -> ImageSet:
    folder = set_folder("cifar10")
    items: list[_Item] = []
    for part in ("train", "test"):
        label_of = {row["path"]: int(row["label"]) for row in _rows(folder / f"{part}-labels.csv")}
        files = _tar(folder / f"cifar10-{part}.tar.gz")
        items += [_Item(path, content, label_of[path], part == "test") for path, content in files if path in label_of]
    return _from_files("cifar10", (folder / "classes.txt").read_text().splitlines(), items, side)


def _photos(side: int | None, test_share: float) -> ImageSet:
    return _listed("photos", side)


def _objects(side: int | None, test_share: float) -> ImageSet:
    return _listed("objects", side)


def _listed(name: str, side: int | None) -> ImageSet:
    """Load a set that is an archive of files and a table of their labels and splits."""
    folder = set_folder(name)
    rows = {row["path"]: row for row in _rows(folder / "labels.csv")}
    items = [
        _Item(path, content, int(rows[path]["label"]), rows[path]["split"] == "test")
        for path, content in _tar(folder / f"{name}.tar")
        if path in rows
    ]
    return _from_files(name, (folder / "classes.txt").read_text().splitlines(), items, side)


def _blood_cells(side: int | None, test_share: float) -> ImageSet:
    """Load the microscope images with the boxes of their cells."""
    folder = set_folder("blood-cells")
    classes = (folder / "classes.txt").read_text().splitlines()
    rows: dict[str, list[dict[str, str]]] = {}
    for row in _rows(folder / "boxes.csv"):
        rows.setdefault(row["path"], []).append(row)
    items = []
    for path, content in _tar(folder / "blood-cells.tar"):
        if path in rows:
            boxes = canonical([_box(row) for row in rows[path]], classes)
            items.append(_Item(path, content, 0, rows[path][0]["split"] == "test", boxes))
    return _from_files("blood-cells", classes, items, side, "detection")


def _box(row: Mapping[str, str]) -> list[object]:
    """Return a row of a table of boxes in pixels as a target has it."""
    x, y, right, down, width, height = (float(row[name]) for name in ("x1", "y1", "x2", "y2", "width", "height"))
    return [row["class"], x / width, y / height, (right - x) / width, (down - y) / height]


def _blood_cell_kinds(side: int | None, test_share: float) -> ImageSet:
    """Load crops of CROP pixels of the microscope images; a crop has the kinds whose boxes have their centre in it."""
    folder = set_folder("blood-cells")
    classes = (folder / "classes.txt").read_text().splitlines()
    boxes: dict[str, list[dict[str, str]]] = {}
    for row in _rows(folder / "boxes.csv"):
        boxes.setdefault(row["path"], []).append(row)
    items = []
    for path, content in _tar(folder / "blood-cells.tar"):
        rows = boxes.get(path, [])
        for (left, top), crop in _crops(content) if rows else ():
            kinds = {row["class"] for row in rows if _centre_in(row, left, top)}
            target = [name for name in classes if name in kinds]
            items.append(_Item(f"{path}-{left}-{top}", crop, 0, rows[0]["split"] == "test", target))
    return _from_files("blood-cells:kinds", classes, items, side, "multi_label")


def _crops(content: bytes) -> Iterable[tuple[tuple[int, int], bytes]]:
    """Yield the crops of an image with their corners, side by side, as files."""
    with Image.open(io.BytesIO(content)) as image:
        for top in range(0, image.height - CROP + 1, CROP):
            for left in range(0, image.width - CROP + 1, CROP):
                yield (left, top), _as_file(image.crop((left, top, left + CROP, top + CROP)))


def _centre_in(row: Mapping[str, str], left: int, top: int) -> bool:
    x, y = ((int(row[f"{axis}1"]) + int(row[f"{axis}2"])) / 2 for axis in "xy")
    return left <= x < left + CROP and top <= y < top + CROP


def _camvid(side: int | None, test_share: float) -> ImageSet:
    """Load the scenes with their masks; what nobody labeled is ignored."""
    classes, items = _scenes()
    return _from_files("camvid", classes, items, side, "segmentation")


def _camvid_mixed(side: int | None, test_share: float) -> ImageSet:
    """Load them with test images drawn from all: those of the set are one clip, of a street that no other one shows."""
    classes, items = _scenes()
    test = _draw_test(np.zeros(len(items), np.int64), test_share)
    items = [replace(item, test=bool(is_test)) for item, is_test in zip(items, test, strict=True)]
    return _from_files("camvid:mixed", classes, items, side, "segmentation")


def _scenes() -> tuple[list[str], list[_Item]]:
    folder = set_folder("camvid")
    classes = (folder / "classes.txt").read_text().splitlines()[:CAMVID_CLASSES]
    files, items = dict(_tar(folder / "camvid.tar")), []
    for row in _rows(folder / "files.csv"):
        with Image.open(io.BytesIO(files[row["mask"]])) as drawn:
            ids = np.asarray(drawn)
        mask = np.where(ids < CAMVID_CLASSES, ids + 1, IGNORED).astype(np.uint8)
        items.append(_Item(row["image"], files[row["image"]], 0, row["split"] != "train", pack(mask, classes)))
    return classes, items


def _camvid_boxes(side: int | None, test_share: float) -> ImageSet:
    """Load the scenes with a box around each part of the masks of THINGS that is connected and not too small."""
    from scipy.ndimage import find_objects, label

    folder = set_folder("camvid")
    names = (folder / "classes.txt").read_text().splitlines()
    files, items = dict(_tar(folder / "camvid.tar")), []
    for row in _rows(folder / "files.csv"):
        with Image.open(io.BytesIO(files[row["mask"]])) as drawn:
            ids = np.asarray(drawn)
        boxes = []
        for name in THINGS:
            for down, across in find_objects(label(ids == names.index(name))[0]):
                height, width = down.stop - down.start, across.stop - across.start
                if min(height, width) >= SMALLEST_THING:
                    shares = across.start / ids.shape[1], down.start / ids.shape[0]
                    boxes.append([name, *shares, width / ids.shape[1], height / ids.shape[0]])
        target = canonical(boxes, THINGS)
        items.append(_Item(row["image"], files[row["image"]], 0, row["split"] != "train", target))
    return _from_files("camvid:boxes", THINGS, items, side, "detection")


def _camvid_patches(side: int | None, test_share: float) -> ImageSet:
    """Load patches of PATCH pixels of which one class fills FILLED; every fourth scene is for testing."""
    folder = set_folder("camvid")
    classes = (folder / "classes.txt").read_text().splitlines()[:CAMVID_CLASSES]
    files = dict(_tar(folder / "camvid.tar"))
    items = []
    for number, row in enumerate(_rows(folder / "files.csv")):
        with Image.open(io.BytesIO(files[row["image"]])) as scene, Image.open(io.BytesIO(files[row["mask"]])) as drawn:
            mask = np.asarray(drawn)
            for top in range(0, mask.shape[0] - PATCH + 1, PATCH):
                for left in range(0, mask.shape[1] - PATCH + 1, PATCH):
                    counts = np.bincount(mask[top : top + PATCH, left : left + PATCH].ravel(), minlength=CAMVID_CLASSES)
                    label = int(counts[:CAMVID_CLASSES].argmax())
                    if counts[label] < FILLED * PATCH**2:
                        continue
                    patch = _as_file(scene.crop((left, top, left + PATCH, top + PATCH)))
                    items.append(_Item(f"{row['image']}-{left}-{top}", patch, label, number % 4 == 0))
    return _from_files("camvid:patches", classes, items, side)


def _as_file(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.convert("RGB").save(file, "PNG")
    return file.getvalue()


def _folder(folder: Path, side: int | None, test_share: float) -> ImageSet:
    """Load every image below a folder. The first subfolder of its path is its class; without one it has no class."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix.lower() in SUFFIXES)
    if not files:
        raise BadInput(f"there are no images in {folder}")
    parts = [path.relative_to(folder).parts for path in files]
    classes = sorted({part[0] for part in parts if len(part) > 1})
    labels = np.array([classes.index(part[0]) if len(part) > 1 else -1 for part in parts], np.int64)
    test = _draw_test(labels, test_share)
    items = [
        _Item(str(path.relative_to(folder)), path.read_bytes(), int(label), bool(is_test))
        for path, label, is_test in zip(files, labels, test, strict=True)
    ]
    return _from_files(folder.name, classes, items, side)


# -- from files and arrays to an ImageSet -------------------------------------------------------------------------


def _from_files(
    name: str, classes: Sequence[str], items: list[_Item], side: int | None, problem: str = "single_label"
) -> ImageSet:
    view = None if side else problem_of(problem).view_side
    side = side or _side_of(items)
    images, views, kept, broken = [], list[npt.NDArray[np.uint8]](), [], []
    for item in items:
        try:
            decoded = decode_with_depth(item.data, Sides(side, view=view))
            images.append(decoded.pixels)
            if decoded.view is not None:
                views.append(decoded.view)
            kept.append(item)
        except BadImage as error:
            broken.append((item.path, str(error)))
    if not images:
        raise BadInput(f"none of the {len(items)} images of {name} can be decoded: {broken[0][1]}")
    labels = np.array([item.label for item in kept], np.int64)
    test = np.array([item.test for item in kept])
    paths, size = [item.path for item in kept], _median_size(kept)
    split = _split(name, classes, np.stack(images), labels, test, paths, size, tuple(broken))
    if problem == split.problem:
        return split
    train, tested = (tuple(item.target for item in kept if item.test == part) for part in (False, True))
    split = replace(split, problem=problem, train_targets=train, test_targets=tested)
    if view is None:
        return split
    letterboxed = Views(np.stack(views), np.array([measure(item.data) for item in kept], np.int64))
    train_views, test_views = (Views(letterboxed.pixels[part], letterboxed.sizes[part]) for part in (~test, test))
    return replace(split, train_views=train_views, test_views=test_views)


def _from_grey(
    name: str,
    classes: Sequence[str],
    grey: npt.NDArray[np.uint8],
    labels: IntArray,
    test: npt.NDArray[np.bool_],
    paths: Sequence[str],
    side: int | None,
) -> ImageSet:
    """Resize grey images (N, H, W) as ``decode`` resizes an image file."""
    side = side or auto_side([grey.shape[2:0:-1]], LARGEST_SIDE)
    small = [Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC) for picture in grey]
    images = np.repeat(np.stack([np.asarray(picture) for picture in small])[..., None], 3, axis=3)
    return _split(name, classes, images, labels, test, paths, (grey.shape[2], grey.shape[1]))


def _split(
    name: str,
    classes: Sequence[str],
    images: npt.NDArray[np.uint8],
    labels: IntArray,
    test: npt.NDArray[np.bool_],
    paths: Sequence[str],
    size: tuple[int, int],
    broken: tuple[tuple[str, str], ...] = (),
) -> ImageSet:
    pool_paths = tuple(path for path, is_test in zip(paths, test, strict=True) if not is_test)
    pool = ~test
    arrays = images[pool], labels[pool], images[test], labels[test]
    return ImageSet(name, tuple(classes), *arrays, pool_paths, broken, size)


def _side_of(items: Sequence[_Item]) -> int:
    return auto_side(_sizes(items) or [(32, 32)], LARGEST_SIDE)


def _median_size(items: Sequence[_Item]) -> tuple[int, int]:
    width, height = np.median(_sizes(items), axis=0)
    return int(width), int(height)


def _sizes(items: Sequence[_Item]) -> list[tuple[int, int]]:
    sizes = []
    for item in items[:: max(len(items) // SIZE_SAMPLE, 1)]:
        try:
            sizes.append(measure(item.data))
        except BadImage:
            continue  # decoding reports it
    return sizes


def _draw_test(labels: IntArray, share: float) -> npt.NDArray[np.bool_]:
    """Return the mask (N,) of the test images: the same share of every class, independent of any seed."""
    generator = np.random.default_rng(0)
    test = np.zeros(len(labels), np.bool_)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        test[generator.permutation(members)[: round(share * len(members))]] = True
    return test


def set_folder(name: str) -> Path:
    """Return the folder of a set; raise BadInput where it is not there."""
    folder = Path(os.environ.get(DATA_FOLDER) or DEFAULT_FOLDER) / name
    if not folder.is_dir():
        raise BadInput(f"the image set '{name}' is not at {folder}: set {DATA_FOLDER} to the folder that holds it")
    return folder


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _idx(path: Path, header: int) -> npt.NDArray[np.uint8]:
    return np.frombuffer(gzip.decompress(path.read_bytes())[header:], np.uint8)


def _tar(path: Path) -> Iterable[tuple[str, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(path.read_bytes())) as archive:
        for member in archive:
            file = archive.extractfile(member)
            if file is not None:
                yield member.name, file.read()
