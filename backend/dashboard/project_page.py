"""One project as the pages and figures see it: read once a request, slow parts cached by version."""

import hashlib
import time
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from functools import cached_property
from math import inf
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from backend.project_files import Files
from backend.status.learner_text import learner_text
from backend.status.measured import Measured, measured
from backend.status.predictions import MODEL_PARTS, PoolPredictions, predictions_version
from backend.status.query_error_rate import error_rate_difference
from backend.status.status import Status, read_status
from backend.status.summary import as_json, asked_in_full
from backend.store import JobState, ProjectRow, RoundRow
from backend.store.dashboard_queries import AskedQuality, AskedTarget, LossTable, QueuedImage
from backend.store.jobs import is_alive
from backend.web.cache import cache_of, pool_predictions
from backend.web.services import Services
from model.data.bank import ImageBank
from model.data.features import FeatureBank
from model.errors import BankError
from model.problems import Problem, problem
from model.problems.base import Target
from model.querying.outputs import FloatArray

T = TypeVar("T")

MIN_MAPPED = 3  # images that lie in a plane
MANY_IMAGES = 200_000  # figures of more are drawn from a part of them
BUDGET_S = 1.0  # for which a page compares images of the holdout
# Figures that show something once there is a model and a labeled holdout.
OF_HOLDOUT = (
    "confusion", "classes", "pixels", "pixel_confusion", "boxes", "box_curves", "box_sizes", "reliability", "worst",
)  # fmt: skip


class Entry(NamedTuple):
    """A round with a model, and how good the model is."""

    row: RoundRow
    quality: Measured


@dataclass(frozen=True, eq=True)
class HoldoutVersion:
    """What a value of the holdout depends on: the model, and the labeled images with their targets."""

    model: Hashable
    held: list[int]
    targets: list[Target]


