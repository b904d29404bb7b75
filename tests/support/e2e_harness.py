"""What the end-to-end tests drive: a backend's process tree, and a project with an annotator who knows the truth."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import requests

from backend.demo.annotator import Annotator
from backend.store import Store

REPOSITORY = Path(__file__).parents[2]
CONFIG = (
    '<View><Image name="image" value="$image"/><Choices name="digit" toName="image">'
    + "".join(f'<Choice value="{digit}"/>' for digit in range(10))
    + "</Choices></View>"
)
PATIENCE_S = 120.0


def wait_for(what: str, test: Callable[[], Any], timeout_s: float = PATIENCE_S, pause_s: float = 0.2) -> Any:
    """Return the first true value of ``test``; fail, saying what was awaited, after ``timeout_s``."""
    deadline = time.monotonic() + timeout_s
    last: Any = None
    while time.monotonic() < deadline:
        last = test()
        if last:
            return last
        time.sleep(pause_s)
    raise AssertionError(f"waited {timeout_s:.0f} s for {what}; last seen: {last!r}")


class Backend:
    """``python -m backend serve`` in a process tree of its own."""

    def __init__(self, data_dir: Path, port: int, **env: str) -> None:
        self.data_dir, self.port, self.env = data_dir, port, env
        self.url = f"http://localhost:{port}"
        self.log = data_dir.with_suffix(".log")
        self.before: list[str] = []  # a command that runs the rest as its own
        self.process: subprocess.Popen[bytes] | None = None

    def store(self) -> Store:
        """Its database, to be closed."""
        return Store(self.env.get("DATABASE_URL") or f"sqlite:///{self.data_dir / 'pt4al.sqlite3'}", self.data_dir)

    def start(self) -> None:
        self._share_encoders()
        clean = {name: value for name, value in os.environ.items() if name not in {"REDIS_URL", "DATABASE_URL"}}
        before = self._times_ready()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(*self.before, sys.executable, "-m", "backend", "serve"),
                    *("--port", str(self.port), "--data-dir", str(self.data_dir)),
                ],
                cwd=REPOSITORY,
                env={**clean, **self.env},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_for("the backend to say that it is ready", lambda: self._times_ready() > before)
        wait_for("the backend's /health", self.healthy)

    def _share_encoders(self) -> None:
        """Have the networks of encoders prepared once for all tests, which takes seconds each."""
        shared, own = REPOSITORY / ".pytest_cache" / "encoders", self.data_dir / "encoders"
        if not own.exists():
            for folder in (shared, self.data_dir):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            own.symlink_to(shared)

    def _times_ready(self) -> int:
        said = self.log.read_text(errors="replace") if self.log.exists() else ""
        return said.count("ready: connect ")

    def healthy(self) -> bool:
        try:
            return requests.get(f"{self.url}/health", timeout=2).ok
        except requests.RequestException:
            return False

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(PATIENCE_S)

    def end(self) -> None:
        """Stop it if it still runs."""
        if self.process is not None and self.process.poll() is None:
            self.stop()

    def kill(self) -> None:
        """Pull the plug: every process of the tree dies at once."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE_S)
        wait_for("the port to be free", lambda: not self.healthy())

    def get(self, path: str) -> Any:
        try:
            answer = requests.get(self.url + path, timeout=10)
        except requests.RequestException:  # it is being killed, or starts
            return {}
        return answer.json() if answer.ok else {}

    def status(self, project: int) -> dict[str, Any]:
        """The project's status; empty if the backend does not know it."""
        found: dict[str, Any] = self.get(f"/api/projects/{project}")
        return found

    def wait(
        self, project: int, what: str, test: Callable[[dict[str, Any]], Any], timeout_s: float = PATIENCE_S
    ) -> Any:
        """Wait until the project's status passes ``test``; give that status."""

        def look() -> Any:
            status = self.status(project)
            return status if status and test(status) else None

        try:
            return wait_for(what, look, timeout_s)
        except AssertionError as error:
            raise AssertionError(f"{error}; status: {self.status(project)}") from None

    def wait_round(self, project: int, number: int, timeout_s: float = PATIENCE_S) -> dict[str, Any]:
        """Wait until the queue of a round is live."""
        version = f"pt4al-r{number:03d}"
        return self.wait(project, version, lambda s: s["queue"]["model_version"] == version, timeout_s)


class LabelingProject:
    """A project, its truth, and an annotator who knows it."""

    def __init__(self, annotator: Annotator, backend: Backend, truth: dict[str, str], title: str, config: str) -> None:
        self.annotator, self.backend, self.truth = annotator, backend, truth
        self.id = annotator.create_project(title, config)

    def label_of(self, data: Mapping[str, Any]) -> str:
        name = next(name for name in self.truth if name in data["image"])
        return self.truth[name]

    def result(self, label: str) -> list[dict[str, Any]]:
        return [{"from_name": "digit", "to_name": "image", "type": "choices", "value": {"choices": [label]}}]

    def label_next(self, annotator: Annotator | None = None) -> int:
        """Label whatever Label Studio serves next; give its task id."""
        who = annotator or self.annotator
        task = who.next_task(self.id)
        assert task is not None, "Label Studio serves nothing"
        who.annotate(task.id, self.result(self.label_of(task.data)))
        return task.id

    def label_task(self, task_id: int, label: str | None = None) -> int:
        data = self.annotator.call("GET", f"/api/tasks/{task_id}/")["data"]
        return self.annotator.annotate(task_id, self.result(label or self.label_of(data)))

    def colleague(self, name: str) -> Annotator:
        """Somebody else who labels, with an account of his own."""
        return Annotator(self.annotator.server, f"{name}-{self.id}@example.com", "label-studio-1", sign_up=True)
