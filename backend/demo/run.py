"""The demo from start to end, and what it prints."""

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from backend.config import Settings
from backend.demo.annotator import FILES, Annotator
from backend.demo.labeling import Labeling, Round
from backend.demo.sample_images import DemoImages, digits, folder_images
from backend.demo.servers import EMAIL, PASSWORD, ROOT, Server, backend, label_studio
from backend.demo.steps import show_steps
from backend.errors import BackendError, ConfigError
from backend.file_locks import try_lock
from backend.server.preflight import check_port
from backend.status.measured import FEW_RANDOM
from model.data.atomic_files import write_atomically

FOLDER = ROOT / "demo-data"
EXIT_FOLDER = ROOT / "demo-data-exit"  # of runs that end by themselves: they never touch what a person has labeled
MARK = ".demo"  # in a folder that the demo may empty
KEPT = "kept.json"  # in a folder whose demo stayed up for a person to go on
DIGITS = "digits"
LS_PORT = 8080
ROUNDS = 3
YES = {"1", "true", "yes", "on"}


@dataclass
class Outcome:
    """What the last line says."""

    tasks: int = 0
    recorded: int = 0
    rounds: list[Round] = field(default_factory=list)
    ok: bool = False

    def as_json(self) -> str:
        """Return one line of JSON."""
        shown = [field.name for field in fields(Round) if field.name not in {"interval", "holdout"}]
        rounds = [{name: value for name, value in asdict(result).items() if name in shown} for result in self.rounds]
        return json.dumps({**asdict(self), "rounds": rounds})


@dataclass(frozen=True)
class Kept:
    """A demo that stayed up for a person: what has to be the same for another run to go on with it."""

    data: str
    ls_port: int
    port: int
    project: int = 0

    def write(self, folder: Path) -> None:
        """Note it in the demo's folder."""
        write_atomically(folder / KEPT, json.dumps(asdict(self)).encode())

    def project_in(self, folder: Path) -> int | None:
        """Return the project of the demo that was kept in a folder, to go on with it; None if there is none.

        Raises:
            ConfigError: it is of other images, or on other ports, or nobody can tell.
        """
        try:
            kept = Kept(**json.loads((folder / KEPT).read_text()))
            usable = isinstance(kept.project, int) and kept.project > 0
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigError(
                f"{folder / KEPT} cannot be read ({error.strerror}): fix that, and run it again"
            ) from None
        except (ValueError, TypeError):
            usable = False
        if not usable:
            raise ConfigError(
                f"{folder / KEPT} is damaged, so that the demo cannot go on with what was labeled there: begin anew "
                "with FRESH=1, or set DEMO_DIR to another folder"
            )
        if replace(kept, project=0) != self:
            raise ConfigError(
                f"{folder} holds a demo of {kept.data} with LS_PORT={kept.ls_port} and PORT={kept.port}, and what "
                "was labeled in it: begin anew with FRESH=1, or set DEMO_DIR to another folder"
            )
        return kept.project


def demo(settings: Settings) -> int:
    """Run the demo, or go on with the one that was kept; return the exit code."""
    images = _images()
    ls_port = _port("LS_PORT", LS_PORT)
    exits, fresh = _flag("EXIT"), _flag("FRESH")
    check_port("0.0.0.0", ls_port, "LS_PORT")
    check_port("0.0.0.0", settings.port)
    folder = Path(os.environ.get("DEMO_DIR") or (EXIT_FOLDER if exits else FOLDER)).resolve()
    wanted = Kept(_data() or DIGITS, ls_port, settings.port)
    project = None if fresh else wanted.project_in(folder)
    if project is not None and exits:
        raise ConfigError(f"{folder} holds what was labeled in a demo: EXIT=1 begins anew, which needs FRESH=1 as well")
    console = Console(highlight=False)
    outcome = Outcome()
    # A shell that starts us in the background has Ctrl-C ignored, and Python then leaves it so.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        with _own_folder(folder, keep=project is not None), ExitStack() as stack:
            studio = stack.enter_context(label_studio(folder, ls_port))
            model = stack.enter_context(backend(folder, settings.port))
            run = _Demo(console, images, studio, model, outcome)
            if project is None:
                project = run.run(wait_for_losses=exits)
            else:
                run.go_on(project)
            if not exits:
                replace(wanted, project=project).write(folder)
                _stay_up([studio, model], folder)
    except BackendError as error:
        console.print(f"The demo failed: {error}", markup=False)
    if exits:
        print(outcome.as_json(), flush=True)
    return 0 if outcome.ok else 1


