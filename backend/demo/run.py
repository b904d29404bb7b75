"""The demo from start to end, and what it prints."""

import fcntl
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from backend.config import Settings
from backend.demo.images import DemoImages, digits, folder_images
from backend.demo.labeling import Labeling, Round
from backend.demo.servers import EMAIL, PASSWORD, ROOT, Server, backend, label_studio
from backend.errors import BackendError, ConfigError
from backend.preflight import check_port
from backend.studio.annotator import FILES, Annotator

FOLDER = ROOT / "demo-data"
MARK = ".demo"  # in a folder that the demo may empty
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
        """Give one line of JSON."""
        rounds = [{name: value for name, value in asdict(one).items() if name != "interval"} for one in self.rounds]
        return json.dumps({**asdict(self), "rounds": rounds})


def demo(settings: Settings) -> int:
    """Run the demo; give the exit code."""
    images = _images()
    ls_port = _port("LS_PORT", LS_PORT)
    exits = os.environ.get("EXIT", "").strip().lower() in YES
    check_port("0.0.0.0", ls_port, "LS_PORT")
    check_port("0.0.0.0", settings.port)
    folder = Path(os.environ.get("DEMO_DIR") or FOLDER).resolve()
    console = Console(highlight=False)
    outcome = Outcome()
    # A shell that starts us in the background has Ctrl-C ignored, and Python then leaves it so.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        with _own_folder(folder), ExitStack() as stack:
            studio = stack.enter_context(label_studio(folder, ls_port))
            model = stack.enter_context(backend(folder, settings.port))
            _Demo(console, images, studio, model, outcome).run()
            if not exits:
                _stay_up([studio, model])
    except BackendError as error:
        console.print(f"The demo failed: {error}", markup=False)
    if exits:
        print(outcome.as_json(), flush=True)
    return 0 if outcome.ok else 1


class _Demo:
    """One run on two servers that were just started."""

    def __init__(self, console: Console, images: DemoImages, studio: Server, model: Server, outcome: Outcome) -> None:
        self.console, self.images, self.studio, self.model, self.outcome = console, images, studio, model, outcome

    def run(self) -> None:
        with self._progress() as progress:
            self._start(progress)
            person = Annotator(self.studio.url, EMAIL, PASSWORD)
            project = self._upload(progress, person)
            labeling = self._connect(progress, person, project)
            if self.images.truth is not None:
                for number in range(ROUNDS):
                    self._round(progress, labeling, number)
            self._record(progress, labeling)
        self.outcome.ok = self.outcome.recorded == self.outcome.tasks and all(
            one.queue_share == 1.0 and one.holdout_accuracy is not None for one in self.outcome.rounds
        )
        self._print_end(project)

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
        bar = progress.add_task(f"Round {number}: label", total=1.0)

        def tick(status: dict[str, Any]) -> None:
            if "answered" in status:
                progress.update(bar, completed=0.5 * status["answered"] / status["size"])
            elif status.get("stage") == "training":
                done = 0.5 + 0.5 * (status["progress"] or 0)
                progress.update(bar, completed=done, description=f"Round {number}: train")

        result = labeling.label_round(number, tick)
        self.outcome.rounds.append(result)
        progress.update(bar, completed=1.0, description=f"Round {number}: {result.labels} labels")

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
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
        return Progress(*columns, console=self.console)

    def _print_end(self, project: int) -> None:
        if self.outcome.rounds:
            self.console.print(_table(self.outcome.rounds))
        else:
            self.console.print(
                "The first queue is live: label it in Label Studio. The choices of this project stand for"
            )
            self.console.print("your classes: change them first, under Settings > Labeling Interface.")
        self.console.print(
            f"Label Studio  {self.studio.url}/projects/{project}/data\n"
            f"  log in as   {EMAIL}, password {PASSWORD}\n"
            f"Status        {self.model.url}/api/projects/{project}\n"
            f"Logs          {self.studio.log}, {self.model.log}",
            markup=False,
            soft_wrap=True,
        )


def _table(rounds: list[Round]) -> Table:
    table = Table(title="What three rounds of labels gave", title_justify="left")
    for heading in ("round", "labels", "holdout accuracy", "95% interval", "from queue", "next queue"):
        table.add_column(heading, justify="right")
    for one in rounds:
        accuracy = "-" if one.holdout_accuracy is None else f"{one.holdout_accuracy:.0%}"
        low, high = one.interval
        table.add_row(
            str(one.round),
            str(one.labels),
            accuracy,
            f"{low:.0%} to {high:.0%}",
            f"{one.queue_share:.0%}",
            f"{one.turnaround_s:.1f} s",
        )
    return table


def _stay_up(servers: list[Server]) -> None:
    print("Go on labeling; Ctrl-C ends the demo.", flush=True)
    try:
        while True:
            for server in servers:
                server.check()
            time.sleep(1)
    except KeyboardInterrupt:
        print("\nEnding.", flush=True)


def _images() -> DemoImages:
    data = os.environ.get("DATA", "").strip()
    return folder_images(Path(data).expanduser().resolve()) if data else digits()


def _port(name: str, default: int) -> int:
    text = os.environ.get(name, "").strip() or str(default)
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise ConfigError(f"{name}: '{text}' is not a port")
    return int(text)


@contextmanager
def _own_folder(folder: Path) -> Iterator[None]:
    """Hold the demo's folder and empty it: each demo starts from scratch.

    Raises:
        ConfigError: it holds something else, or another demo runs in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / MARK
    if not mark.exists() and any(folder.iterdir()):
        raise ConfigError(
            f"{folder} is not empty and not of an earlier demo: remove it, or set DEMO_DIR to another one"
        )
    with mark.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(f"another demo runs in {folder}: end it first") from None
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path != mark:
                path.unlink()
        yield
