"""The manifests for Kubernetes: against its schemas, against each other, and every command natively as they say."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from support.e2e_harness import wait_for
from support.labelstudio import free_port
from support.postgres import Postgres

from backend.__main__ import _parser
from backend.config import Settings
from backend.doctor.machines import check_machines
from backend.queueing.presence import Process, present
from backend.queueing.queues import QUEUES, Queueing

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
VERSIONS = ("1.30", "1.37")
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
GPU = yaml.safe_load((FOLDER / "gpu" / "kustomization.yaml").read_text())
RESOURCES = [
    one for name in KUSTOMIZATION["resources"] for one in yaml.safe_load_all((FOLDER / name).read_text()) if one
]
WORKLOADS = {one["metadata"]["name"]: one for one in RESOURCES if one["kind"] in ("Deployment", "StatefulSet")}
OURS = {name: one for name, one in WORKLOADS.items() if name != "pt4al-redis"}


def of_kind(kind: str) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in RESOURCES if one["kind"] == kind}


def pod(name: str) -> dict[str, Any]:
    found: dict[str, Any] = WORKLOADS[name]["spec"]["template"]
    return found


def container(name: str) -> dict[str, Any]:
    (found,) = pod(name)["spec"]["containers"]
    return dict(found)


def given() -> dict[str, str]:
    """The environment of every container of ours, as config.yaml and the example of secrets.env have it."""
    lines = (FOLDER / "secrets.env.example").read_text().split()
    return {**of_kind("ConfigMap")["pt4al"]["data"], **dict(line.split("=", 1) for line in lines)}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_resource_keeps_to_the_schemas(version: str) -> None:
    for resource in RESOURCES:
        kubernetes_validate.validate(resource, version, strict=True)


def test_a_misspelled_field_is_found() -> None:
    wrong = {**of_kind("Service")["pt4al"], "specs": {}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)


def test_every_file_is_part_of_it_and_every_image_has_a_place() -> None:
    assert {*KUSTOMIZATION["resources"], "kustomization.yaml"} == {path.name for path in FOLDER.glob("*.yaml")}
    assert {image["name"] for image in KUSTOMIZATION["images"]} == {container(name)["image"] for name in OURS}
    assert re.search(r":\d+\.\d+", container("pt4al-redis")["image"])
    assert (FOLDER / "secrets.env.example").exists()
    ignored = subprocess.run(
        ["git", "check-ignore", "-q", FOLDER / "secrets.env"], cwd=ROOT, capture_output=True, check=False
    )
    assert ignored.returncode in (0, 128), "128: this is no checkout"


def test_the_gpu_overlay_changes_the_training_worker() -> None:
    patch = yaml.safe_load((FOLDER / "gpu" / GPU["patches"][0]["path"]).read_text())
    name = patch["metadata"]["name"]
    assert (patch["kind"], container(name)["command"][-1]) == (WORKLOADS[name]["kind"], "train")
    (changed,) = patch["spec"]["template"]["spec"]["containers"]
    assert changed["name"] == container(name)["name"]
    assert changed["image"] in {image["name"] for image in GPU["images"]}
    assert changed["resources"]["limits"] == {"nvidia.com/gpu": "1"}


def test_every_queue_has_workers_and_every_setting_is_one() -> None:
    commands = {name: container(name)["command"] for name in OURS}
    parsed = [_parser().parse_args(command[3:]) for command in commands.values()]
    assert all(command[:3] == ["python", "-m", "backend"] for command in commands.values())
    assert sorted(name for one in parsed for name in getattr(one, "queues", None) or []) == sorted(QUEUES)
    assert {name.lower() for name in given()} <= set(Settings.model_fields)
    assert Settings.from_env(given()).on_servers
    for name in OURS:
        assert [*container(name)["envFrom"]] == [{"configMapRef": {"name": "pt4al"}}, {"secretRef": {"name": "pt4al"}}]
    assert KUSTOMIZATION["secretGenerator"] == [{"name": "pt4al", "envs": ["secrets.env"]}]


@pytest.mark.parametrize("name", WORKLOADS)
def test_every_workload_is_probed_bounded_and_without_rights(name: str) -> None:
    spec, one = pod(name)["spec"], container(name)
    assert one["readinessProbe"]
    assert one["resources"]["limits"]["memory"]
    assert one["resources"]["requests"]["cpu"]
    assert one["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["automountServiceAccountToken"] is False
    mounted = {mount["name"] for mount in one["volumeMounts"]}
    claims = {claim["metadata"]["name"] for claim in WORKLOADS[name]["spec"].get("volumeClaimTemplates", [])}
    assert mounted == {volume["name"] for volume in spec.get("volumes", [])} | claims
    assert WORKLOADS[name]["spec"]["selector"]["matchLabels"].items() <= pod(name)["metadata"]["labels"].items()


def test_all_of_ours_share_the_folder_and_may_be_moved_one_at_a_time() -> None:
    budgets = {
        str(one["spec"]["selector"]["matchLabels"]): one["spec"] for one in of_kind("PodDisruptionBudget").values()
    }
    assert of_kind("PersistentVolumeClaim")["pt4al-data"]["spec"]["accessModes"] == ["ReadWriteMany"]
    for name in OURS:
        assert {"name": "data", "persistentVolumeClaim": {"claimName": "pt4al-data"}} in pod(name)["spec"]["volumes"]
        assert {"name": "data", "mountPath": given()["DATA_DIR"]} in container(name)["volumeMounts"]
        budget = budgets[str(WORKLOADS[name]["spec"]["selector"]["matchLabels"])]
        assert budget.get("minAvailable", budget.get("maxUnavailable")) == 1
    assert WORKLOADS["pt4al-web"]["spec"]["replicas"] > 1, "one may be moved while the other answers"


def test_redis_is_reached_by_ours_alone_and_nobody_reaches_a_worker() -> None:
    policies = of_kind("NetworkPolicy")
    mark = {"pt4al/backend": "true"}
    assert policies["pt4al-redis"]["spec"]["ingress"][0]["from"] == [{"podSelector": {"matchLabels": mark}}]
    assert policies["pt4al-redis"]["spec"]["egress"] == []
    assert policies["pt4al-backend"]["spec"]["podSelector"] == {"matchLabels": mark}
    assert policies["pt4al-backend"]["spec"]["ingress"] == []
    assert all(mark.items() <= pod(name)["metadata"]["labels"].items() for name in OURS)
    address = of_kind("ConfigMap")["pt4al"]["data"]["REDIS_URL"]
    service = of_kind("Service")["pt4al-redis"]["spec"]
    assert address == f"redis://pt4al-redis:{service['ports'][0]['port']}/0"
    assert service["selector"].items() <= pod("pt4al-redis")["metadata"]["labels"].items()


@pytest.fixture
def settings(tmp_path: Path, private_redis: str, postgres: Postgres) -> Iterator[Settings]:
    Queueing(private_redis).connection.flushall()
    with postgres.database() as name:
        yield Settings(
            redis_url=private_redis, database_url=postgres.url(name), data_dir=tmp_path / "data", port=free_port()
        )


def workers(queueing: Queueing) -> list[Process]:
    return [one for one in present(queueing) if one.queues]


def test_every_command_runs_and_its_probe_says_so(settings: Settings, tmp_path: Path) -> None:
    env = {**given(), "PATH": os.environ["PATH"], "HOME": str(tmp_path), "DATA_DIR": str(settings.data_dir)}
    env |= {"REDIS_URL": settings.redis_url.get_secret_value(), "DATABASE_URL": settings.database, "DEVICE": "cpu"}
    env |= {"PORT": str(settings.port), "PYTHONPATH": str(ROOT), "LABEL_STUDIO_URL": "http://127.0.0.1:9"}
    processes = {}

    def is_ready(name: str) -> bool:
        probe = container(name)["readinessProbe"]
        if "httpGet" in probe:
            command = ["docker/healthcheck.py", "web"]
            assert probe["httpGet"]["path"] == "/health"
        else:
            command = probe["exec"]["command"][1:]
        return subprocess.run([sys.executable, *command], env=env, cwd=ROOT, check=False).returncode == 0

    assert not is_ready("pt4al-io")
    try:
        for name in OURS:
            with (tmp_path / f"{name}.log").open("wb") as log:
                command = [sys.executable, *container(name)["command"][1:]]
                processes[name] = subprocess.Popen(command, env=env, cwd=ROOT, stdout=log, stderr=log)
        queueing = Queueing.from_settings(settings)
        wait_for("all to say that they live", lambda: len(workers(queueing)) == len(QUEUES), 180, 0.5)
        wait_for("the web to answer", lambda: is_ready("pt4al-web"), 180, 1)
        assert [name for name in OURS if not is_ready(name)] == []
        machines = {finding.name: finding for finding in check_machines(settings, None)}
        assert machines["workers"].ok
        assert machines["machines"].text.startswith("1: ")
    finally:
        for process in processes.values():
            process.terminate()
        codes = {name: process.wait(60) for name, process in processes.items()}
    assert set(codes.values()) <= {0, -signal.SIGTERM}, "the one that trains may still have loaded PyTorch"