class _Demo:
    """One run on two servers that were just started."""

    def __init__(self, console: Console, images: DemoImages, studio: Server, model: Server, outcome: Outcome) -> None:
        self.console, self.images, self.studio, self.model, self.outcome = console, images, studio, model, outcome

    def go_on(self, project: int) -> None:
        """Start the servers over what an earlier run has left."""
        with self._progress() as progress:
            self._start(progress)
        self.console.print("This is the demo of the last time, with all that was labeled. FRESH=1 begins anew.")
        self._print_addresses(project)
        self.outcome.ok = True

    def run(self, *, wait_for_losses: bool) -> int:
        """Label three rounds, and wait until all losses are recorded if asked to; return the project.

        They are recorded behind the queue: a demo that stays up is at its end once the rounds are labeled.
        """
        with self._progress() as progress:
            self._start(progress)
            person = Annotator(self.studio.url, EMAIL, PASSWORD)
            project = self._upload(progress, person)
            labeling = self._connect(progress, person, project)
            if self.images.truth is not None:
                for number in range(ROUNDS):
                    self._round(progress, labeling, number)
        self._print_end(project)
        if wait_for_losses:
            with self._progress() as progress:
                self._record(progress, labeling)
        self.outcome.ok = all(
            result.queue_share == 1.0 and result.holdout_accuracy is not None for result in self.outcome.rounds
        ) and (not wait_for_losses or self.outcome.recorded == self.outcome.tasks)
        return project

    def _start(self, progress: Progress) -> None:
        bar = progress.add_task("Start Label Studio and the backend", total=2)
        for server in (self.model, self.studio):
            server.wait(lambda: None)
            progress.advance(bar)

    def _upload(self, progress: Progress, person: Annotator) -> int:
        project = person.create_project("PT4AL demo", self.images.label_config)
        bar = progress.add_task(f"Upload {self.images.count:,} images", total=self.images.count)
        for start in range(0, self.images.count, FILES):
            self.outcome.tasks += person.upload_images(project, self.images.files(start, start + FILES))
            progress.update(bar, completed=min(start + FILES, self.images.count))
        return project

    def _connect(self, progress: Progress, person: Annotator, project: int) -> Labeling:
        started = time.monotonic()
        person.connect_backend(project, self.model.url)
        labeling = Labeling(person, project, self.model.url, self.images)
        bar = progress.add_task(f"Connect {self.model.url}", total=1.0)
        labeling.wait_for_queue(0, self._stages(progress, bar))
        seconds = time.monotonic() - started
        progress.update(bar, completed=1.0, description=f"First queue {seconds:.0f} s after connecting")
        return labeling

    def _round(self, progress: Progress, labeling: Labeling, number: int) -> None:
        bar = progress.add_task(f"Round {number + 1}: label", total=1.0)

        def tick(status: dict[str, Any]) -> None:
            if "answered" in status:
                progress.update(bar, completed=0.5 * status["answered"] / status["size"])
            elif status.get("stage") == "training":
                done = 0.5 + 0.5 * (status["progress"] or 0)
                progress.update(bar, completed=done, description=f"Round {number + 1}: train")

        result = labeling.label_round(number, tick)
        self.outcome.rounds.append(result)
        progress.update(bar, completed=1.0, description=f"Round {number + 1}: {result.labels} labels")

    def _record(self, progress: Progress, labeling: Labeling) -> None:
        bar = progress.add_task("Record the losses in Label Studio", total=self.outcome.tasks)
        self.outcome.recorded = labeling.wait_until_recorded(
            self.outcome.tasks, lambda count: progress.update(bar, completed=count)
        )
        progress.update(bar, completed=self.outcome.recorded)

    def _stages(self, progress: Progress, bar: Any) -> Callable[[dict[str, Any]], None]:
        def tick(status: dict[str, Any]) -> None:
            for server in (self.model, self.studio):
                server.check()
            stage, done = status.get("stage"), status.get("progress")
            if stage:
                text = status["error"] or {"syncing": "Fetch the images", "pretext": "Train the pretext task"}.get(
                    stage, stage.capitalize()
                )
                progress.update(bar, description=text, completed=done or 0.0)

        return tick

    def _progress(self) -> Progress:
        return show_steps(self.console)

    def _print_end(self, project: int) -> None:
        if self.outcome.rounds:
            self.console.print(_table(self.outcome.rounds))
        else:
            self.console.print(
                "The first queue is live: label it in Label Studio. The choices of this project stand for"
            )
            self.console.print("your classes: change them first, under Settings > Labeling Interface.")
        self._print_addresses(project)

    def _print_addresses(self, project: int) -> None:
        self.console.print(
            f"Label Studio  {self.studio.url}/projects/{project}/data\n"
            f"  log in as   {EMAIL}, password {PASSWORD}\n"
            f"Dashboard     {self.model.url}/projects/{project}\n"
            f"Status        {self.model.url}/api/projects/{project}\n"
            f"Logs          {self.studio.log}, {self.model.log}",
            markup=False,
            soft_wrap=True,
        )


