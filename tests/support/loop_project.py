"""A project in the loop, in this process: a fake Label Studio, the real store and steps, a queue that runs here."""

import shutil
from collections.abc import Callable, Sequence
from copy import copy, deepcopy
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
from PIL import Image
from support.fake_label_studio import FakeLabelStudio, FakeProject
from support.fake_queueing import FakeQueueing

from backend.config import Settings
from backend.loop import context as context_module
from backend.loop import jobs
from backend.loop.context import Context, open_project
from backend.loop.steps.plan import version_of
from backend.loop.steps.pull import pull_changes
from backend.loop.steps.queue import post, switch
from backend.status.predictions import open_predictions
from backend.store import AskRole, AskState, ProjectRow, RoundRow, Store, TaskRow
from backend.store.rounds import Ask
from model.pretext import run as pretext_run
from model.training import recipes

SIDE = 16  # pixels
CLASSES = ("left", "right")
CHOICES = "".join(f'<Choice value="{name}"/>' for name in CLASSES)
CONFIG = f'<View><Image name="i" value="$image"/><Choices name="c" toName="i">{CHOICES}</Choices></View>'
URL = "http://backend:9090"
PARAMS = {"rounds": 4, "labels_per_round": 4, "network": "compact"}
WITH_ENCODER = {"network": "auto"}  # on top of these: the main model is a head on an encoder


def answer_of(name: str) -> list[dict[str, Any]]:
    """Return the result of an annotation that chooses this class."""
    return [{"from_name": "c", "to_name": "i", "type": "choices", "value": {"choices": [name]}}]


