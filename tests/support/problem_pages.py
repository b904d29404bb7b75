"""Projects of every problem for the pages: 12 images, a holdout of 4, and a closed round with a model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from support.web_pages import IMAGES, SIDE, serve

from backend.project_files import Files
from backend.status.predictions import open_predictions
from backend.store import Answer, AskRole, ProjectRow, Store
from backend.store.rounds import Ask
from backend.store.tasks import TaskChange
from model.data.bank import ImageBank
from model.data.masks import nothing, pack
from model.data.views import ViewBank

HELD = 4  # the first tasks
CAT, DOG = "cat", "<b>dog</b>"
SETS = """<View><Image name="image" value="$image"/><Choices name="animals" toName="image" choice="multiple">
<Choice value="cat"/><Choice value="&lt;b&gt;dog&lt;/b&gt;"/></Choices></View>"""
TREE = """<View><Image name="image" value="$image"/><Taxonomy name="kind" toName="image" maxUsages="1">
<Choice value="animal"><Choice value="a cat with a long name"/><Choice value="a dog with a long name"/></Choice>
<Choice value="plant"/></Taxonomy></View>"""
STARS = '<View><Image name="image" value="$image"/><Rating name="stars" toName="image" maxRating="3"/></View>'

# What the model says of the holdout, at thresholds of 0.4 and 0.5, and what annotators said: F1 of 1, 2/3, 0 and 1.
HELD_PROBS = [(0.9, 0.1), (0.8, 0.2), (0.45, 0.1), (0.1, 0.2)]
HELD_SETS: list[list[str]] = [[CAT], [CAT, DOG], [DOG], []]
DECODING = {"thresholds": [0.4, 0.5]}


def connect(store: Store, config: str, studio_project_id: int = 3) -> ProjectRow:
    return store.projects.connect(
        studio_project_id=studio_project_id,
        created_ts="1700000000",
        server="http://studio",
        token=None,
        backend_url="http://backend:9090",
        label_config=config,
        extra_params={"rounds": 2},
    )[0]


def fill_problem(
    store: Store,
    data_dir: Path,
    config: str,
    name: str,
    classes: Sequence[str],
    targets: Sequence[Any],
    outputs: dict[str, np.ndarray],
    decoding: dict[str, Any] | None = None,
    studio_project_id: int = 3,
) -> ProjectRow:
    """Fill a project: ``targets`` are those of the first tasks, of which HELD are the holdout."""
    project = connect(store, config, studio_project_id)
    of, files = store.of(project.id), Files.of(data_dir, project.id)
    of.tasks.apply([TaskChange(task, "x", None, Answer.NONE, None) for task in range(1, IMAGES + 1)])
    pixels = np.random.default_rng(0).integers(0, 255, (IMAGES, SIDE, SIDE, 3)).astype(np.uint8)
    ImageBank.create(files.bank(SIDE), SIDE).append(pixels)
    of.tasks.images_fetched({task: task - 1 for task in range(1, IMAGES + 1)})
    store.projects.set(project.id, image_side=SIDE, pretext_key="p", split_key="s")
    of.tasks.set_losses({i: i / 10 for i in range(IMAGES)})
    of.tasks.set_batches({i: int(i >= IMAGES // 2) for i in range(IMAGES)})
    roles = [AskRole.HOLDOUT] * HELD + [AskRole.QUERY] * (len(targets) - HELD)
    serve(store, project.id, 0, [Ask(task, task / 10, role) for task, role in enumerate(roles, 1)])
    of.tasks.apply([TaskChange(task, "x", None, Answer.LABELED, target) for task, target in enumerate(targets, 1)])
    for output, values in outputs.items():
        np.save(files.output(0, output), values)
    of.rounds.set(0, has_model=True, state="closed", classes=list(classes), labels=2, problem=name, decoding=decoding)
    measure(store, data_dir, project)
    return project


def measure(store: Store, data_dir: Path, project: ProjectRow) -> None:
    """Note how good round 0's model is, as a training does."""
    predictions = open_predictions(store.of(project.id), Files.of(data_dir, project.id))
    assert predictions is not None
    quality = predictions.held_quality
    store.of(project.id).rounds.set(
        0,
        holdout_size=len(quality),
        holdout_quality=float(quality.sum()),
        holdout_squares=float((quality**2).sum()),
    )


def sets_project(store: Store, data_dir: Path) -> ProjectRow:
    """Fill a project whose images have any of two classes, with a second round of which 7 is to be answered."""
    probs = np.tile(np.array([0.7, 0.2], np.float32), (IMAGES, 1))
    probs[:HELD] = HELD_PROBS
    targets = [*HELD_SETS, [CAT], [CAT, DOG]]
    project = fill_problem(store, data_dir, SETS, "multi_label", (CAT, DOG), targets, {"class_probs": probs}, DECODING)
    asks = [Ask(7, 0.1, AskRole.QUERY, [CAT, DOG], 0.6), Ask(8, 0.2, AskRole.QUERY, [], 0.5)]
    serve(store, project.id, 1, asks)
    return project