def _table(rounds: list[Round]) -> Table:
    table = Table(title="What three rounds of labels gave", title_justify="left")
    for heading in ("round", "labels", "accuracy", "95% interval", "from queue", "next queue"):
        table.add_column(heading, justify="right")
    for result in rounds:
        low, high = result.interval
        table.add_row(
            str(result.round + 1),
            str(result.labels),
            _accuracy(result),
            f"{low:.0%} to {high:.0%}",
            f"{result.queue_share:.0%}",
            f"{result.turnaround_s:.1f} s",
        )
    return table


def _accuracy(result: Round) -> str:
    right, size = result.holdout
    if size < FEW_RANDOM:
        return f"{right} of {size} right" if size else "-"
    return f"{right / size:.0%}"


def _stay_up(servers: list[Server], folder: Path) -> None:
    print(
        "Losses and batches are still being recorded: the tab 'PT4AL queue' of the Data Manager shows them.\n"
        f"Go on labeling; Ctrl-C ends the demo. Your labels stay in {folder}:\n"
        "'make demo' goes on with them, and 'make demo FRESH=1' throws them away and begins anew.",
        flush=True,
    )
    try:
        while True:
            for server in servers:
                server.check()
            time.sleep(1)
    except KeyboardInterrupt:
        print("\nEnding.", flush=True)


def _images() -> DemoImages:
    data = _data()
    return folder_images(Path(data)) if data else digits()


def _data() -> str | None:
    """Return the folder of the images, or None for the digits."""
    data = os.environ.get("DATA", "").strip()
    return str(Path(data).expanduser().resolve()) if data else None


def _flag(name: str) -> bool:
    return os.environ.get(name, "").strip().lower() in YES


def _port(name: str, default: int) -> int:
    text = os.environ.get(name, "").strip() or str(default)
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise ConfigError(f"{name}: '{text}' is not a port")
    return int(text)


@contextmanager
def _own_folder(folder: Path, *, keep: bool = False) -> Iterator[None]:
    """Hold the demo's folder, and empty it unless what lies in it is to be kept.

    Raises:
        ConfigError: it holds something else, or another demo runs in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / MARK
    if not mark.exists() and any(folder.iterdir()):
        raise ConfigError(
            f"{folder} is not empty and not of an earlier demo: remove it, or set DEMO_DIR to another one"
        )
    lock = try_lock(mark)
    if lock is None:
        raise ConfigError(f"another demo runs in {folder}: end it first")
    try:
        for path in folder.iterdir() if not keep else ():
            if path.is_dir():
                shutil.rmtree(path)
            elif path != mark:
                path.unlink()
        yield
    finally:
        lock.release()
