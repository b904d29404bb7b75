"""A project's condition, read from the store alone."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from backend.config import ProjectConfig
from backend.errors import ConfigError, ProjectError
from backend.labeling.base import Labeling
from backend.labeling.project import config_of, labeling_of
from backend.loop.decide import MIN_IMAGES, Stage, is_stuck, stage
from backend.loop.facts import Facts, JobKind, gather
from backend.loop.steps.bank import bank_ranges
from backend.project_files import Files, full_disk
from backend.status.forecast_text import NextRound, forecast_of, next_round_text
from backend.status.image_ranges import ranges_text
from backend.status.learner_text import encoder_notice
from backend.status.left_out import left_out
from backend.status.measured import Measured, Metric, measured, metric_of
from backend.status.pretext_training import PretextTraining, read_training
from backend.status.twins import TwinCounts, read_twins
from backend.store import JobRow, JobState, ProjectRow, ProjectStore, RoundRow, RoundState, Store
from backend.store.jobs import is_alive
from backend.store.rounds import AskCounts
from backend.store.task_answers import Reason
from backend.store.task_counts import TaskCounts
from model.data.ranges import Ranges
from model.evaluation.forecast import GainForecast
from model.problems.single_label import SingleLabel

NO_TASKS = "The project has no tasks yet: import images into it, and the work begins by itself."

JOB_OF_STAGE = {
    Stage.SYNCING: JobKind.SYNC,
    Stage.PRETEXT: JobKind.PRETEXT,
    Stage.RECORDING: JobKind.RECORD,
    Stage.TRAINING: JobKind.RETRAIN,
}


@dataclass(frozen=True)
class Status:
    """A project's condition, as read in one go."""

    project: ProjectRow
    config: ProjectConfig
    tasks: TaskCounts
    rounds: list[RoundRow]
    asks: AskCounts
    task_ids: list[int]
    jobs: list[JobRow]
    facts: Facts
    first_broken: str | None = None  # why the first of the quarantined images is there
    full_disk: str | None = None  # where nothing could be noted
    two_targets: bool = True  # whether the newest model has learned to tell anything apart
    useless: Mapping[Reason, int] = field(default_factory=dict)  # the answers of a round that none can be learned of
    name: str = ""  # of the project in addresses, see ``Projects.named``
    twins: TwinCounts | None = None  # how many images are equal or look alike, as far as it is known
    pretext: PretextTraining | None = None  # of the network that the losses are from
    ranges: Ranges | None = None  # what is black and white in pictures of more than 8 bits

    @property
    def current(self) -> RoundRow | None:
        """The newest round."""
        return self.rounds[-1] if self.rounds else None

    @property
    def live(self) -> RoundRow | None:
        """The round that Label Studio serves."""
        served = [row for row in self.rounds if row.live_at is not None]
        return served[-1] if served else None

    @property
    def running(self) -> dict[str, JobRow]:
        """Jobs at work or waiting for a worker, by kind."""
        now = time.time()
        return {job.kind: job for job in self.jobs if is_alive(job, now)}

    @property
    def error(self) -> str | None:
        """What is wrong, in words that a person can act on."""
        if self.full_disk or self.project.error:
            return ". ".join(filter(None, (self.full_disk, self.project.error)))
        for job in self.jobs:
            if job.state == JobState.FAILED:
                return f"{job.kind} failed {job.failures} time(s) and will be tried again: {job.error}"
        if self.tasks.tasks == 0:
            return NO_TASKS
        if self.tasks.ok < MIN_IMAGES and self.tasks.new == 0 and JobKind.SYNC not in self.running:
            return (
                f"Of {self.tasks.tasks} task(s) {self.tasks.ok} have a usable image, and at least {MIN_IMAGES} are "
                f"needed. The first one without: {self.first_broken or 'its image is still being tried'}."
            )
        return self._stuck

    @property
    def _stuck(self) -> str | None:
        """Why no model is trained although the round is answered; None where one is, or people still answer."""
        if self.live is None or not self.useless:
            return None
        question = f"'{self.labeling.control}'" if self.labeling is not None else "the question"
        return (
            f"Round {self.live.number + 1} is answered, and no answer to {question} can be learned: "
            f"{left_out(self.useless)}. The next round begins with the first answer that can."
        )

    @property
    def notice(self) -> str | None:
        """What people should know, although nothing is wrong."""
        broken = f"{self.tasks.broken} image(s) could not be used and are set aside." if self.tasks.broken else None
        alike = None if self.two_targets else "All labels so far are the same: there is nothing to tell apart yet."
        place = self.project.place_text if self.project.place_text != self.project.error else None
        parts = (
            place,
            self.project.notice,
            self.project.put_back,
            broken,
            ranges_text(self.ranges or {}),
            alike,
            encoder_notice(self.config),
        )
        return " ".join(filter(None, parts)) or None

    @property
    def round_of(self) -> str | None:
        """The round that is served, in words: "2 of 10"; None before the first."""
        if self.live is None:
            return None
        number, last = self.live.number + 1, self.config.rounds
        if self.done:
            return f"{number}, the last"
        return f"{number} of {last}" if number <= last else f"{number}, after the last batch"

    @property
    def answered(self) -> int:
        """Answers of the round that is served, up to what it asks for."""
        return min(self.asks.answered, self.live.asked) if self.live else 0

    @property
    def ahead(self) -> int:
        """Answers beyond that: people go on while a model trains, with what the next round may ask."""
        return max(self.asks.answered - self.live.asked, 0) if self.live else 0

    @property
    def done(self) -> bool:
        """Whether every image is answered and learned from, so that nothing is left to ask."""
        closed = self.current is not None and self.current.state == RoundState.CLOSED
        return closed and self.tasks.available == 0

    @property
    def finished(self) -> bool:
        """Whether all batches are asked; rounds of what is left follow, unless it is also ``done``."""
        return self.facts.finished

    @cached_property
    def labeling(self) -> Labeling | None:
        """How answers are read; None while the label configuration, or what is configured, cannot be read."""
        try:
            return labeling_of(self.project)
        except (ConfigError, ProjectError):
            return None

    @property
    def problem(self) -> str:
        """What is predicted: what the label configuration asks for, else what the newest model predicts."""
        if self.labeling is not None:
            return self.labeling.problem
        return next((row.problem for row in reversed(self.rounds) if row.has_model), SingleLabel.name)

    @property
    def metric(self) -> Metric:
        """The headline number of the problem."""
        return metric_of(self.problem)

    @property
    def models(self) -> list[RoundRow]:
        """Rounds with a model of the problem: those of another one are not compared with them."""
        return [row for row in self.rounds if row.has_model and row.problem == self.problem]

    @property
    def newest_model(self) -> RoundRow | None:
        """The newest round with a model, if that predicts what the project asks for."""
        trained = [row for row in self.rounds if row.has_model]
        return trained[-1] if trained and trained[-1].problem == self.problem else None

    @property
    def measured(self) -> tuple[RoundRow, Measured] | None:
        """The newest round whose model was measured, and its quality; None while there is none."""
        rows = [row for row in self.models if row.holdout_size]
        return (rows[-1], measured(rows[-1])) if rows else None

    @cached_property
    def forecast(self) -> GainForecast | None:
        """What another round as large as the configured ones would add; None while nothing can be said."""
        if not self.two_targets:
            return None  # a model that knows one answer is right as long as nobody gives another one
        labels = min(self.config.labels_of_round(self.tasks.ok), self.tasks.available)
        return forecast_of(self.models, labels)

    @property
    def next_round(self) -> NextRound:
        """What another round as large as the configured ones costs and measures."""
        labels = self.config.labels_of_round(self.tasks.ok)
        random = self.config.holdout_of_round(labels)
        held = next((row.holdout_size or 0 for row in reversed(self.models)), 0)
        return NextRound(min(labels + random, self.tasks.available), random, held)

    @property
    def next_round_text(self) -> str | None:
        """What another round would add, as two sentences; None while nothing can be said."""
        return next_round_text(self.forecast, self.next_round, self.metric) if self.forecast else None

    @property
    def stage(self) -> Stage:
        """What the project is doing, as the table of decisions has it, unless it stands still with an error."""
        if not self.running and self.error and self.error != NO_TASKS:
            return Stage.FAILED
        return stage(self.facts)

    @property
    def working(self) -> JobRow | None:
        """The job of the running step."""
        return self.running.get(JOB_OF_STAGE.get(self.stage, ""))

    @property
    def progress(self) -> float | None:
        """The share of the running step that is done, 0 to 1."""
        return round(self.working.progress, 3) if self.working else None

    @property
    def waits(self) -> bool:
        """Whether the running step has not begun, because no worker is free for it yet."""
        return self.working is not None and self.working.state == JobState.QUEUED