def image_of(name: str, generator: np.random.Generator, side: int = SIDE) -> bytes:
    """Draw a noisy PNG whose bright half lies left or right."""
    pixels = np.full((side, side, 3), 60.0)
    first = CLASSES.index(name) * side // 2
    pixels[:, first : first + side // 2] = 180
    noisy = (pixels + generator.normal(0, 20, pixels.shape)).clip(0, 255).astype(np.uint8)
    file = BytesIO()
    Image.fromarray(noisy).save(file, "PNG")
    return file.getvalue()


class LoopProject:
    """One project with its server, store and queue; ``truth`` is the class by task id.

    answer_of: from a class to the result of the annotation that a person gives.
    """

    answer_of = staticmethod(answer_of)

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, config: str = CONFIG, database: str | None = None
    ) -> None:
        self.folder, self.server, self.queueing = folder, FakeLabelStudio(), FakeQueueing()
        self.database = database  # None: SQLite in the folder
        self._open(monkeypatch)
        self.person = self.server.person()
        self.truth: dict[int, str] = {}
        self.generator = np.random.default_rng(0)
        self.studio: FakeProject = self.server.project(self.person.create_project("loop", config))
        self.id = 0
        self.entry = 0

    def _open(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store = Store(self.database or f"sqlite:///{self.folder / 'loop.sqlite3'}", self.folder)
        self.context = Context(Settings(data_dir=self.folder, device="cpu"), self.store, self.queueing)  # type: ignore[arg-type]
        monkeypatch.setattr(jobs, "context", lambda: self.context)
        monkeypatch.setattr(context_module, "LabelStudio", lambda server, *_: self.server)

    def copied(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Self:
        """Return a copy of its own of the project, whose store is closed, in a folder that is not there yet."""
        made = copy(self)
        made.folder = shutil.copytree(self.folder, folder)
        parts = self.server, self.person, self.studio, self.queueing, self.generator, self.truth
        made.server, made.person, made.studio, made.queueing, made.generator, made.truth = deepcopy(parts)
        made._open(monkeypatch)
        return made

    def add(self, number: int, side: int = SIDE) -> list[int]:
        """Import this many images of ``side`` pixels; return their tasks."""
        names = [CLASSES[self.generator.integers(len(CLASSES))] for _ in range(number)]
        known = len(self.server.files)
        references = [f"/data/upload/{known + one}.png" for one in range(number)]
        for reference, name in zip(references, names, strict=True):
            self.server.files[reference] = image_of(name, self.generator, side)
        self.person.import_tasks(self.studio.id, [{"data": {"image": reference}} for reference in references])
        tasks = sorted(self.server.projects[self.studio.id].tasks)[-number:]
        self.truth |= dict(zip(tasks, names, strict=True))
        return tasks

    def delete(self, tasks: Sequence[int]) -> None:
        """Delete tasks, as people do in the Data Manager."""
        for task in tasks:
            self.person.call("DELETE", f"/api/tasks/{task}/")
            del self.truth[task]

    def connect(self, **params: Any) -> None:
        """Connect the backend on the Model page, and hear of it by ``/setup``."""
        self.entry = self.person.connect_backend(self.studio.id, URL, {**PARAMS, **params})
        self.id = self.setup(**params).id
        self.queueing.wake(self.id)

    def connect_planned(self) -> None:
        """Connect, and note all tasks with their images as if they were in the bank, in their order; plan nothing."""
        self.connect()
        store = self.store.of(self.id)
        pull_changes(store, self.studio)
        store.tasks.images_fetched({task: index for index, task in enumerate(sorted(self.truth))})

    def serve_first(self) -> None:
        """Have a first round of all images served that no model has chosen; the project is connected."""
        project = open_project(self.context, self.id)
        pull_changes(project.store, self.studio)
        tasks = sorted(self.truth)
        project.store.tasks.images_fetched({task: index for index, task in enumerate(tasks)})
        asks = [Ask(task, rank / 100, AskRole.QUERY) for rank, task in enumerate(tasks)]
        project.store.rounds.plan(0, version_of(0), asks)
        post(project.store, self.studio, project.files, project.labeling, preannotate=False)
        switch(project.store, self.studio)

    def setup(self, **params: Any) -> ProjectRow:
        """Hear of the project by ``/setup``."""
        info = self.studio.settings()
        row, _ = self.store.projects.connect(
            studio_project_id=info.id,
            created_ts=str(info.created_ts),
            server=self.server.url,
            token=None,
            backend_url=URL,
            label_config=info.label_config,
            extra_params={**PARAMS, **params},
        )
        return row

    def run(self) -> list[str]:
        """Wake the project, and run until nothing is left to do; return the jobs that ran."""
        self.queueing.wake(self.id)
        return self.queueing.run()

    def advance(self) -> None:
        """Take the steps that are missing now, and start no job."""
        jobs.advance(self.id)

    @property
    def row(self) -> ProjectRow:
        row = self.store.projects.get(self.id)
        assert row is not None
        return row

    @property
    def round(self) -> RoundRow:
        """The current round."""
        row = self.store.of(self.id).rounds.current()
        assert row is not None
        return row

    def queue(self, number: int | None = None) -> list[int]:
        """Return the tasks of a round's queue, holdout among them, in serving order."""
        asks = self.store.of(self.id).rounds.asks(
            self.round.number if number is None else number, states=list(AskState)
        )
        return [ask.task_id for ask in asks if ask.role != AskRole.RESERVE]

    def posted(self, version: str | None = None) -> dict[int, float | None]:
        """Return the scores that Label Studio has for a version, by task; of the current round if none is given."""
        stored = self.studio.predictions.stored(version or self.round.model_version)
        scores = {prediction.task: prediction.score for prediction in stored}
        assert len(scores) == len(stored), "a task has two predictions of one version"
        return scores

    def posted_ever(self, number: int) -> list[int]:
        """Return the tasks whose prediction of a round was sent, reserve among them."""
        return [ask.task_id for ask in self.store.of(self.id).rounds.asks(number, states=[AskState.POSTED])]

    def answer(self, most: int = 1000, wanted: Callable[[int], bool] = lambda task: True) -> list[int]:
        """Label what the stream serves, by the truth, while it serves tasks of the queue; return them in order."""
        answered: list[int] = []
        while len(answered) < most:
            queue = set(self.posted())
            task = self.person.next_task(self.studio.id)
            if task is None or task.id not in queue or not wanted(task.id):
                break
            self.person.annotate(task.id, self.answer_of(self.truth[task.id]))
            answered.append(task.id)
        return answered

    def label(self, tasks: Sequence[int]) -> None:
        """Label these tasks by the truth, in whatever order."""
        for task in tasks:
            self.person.annotate(task, self.answer_of(self.truth[task]))

    def predicted(self, task: int, version: str) -> list[dict[str, Any]]:
        """Return the regions of a task's predictions of a model version."""
        stored = self.server.projects[self.studio.id].tasks[task].predictions
        return [region for one in stored if one.model_version == version for region in one.result]

    def label_the_rest(self, images: int) -> list[int]:
        """Have the first model label images without an answer, and return the tasks that got a prediction."""
        project = open_project(self.context, self.id)
        predictions = open_predictions(project.store, project.files)
        assert predictions is not None
        temperature = predictions.temperature.value
        project.store.autolabel.order(number=0, confidence=0.0, temperature=temperature, images=images, errors=0.0)
        self.run()
        labeled = [one.task for one in self.studio.predictions.stored("pt4al-final-r000")]
        assert len(labeled) == project.store.autolabel.get().images
        return labeled

    def stored(self, task: int) -> tuple[str, object]:
        """Return a task's answer and target as the store has them."""
        row = self._task(task)
        return row.answer, row.target

    def state_of(self, task: int) -> str:
        """Return the state of a task's image as the store has it."""
        return self._task(task).state

    def _task(self, task: int) -> TaskRow:
        with self.store.read() as session:
            return session.get_one(TaskRow, (self.id, task))

    def requests(self, part: str) -> int:
        """Count the backend's requests whose name has this part."""
        return sum(part in request for request in self.server.requests)


def shorten_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the real networks train for few steps."""
    main, pretext = recipes.RECIPES, pretext_run.PRETEXT_RECIPES
    monkeypatch.setitem(main, "auto", replace(main["auto"], steps=6, recalibrate=32))
    monkeypatch.setitem(pretext, "auto", replace(pretext["auto"], tiny_epochs=1))