class ProjectPage:
    """What the pages show of one project."""

    def __init__(self, services: Services, project: ProjectRow) -> None:
        """Show ``project``."""
        self.services = services
        self.project = project
        self._cache = cache_of(services.store)
        self._until = time.monotonic() + BUDGET_S

    @cached_property
    def status(self) -> Status:
        """The project's condition."""
        return read_status(self.services.store, self.project)

    @cached_property
    def data(self) -> dict[str, Any]:
        """The condition in the form that scripts get as well."""
        return as_json(self.status, error_rate_difference(self.asked_in_full))

    @cached_property
    def version(self) -> str:
        """A text that changes whenever the figures may change."""
        status, project = self.status, self.project
        rounds = [(row.number, row.state, row.has_model, row.labels, row.holdout_quality) for row in status.rounds]
        parts = (
            project.id,
            status.problem,
            self.pool_version,
            status.tasks.answered,
            status.tasks.labeled,
            status.asks,
            rounds,
        )
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]

    @property
    def problem(self) -> Problem:
        """What is predicted."""
        return problem(self.status.problem)

    @property
    def history(self) -> list[Entry]:
        """The rounds with a model of the problem."""
        return [Entry(row, measured(row)) for row in self.status.models]

    @property
    def title(self) -> str:
        """What people call the project."""
        return self.project.title or f"Project {self.project.studio_project_id}"

    @property
    def studio(self) -> str:
        """The address of the project's tasks in Label Studio, as people reach it."""
        return f"{self.project.hostname or self.project.server}/projects/{self.project.studio_project_id}/data"

    @cached_property
    def siblings(self) -> list[tuple[str, ProjectRow]]:
        """The same project on other servers that has a history: its name and row; none while this one rests."""
        projects = self.services.store.projects
        rows = projects.siblings(self.project) if self.project.active else []
        return [(projects.name_of(row), row) for row in rows if projects.has_rounds(row.id)]

    @property
    def waiting(self) -> str | None:
        """What the running step waits for; None when it runs."""
        if not self.status.waits:
            return None
        store, now = self.services.store, time.time()
        jobs = (job for row in store.projects.all() if row.id != self.project.id for job in store.of(row.id).jobs.all())
        busy = any(job.state == JobState.RUNNING and is_alive(job, now) for job in jobs)
        return "waiting for another project's work" if busy else "waiting for a free worker"

    @property
    def filled(self) -> set[str]:
        """The parts of the page that have anything to show; a new project has hardly any."""
        tasks, history = self.status.tasks, self.data["history"]
        asked = any(row.images for row in self.asked_qualities)
        parts = {
            "curve": self.status.measured is not None,
            "use_model": self.status.newest_model is not None,
            "queue": self.status.live is not None,
            "losses": tasks.ok > tasks.unscored,
            "balance": asked,
            **dict.fromkeys(OF_HOLDOUT, self.held is not None),
            "map": self.project.image_side is not None and tasks.ok >= MIN_MAPPED,
            "rounds": bool(history) or asked,
            "broken": tasks.broken > 0,
        }
        return {name for name, shown in parts.items() if shown}

    @property
    def pool_version(self) -> tuple[Hashable, ...]:
        """What the losses and batches depend on."""
        project, tasks = self.project, self.status.tasks
        return project.pretext_key, project.split_key, project.image_side, tasks.ok, tasks.unscored, tasks.unsplit

    @property
    def files(self) -> Files:
        """The project's files."""
        return Files.of(self.services.settings.data_dir, self.project.id)

    @property
    def model(self) -> RoundRow | None:
        """The newest round with a model, if that predicts what the project asks for."""
        return self.status.newest_model

    def asked_targets(self) -> Iterable[AskedTarget]:
        """Return the answered images by round, role and target; one by one where hardly two targets are equal."""
        dashboard = self.services.store.of(self.project.id).dashboard
        return dashboard.asked_targets() if self.problem.overlay is None else dashboard.each_asked_target()

    @property
    def left_out(self) -> tuple[int, int]:
        """How many objects annotators do not agree on, and on how many images; none where answers have no objects."""
        dashboard = self.services.store.of(self.project.id).dashboard
        return dashboard.left_out() if self.problem.overlay is not None else (0, 0)

    @cached_property
    def asked_qualities(self) -> list[AskedQuality]:
        """Return the answered images by round and role, with the quality of the predictions for them."""
        dashboard = self.services.store.of(self.project.id).dashboard
        return self.keep("asked qualities", self.version, dashboard.asked_qualities)

    @property
    def asked_in_full(self) -> list[AskedQuality]:
        """Return the same of closed rounds only."""
        return asked_in_full(self.status, self.asked_qualities)

    @cached_property
    def losses(self) -> LossTable:
        """Losses and batches of the pool, or of every ``step``-th image of a very large one."""
        return self.keep(
            "losses", self.pool_version, lambda: self.services.store.of(self.project.id).dashboard.losses(self.step)
        )

    @property
    def step(self) -> int:
        """The number of images of the pool for each of ``losses``."""
        return 1 + self.status.tasks.ok // MANY_IMAGES

    @cached_property
    def labeled(self) -> NDArray[np.int64]:
        """Pool indices (n,) of the labeled images."""
        return self.keep("labeled", self.version, lambda: self.services.store.of(self.project.id).dashboard.labeled())

    @cached_property
    def predictions(self) -> PoolPredictions | None:
        """What the newest model says of the pool; None without a model of the project's problem."""
        predictions = pool_predictions(self.services, self.project)
        return predictions if predictions is not None and predictions.problem is self.problem else None

    @property
    def held(self) -> PoolPredictions | None:
        """The same where the holdout has labels to compare it with."""
        return self.predictions if self.predictions is not None and len(self.predictions.held) else None

    @cached_property
    def model_version(self) -> Hashable:
        """A value that changes once the newest model, or what it says of any image, does."""
        return predictions_version(self.services.store.of(self.project.id), self.files)[:MODEL_PARTS]

    def compared(self, *, whole: bool = True) -> list[Any]:
        """Return what ``Problem.compared`` says of each image of the holdout, in the order of ``held.held``.

        whole: without it, images that are not compared before the time of a page is over are None, and follow with its
        next look.
        """
        return self.held.compared(inf if whole else self._until) if self.held is not None else []

    @property
    def all_compared(self) -> bool:
        """Whether all images of the holdout are compared, as far as the time of a page allows."""
        return all(value is not None for value in self.compared(whole=False))

    @property
    def held_quality(self) -> FloatArray:
        """How well the newest model's predictions fit the holdout, (h,)."""
        return self.held.held_quality if self.held is not None else np.empty(0)

    def of_holdout(self, name: str, make: Callable[[PoolPredictions], T]) -> T | None:
        """Return a value of the labeled holdout, made anew only for another model or other targets; None without."""
        held = self.held
        if held is None:
            return None
        version = HoldoutVersion(self.model_version, held.held.tolist(), held.targets)
        return self.keep(name, version, lambda: make(held))

    def queue(self, limit: int) -> list[QueuedImage]:
        """Return the next images that annotators get, at most ``limit``."""
        live = self.status.live
        return self.services.store.of(self.project.id).dashboard.queue(live.number, limit) if live else []

    def bank(self) -> ImageBank | None:
        """Return the image bank; None while there is none."""
        if self.project.image_side is None:
            return None
        try:
            return ImageBank.open(self.files.bank(self.project.image_side))
        except BankError:
            return None

    def features(self) -> FeatureBank | None:
        """Return the encoder's features; None while there are none."""
        if self.project.features_key is None:
            return None
        try:
            return FeatureBank.open(self.files.features(self.project.features_key))
        except BankError:
            return None

    @property
    def learner(self) -> str | None:
        """What the newest model is and why, as a sentence."""
        return learner_text(self.status.config, self.model.learner) if self.model is not None else None

    def keep(self, name: str, version: Hashable, make: Callable[[], T]) -> T:
        """Return a value of this project from the cache, or make it."""
        return self._cache.get((self.project.id, name), version, make)