def read_status(store: Store, project: ProjectRow) -> Status:
    """Read a project's status from the store alone."""
    try:
        config = config_of(project)
    except ConfigError:  # the status says why
        config = ProjectConfig()
    rounds = store.of(project.id).rounds.all()
    served = [row for row in rounds if row.live_at is not None]
    live = served[-1] if served else None
    files = Files.of(store.data_dir, project.id)
    facts = gather(store.of(project.id), files, config)
    return Status(
        project=project,
        config=config,
        tasks=store.of(project.id).tasks.counts(time.time()),
        rounds=rounds,
        asks=store.of(project.id).rounds.counts(live.number) if live else AskCounts(),
        task_ids=[ask.task_id for ask in store.of(project.id).rounds.queue(live.number)] if live else [],
        jobs=store.of(project.id).jobs.all(),
        facts=facts,
        first_broken=next((reason for _, reason in store.of(project.id).tasks.broken(1)), None),
        useless=store.of(project.id).rounds.answers(live.number) if live and is_stuck(facts) else {},
        full_disk=full_disk(store.data_dir),
        two_targets=_two_targets(store.of(project.id), rounds),
        name=store.projects.name_of(project),
        twins=read_twins(files),
        pretext=read_training(files, project.pretext_key),
        ranges=bank_ranges(store.of(project.id), files),
    )


def _two_targets(store: ProjectStore, rounds: list[RoundRow]) -> bool:
    """Return whether the labels of the newest model differ, those before the round that it has planned."""
    newest = max((row.number for row in rounds if row.has_model), default=None)
    if newest is None:
        return True
    later = [row.live_at for row in rounds if row.number > newest and row.live_at is not None]
    return store.dashboard.has_two_targets(min(later, default=time.time() + 1))