def classes_project(
    store: Store, data_dir: Path, config: str, classes: Sequence[str], studio_project_id: int = 3
) -> ProjectRow:
    """Fill a project of one class an image, whose model always says the first class."""
    probs = np.full((IMAGES, len(classes)), 0.2 / (len(classes) - 1), np.float32)
    probs[:, 0] = 0.8
    targets = [classes[0], classes[0], classes[0], classes[1], classes[0], classes[1]]
    outputs = {"probs": probs}
    return fill_problem(
        store, data_dir, config, "single_label", classes, targets, outputs, studio_project_id=studio_project_id
    )


# Two kinds of objects. Image 1: one is found, one missed, one box is a false alarm. 2 and 3 are right, 3 has no object.
# 4: what is there has another class. The model's box of 0.3 is below its threshold of 0.5.
BOXES = f"""<View><Image name="image" value="$image"/><RectangleLabels name="kind" toName="image">
<Label value="{CAT}"/><Label value="&lt;b&gt;dog&lt;/b&gt;"/></RectangleLabels></View>"""
A, B, C = [0.1, 0.1, 0.2, 0.2], [0.5, 0.5, 0.25, 0.25], [0.7, 0.1, 0.1, 0.1]
HELD_BOXES: list[list[Any]] = [[[CAT, *A], [CAT, *B]], [[CAT, *A], [DOG, *B]], [], [[DOG, *B]]]
HELD_FOUND = [
    [[*A, 0.9, 0], [*C, 0.8, 0], [*B, 0.3, 0]],
    [[*B, 0.9, 1], [*A, 0.7, 0]],
    [],
    [[*A, 0.6, 0]],
]
WIDE = 640, 320  # pixels of every original: views are of 320 x 160


def boxes_project(store: Store, data_dir: Path) -> ProjectRow:
    """Fill a project of boxes, with a second round of which 7 and 8 are to be answered."""
    found = np.full((IMAGES, 4, 6), -1.0, np.float32)
    for row, boxes in zip(found, HELD_FOUND, strict=False):
        row[: len(boxes)] = np.array(boxes, np.float32).reshape(-1, 6)
    targets = [*HELD_BOXES, [[CAT, *A]], [[CAT, *A], [CAT, *B], [DOG, *C]]]
    decoding = {"threshold": 0.5, "missed": 0.1}
    project = fill_problem(store, data_dir, BOXES, "detection", (CAT, DOG), targets, {"boxes": found}, decoding)
    fill_views(data_dir, project, 320)
    serve(
        store, project.id, 1, [Ask(7, 0.1, AskRole.QUERY, [[CAT, *A, 0.8]], 0.6), Ask(8, 0.2, AskRole.QUERY, [], 0.5)]
    )
    return project


def fill_views(data_dir: Path, project: ProjectRow, side: int) -> None:
    """Write views of all images but the last, which has none: brighter to the right, of a blue by the index."""
    indices = np.arange(IMAGES - 1)
    pixels = np.zeros((len(indices), side, side, 3), np.uint8)
    pixels[..., 0], pixels[..., 2] = np.linspace(0, 255, side), 20 * indices[:, None, None]
    views = ViewBank.create(Files.of(data_dir, project.id).views(side), side)
    views.write(indices, pixels, np.tile(np.array(WIDE), (len(indices), 1)))


# Two kinds of areas, on images of 80 x 40: the left half is a cat in 1 and 2, of which the model paints all and a half,
# nothing is painted in 3, and the right half of 4 is a dog, which the model takes for a cat.
MASKS = BOXES.replace("RectangleLabels", "BrushLabels")
LEFT, RIGHT, QUARTER = slice(0, 40), slice(40, 80), slice(0, 20)


def masks_project(store: Store, data_dir: Path) -> ProjectRow:
    """Fill a project of masks, with a second round of which 7 and 8 are to be answered."""
    outputs = {"class_maps": np.full((IMAGES, 160, 160), 255, np.uint8), "values": np.zeros((IMAGES, 5), np.float32)}
    for row, part in zip(outputs["class_maps"], (LEFT, QUARTER, None, RIGHT), strict=False):
        row[:80] = 0
        if part is not None:
            row[:80, 2 * part.start : 2 * part.stop] = 1
    held = [painted(LEFT), painted(LEFT), nothing(), painted(RIGHT, DOG)]
    targets = [*held, painted(LEFT), painted(RIGHT)]
    project = fill_problem(store, data_dir, MASKS, "segmentation", (CAT, DOG), targets, outputs)
    fill_views(data_dir, project, 320)
    serve(
        store,
        project.id,
        1,
        [Ask(7, 0.1, AskRole.QUERY, painted(LEFT), 0.6), Ask(8, 0.2, AskRole.QUERY, nothing(), 0.5)],
    )
    return project


def painted(columns: slice, name: str = CAT) -> dict[str, Any]:
    """Return a mask of 80 x 40 pixels with these columns painted."""
    pixels = np.zeros((40, 80), np.uint8)
    pixels[:, columns] = 1
    return pack(pixels, [name])
