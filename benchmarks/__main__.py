"""``python -m benchmarks``: one table, ``benchmarks/results.json``, and exit status 1 if a budget is missed."""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from pydantic import SecretStr
from rich.console import Console

from backend.config import Settings
from backend.demo import servers
from backend.demo.annotator import Annotator
from backend.store import Store
from benchmarks import demo, growth, machines, notebook, pretext, readme, recording, turnaround, warm, web
from benchmarks.measure import Log, Measure, limit, print_table, write
from benchmarks.ports import free_port

RESULTS = Path(__file__).with_name("results.json")
PARTS = ("demo", "turnaround", "notebook", "pretext", "warm", "growth", "recording", "machines")
STARTUP_S = 2.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    given = _parser().parse_args(arguments)
    console = Console(width=200 if not sys.stdout.isatty() else None)
    started = time.perf_counter()

    def log(line: str) -> None:
        console.print(f"[dim]{time.perf_counter() - started:5.0f} s[/]  {line}", highlight=False)

    runs: dict[str, Callable[[Log], list[Measure]]] = {
        "demo": demo.run,
        "turnaround": lambda log: _turnaround(log, full=given.full),
        "notebook": notebook.run,
        "pretext": lambda log: pretext.run(log, full=given.full),
        "warm": warm.run,
        "growth": lambda log: growth.run(log, full=given.full),
        "recording": _recording,
        "machines": machines.run,
    }
    measures = []
    for name in given.only or PARTS:
        begun = time.perf_counter()
        found = runs[name](log)
        write(RESULTS, name, found, time.perf_counter() - begun)
        measures += found
    print_table(measures, console)
    readme.update(RESULTS, PARTS)
    missed = [one.what for one in measures if not one.met]
    for what in missed:
        console.print(f"[red]budget missed:[/] {what}")
    return 1 if missed else 0


def _turnaround(log: Log, *, full: bool) -> list[Measure]:
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        startup = web.startup_seconds(free_port(), str(folder / "startup"))
        studio = stack.enter_context(servers.label_studio(folder, free_port()))
        backend = stack.enter_context(servers.backend(folder, free_port(), ALLOWED_IMAGE_HOSTS="127.0.0.1"))
        studio.wait(lambda: None)
        backend.wait(lambda: None)
        person = Annotator(studio.url, servers.EMAIL, servers.PASSWORD)
        settings = Settings(data_dir=folder / "backend")
        store = stack.enter_context(closing(Store(settings.database, settings.data_dir)))
        return [
            limit("start of the web process to its first answer", "s", startup, STARTUP_S),
            *turnaround.run(person, backend.url, store, log, full=full),
        ]


def _recording(log: Log) -> list[Measure]:
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        studio = stack.enter_context(servers.label_studio(folder, free_port()))
        backend = stack.enter_context(servers.backend(folder, free_port()))
        studio.wait(lambda: None)
        backend.wait(lambda: None)
        person = Annotator(studio.url, servers.EMAIL, servers.PASSWORD)
        settings = Settings(
            label_studio_url=studio.url,
            redis_url=SecretStr((folder / "backend" / "redis" / "url").read_text().strip()),
            data_dir=folder / "store",
        )
        return recording.run(person, person.create_access_token(), settings, log)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure speeds as ratios, in one run.")
    parser.add_argument(
        "--full", action="store_true", help="also 50,000 photos, a million images, ResNet-18 (half an hour more)"
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, help="some of them; the results of the others stay")
    return parser


if __name__ == "__main__":
    sys.exit(main())
