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
