"""A project with images in bank and store, without Label Studio and Redis, whose steps are taken one by one."""

from pathlib import Path

import numpy as np
from support.images import halves

from backend.config import Settings
from backend.loop.advance import gather_facts
from backend.loop.context import Context, OpenProject, open_project
from backend.loop.decide import Step
from backend.loop.facts import JobKind
from backend.loop.heartbeat import Progress
from backend.loop.step_table import JOBS, STEPS
from backend.store import AskRole, AskState, Store
from backend.store.tables import Answer
from backend.store.tasks import TaskChange
from model.data.bank import ImageBank

SIDE, IMAGES, K = 16, 80, 8
CLASSES = ("left", "right")
LABELS = "".join(f'<Choice value="{name}"/>' for name in CLASSES)
CONFIG = f'<View><Image name="i" value="$image"/><Choices name="c" toName="i" choice="single">{LABELS}</Choices></View>'
PARAMS = {"rounds": 3, "labels_per_round": K, "network": "compact"}


def ignore(share: float) -> None:
    pass


class NoQueue:
    """The place of Redis where nothing is queued."""

    class NoMeters:
        def note(self, *_: object, **__: object) -> None:
            pass

    meters = NoMeters()


class Project:
    """A project with images in bank and store, whose tasks are answered by the truth."""

    def __init__(self, folder: Path) -> None:
        """Open what is in the folder, or begin."""
        self.store = Store(f"sqlite:///{folder / 'test.sqlite3'}", folder)
        self.context = Context(Settings(data_dir=folder, device="cpu"), self.store, NoQueue())
        self.key = self.store.projects.connect(
            studio_project_id=1, created_ts="1", server="http://studio", token=None, backend_url=None,
            label_config=CONFIG,
            extra_params=PARAMS,
        )[0].id  # fmt: skip
        self.truth = np.empty(0, np.int64)
        if not self.store.of(self.key).tasks.pool_size():
            self.store.projects.set(self.key, image_side=SIDE)
            self.add(IMAGES)
        self.truth = halves(IMAGES, SIDE)[1]

    def add(self, n: int) -> None:
        """Put n images into bank and store."""
        images, truth = halves(n, SIDE, seed=len(self.truth))
        first = self.bank().append(images)
        self.truth = np.concatenate([self.truth, truth])
        ids = {first + i + 1: first + i for i in range(n)}  # task id: pool index
        self.store.of(self.key).tasks.apply([TaskChange(task, f"{task}.png", None, Answer.NONE, None) for task in ids])
        self.store.of(self.key).tasks.images_fetched(ids)

    def open(self) -> OpenProject:
        return open_project(self.context, self.key)

    def bank(self) -> ImageBank:
        """Open the image bank, or begin it."""
        folder = self.open().files.bank(SIDE)
        return ImageBank.open(folder) if folder.exists() else ImageBank.create(folder, SIDE)

    def configure(self, **params: object) -> OpenProject:
        self.store.projects.set(self.key, extra_params={**PARAMS, **params})
        return self.open()

    def step(self, step: Step) -> None:
        """Take a short step on the facts as they are."""
        STEPS[step](self.context, self.open(), gather_facts(self.context, self.key, None))

    def job(self, kind: JobKind, progress: Progress = ignore) -> None:
        """Run a long job here."""
        JOBS[kind].call(self.context, self.open(), progress)

    def retrain(self, progress: Progress = ignore) -> None:
        """Train after the current round and plan the next, as the worker does."""
        self.job(JobKind.RETRAIN, progress)
        self.step(Step.PLAN)

    def asked(self, number: int) -> list[int]:
        """Return the task ids of the round's query and holdout."""
        asks = self.store.of(self.key).rounds.asks(number, states=list(AskState))
        return [ask.task_id for ask in asks if ask.role != AskRole.RESERVE]

    def answer(self, number: int) -> None:
        """Have the round served and all of its queue answered."""
        self.store.of(self.key).rounds.go_live(number)
        names = {task: CLASSES[self.truth[task - 1]] for task in self.asked(number)}
        self.store.of(self.key).tasks.apply(
            [TaskChange(task, f"{task}.png", None, Answer.LABELED, name) for task, name in names.items()]
        )
