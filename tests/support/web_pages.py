"""A project whose every number can be computed by hand."""

from pathlib import Path

import numpy as np
import pytest
from flask.testing import FlaskClient

from backend.config import Settings
from backend.project_files import Files
from backend.store import Answer, AskRole, AskState, ProjectRow, Store
from backend.store.rounds import Ask
from backend.store.tasks import TaskChange
from backend.web.app import create_app
from model.data.bank import ImageBank

CLASSES = ["cat", "<b>dog</b>"]
CAT, DOG = CLASSES
BROKEN = "<script>alert('broken')</script>"
IMAGES, SIDE = 12, 8
CONFIG = """<View><Image name="image" value="$image"/><Choices name="animal" toName="image">
<Choice value="cat"/><Choice value="&lt;b&gt;dog&lt;/b&gt;"/></Choices></View>"""
BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


class Reader(FlaskClient):
    """A client that takes every answer to its end, as a server does: a large one holds its place until then."""

    def open(self, *args, **kwargs):
        kwargs.setdefault("buffered", True)
        return super().open(*args, **kwargs)


@pytest.fixture
def pages(tmp_path: Path):
    """The application on an empty store, without Redis: pages need none."""
    app = create_app(Settings(data_dir=tmp_path, redis_url=f"unix://{tmp_path}/none.sock"))
    app.test_client_class = Reader
    yield app
    app.extensions["pt4al"].store.close()


@pytest.fixture
def browser(pages):
    client = pages.test_client()
    client.environ_base["HTTP_ACCEPT"] = BROWSER["Accept"]
    return client


@pytest.fixture
def filled(pages, tmp_path: Path) -> Store:
    """Project 3 with 12 images and one that is broken: round 0 closed with a model, round 1 half answered."""
    store = pages.extensions["pt4al"].store
    fill(store, connect_project(store), tmp_path)
    return store


def connect_project(store: Store, studio_project_id: int = 3) -> ProjectRow:
    return store.projects.connect(
        studio_project_id=studio_project_id,
        created_ts="1700000000",
        server="http://studio",
        token="s3cret-t0ken",
        backend_url="http://backend:9090",
        label_config=CONFIG,
        extra_params={"rounds": 2},
    )[0]


def fill(store: Store, project: ProjectRow, data_dir: Path) -> None:
    """Task i has pool index i - 1, the loss (i - 1) / 10, and batch 0 in the first half, 1 in the second."""
    key = project.id
    answer(store, key, dict.fromkeys(range(1, IMAGES + 1), (Answer.NONE, None)))
    store.of(key).tasks.apply([TaskChange(99, None, BROKEN, Answer.NONE, None)])
    pixels = np.stack([np.full((SIDE, SIDE, 3), 20 * i, np.uint8) for i in range(IMAGES)])
    ImageBank.create(Files.of(data_dir, key).bank(SIDE), SIDE).append(pixels)
    store.of(key).tasks.images_fetched({task: task - 1 for task in range(1, IMAGES + 1)})
    store.projects.set(key, image_side=SIDE, pretext_key="p", split_key="s")
    store.of(key).tasks.set_losses({i: i / 10 for i in range(IMAGES)})
    store.of(key).tasks.set_batches({i: int(i >= IMAGES // 2) for i in range(IMAGES)})
    first_round(store, key, data_dir)
    second_round(store, key)


def first_round(store: Store, key: int, data_dir: Path) -> None:
    """Asks 1, 2, 3, 6 and the holdout 4 without a model; 6 is left unanswered."""
    asks = [Ask(task, task / 10, AskRole.HOLDOUT if task == 4 else AskRole.QUERY) for task in (1, 2, 3, 4, 6)]
    serve(store, key, 0, asks)
    answer(
        store,
        key,
        {
            1: (Answer.LABELED, CAT),
            2: (Answer.LABELED, DOG),
            3: (Answer.SKIPPED, None),
            4: (Answer.LABELED, CAT),
        },
    )
    store.of(key).rounds.set(
        0,
        has_model=True,
        classes=CLASSES,
        labels=2,
        holdout_size=10,
        holdout_quality=8,
        holdout_squares=8,
        state="closed",
    )
    store.of(key).rounds.add_seconds(0, retrain=12.5, score=1.5)
    probs = np.tile(np.array([0.8, 0.2], np.float32), (IMAGES, 1))
    probs[3] = (0.3, 0.7)  # the holdout's task 4 is a cat: wrong
    probs[6] = (0.9, 0.1)  # the holdout's task 7 is one, too: right
    np.save(Files.of(data_dir, key).probs(0), probs)


def second_round(store: Store, key: int) -> None:
    """Asks with guesses: 5 wrong, 6 right, the holdout 7 right, the reserve 8 wrong; 9 and the holdout 10 wait."""
    asks = [
        Ask(5, 0.1, AskRole.QUERY, CAT, 0.6),
        Ask(6, 0.2, AskRole.QUERY, DOG, 0.55),
        Ask(7, 0.3, AskRole.HOLDOUT, CAT, 0.9),
        Ask(9, 0.4, AskRole.QUERY, DOG, 0.51),
        Ask(10, 0.5, AskRole.HOLDOUT, CAT, 0.8),
        Ask(8, 0.6, AskRole.RESERVE, CAT, 0.7),
    ]
    serve(store, key, 1, asks)
    answer(
        store,
        key,
        {5: (Answer.LABELED, DOG), 6: (Answer.LABELED, DOG), 7: (Answer.LABELED, CAT), 8: (Answer.LABELED, DOG)},
    )


def serve(store: Store, key: int, number: int, asks: list[Ask]) -> None:
    store.of(key).rounds.plan(number, f"pt4al-r{number:03d}", asks)
    store.of(key).rounds.mark(number, [ask.task_id for ask in asks], AskState.POSTED)
    store.of(key).rounds.go_live(number)


def answer(store: Store, key: int, given: dict[int, tuple[Answer, str | None]]) -> None:
    store.of(key).tasks.apply([TaskChange(task, "x", None, kind, label) for task, (kind, label) in given.items()])
