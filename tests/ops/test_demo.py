"""The demo: its images, its folder, and one run of it from start to end."""

import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import psutil
import pytest
import requests
from PIL import Image
from sklearn.datasets import load_digits
from support.e2e_harness import REPOSITORY, wait_for
from support.labelstudio import free_port
from support.processes import gone

from backend.demo.annotator import Annotator
from backend.demo.empty_database import DATABASE, give, kept_database, prepare
from backend.demo.run import KEPT, MARK, Kept, _own_folder
from backend.demo.sample_images import PLACEHOLDERS, DemoImages, digits, folder_images
from backend.errors import ConfigError
from model.data.decoding import auto_side

ANSWER = {"from_name": "class", "to_name": "image", "type": "choices", "value": {"choices": ["A"]}}


def served_as(name: str) -> dict[str, str]:
    return {"image": f"/data/upload/7/1a2b3c4d-{name}"}


def classes_of(images: DemoImages) -> list[str]:
    return [choice.attrib["value"] for choice in ElementTree.fromstring(images.label_config).iter("Choice")]


def test_digits_are_scikit_learns_pixels_with_their_labels() -> None:
    images = digits()
    assert images.count == 1797
    [(name, content)] = images.files(1234, 1235)
    pixels = np.asarray(Image.open(io.BytesIO(content)))
    assert pixels.shape == (16, 16)
    assert auto_side([pixels.shape], 96) == 16  # the network sees what annotators see
    blocks = pixels.reshape(8, 2, 8, 2).mean(axis=(1, 3)) / 255 * 16
    assert np.abs(blocks - load_digits().images[1234]).mean() < 1
    assert images.label_of(served_as(name)) == str(load_digits().target[1234])
    assert classes_of(images) == list("0123456789")
    config = ElementTree.fromstring(images.label_config)
    assert all(choice.attrib["hotkey"] == choice.attrib["value"] for choice in config.iter("Choice"))
    assert [image.attrib["maxWidth"] for image in config.iter("Image")] == ["240px"]


def make_images(folder: Path, names: list[str]) -> None:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), number).save(folder / name)


def test_subfolders_are_classes(tmp_path: Path) -> None:
    make_images(tmp_path, ["cat & dog/a-000001-b.png", "rats/a-000001-b.png", "rats/deep/c.PNG", "rats/d d.jpg"])
    (tmp_path / "rats" / "notes.txt").touch()
    images = folder_images(tmp_path)
    assert images.count == 4
    assert classes_of(images) == ["cat & dog", "rats"]
    assert "hotkey" not in images.label_config
    assert "maxWidth" not in images.label_config
    labels = [images.label_of(served_as(name)) for name, _ in images.files(0, 10)]
    assert labels == ["cat & dog", "rats", "rats", "rats"]


@pytest.mark.parametrize("names", [["a.png", "b.png"], ["one/a.png", "one/b.png"], ["x/a.png", "y/b.png", "c.png"]])
def test_images_without_a_class_each_are_left_to_the_person(tmp_path: Path, names: list[str]) -> None:
    make_images(tmp_path, names)
    images = folder_images(tmp_path)
    assert images.truth is None
    assert classes_of(images) == list(PLACEHOLDERS)
    with pytest.raises(ConfigError, match="does not know"):
        images.label_of(served_as("000000-a.png"))


def test_folder_without_images_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no images"):
        folder_images(tmp_path)
    with pytest.raises(ConfigError, match="is not a folder"):
        folder_images(tmp_path / "missing")


def test_demo_empties_its_own_folder_only(tmp_path: Path) -> None:
    foreign = tmp_path / "holidays"
    foreign.mkdir()
    (foreign / "photo.jpg").touch()
    with pytest.raises(ConfigError, match="not of an earlier demo"), _own_folder(foreign):
        pass
    assert (foreign / "photo.jpg").exists()

    own = tmp_path / "demo"
    with _own_folder(own):
        (own / "left").mkdir()
        (own / "over").touch()
    with _own_folder(own, keep=True):
        assert (own / "left").exists()
    with _own_folder(own):
        assert [path.name for path in own.iterdir()] == [MARK]
        with pytest.raises(ConfigError, match="another demo runs"), _own_folder(own):
            pass


@pytest.mark.parametrize(
    "text",
    ["", '{"data": "dig', "[]", "null", '{"data": "digits"}', '{"data": "digits", "ls_port": 8080, "port": 9090}'],
)
def test_a_damaged_note_of_a_kept_demo_is_said_in_a_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / KEPT).write_text(text)
    with pytest.raises(ConfigError, match=r"kept\.json is damaged.*FRESH=1.*DEMO_DIR"):
        Kept("digits", 8080, 9090).project_in(tmp_path)


def test_a_kept_demo_is_gone_on_with_only_as_it_was(tmp_path: Path) -> None:
    wanted = Kept("digits", 8080, 9090)
    assert wanted.project_in(tmp_path) is None
    replace(wanted, project=4).write(tmp_path)
    assert wanted.project_in(tmp_path) == 4
    for other in (Kept("/home/me/birds", 8080, 9090), Kept("digits", 8081, 9090), Kept("digits", 8080, 9091)):
        with pytest.raises(ConfigError, match=r"a demo of digits with LS_PORT=8080 and PORT=9090.*FRESH=1"):
            other.project_in(tmp_path)


def start_demo(folder: Path, **env: str) -> "subprocess.Popen[str]":
    ports = {"PORT": str(free_port()), "LS_PORT": str(free_port())}
    given: Mapping[str, str] = {**os.environ, **ports, "DEMO_DIR": str(folder), **env}
    return subprocess.Popen(
        [sys.executable, "-m", "backend", "demo"], cwd=REPOSITORY, env=given, text=True, stdout=subprocess.PIPE
    )


@pytest.mark.e2e
def test_demo_labels_three_rounds_of_ones_own_images(tmp_path: Path) -> None:
    data = load_digits()
    for number in range(300):
        place = tmp_path / "images" / f"digit {data.target[number] % 3}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray((data.images[number] * 15).astype(np.uint8)).save(place / f"{number}.png")
    said, _ = start_demo(tmp_path / "demo", EXIT="1", DATA=str(tmp_path / "images")).communicate(timeout=600)
    outcome = json.loads(said.splitlines()[-1])
    assert outcome["ok"] is True, said
    assert (outcome["tasks"], outcome["recorded"]) == (300, 300)
    assert [one["round"] for one in outcome["rounds"]] == [0, 1, 2]
    for one in outcome["rounds"]:
        assert set(one) == {"round", "labels", "holdout_accuracy", "queue_share", "turnaround_s"}
        assert one["queue_share"] == 1.0
    labels = [one["labels"] for one in outcome["rounds"]]
    assert labels == sorted(set(labels))


def read_until(demo: "subprocess.Popen[str]", words: str) -> str:
    assert demo.stdout is not None
    said = ""
    while words not in said:
        line = demo.stdout.readline()
        assert line, said
        said += line
    return said


def person_of(said: str) -> Annotator:
    [address] = re.findall(r"Label Studio +(\S+)/projects/1/data", said)
    [(email, password)] = re.findall(r"log in as +(\S+), password (\S+)", said)
    return Annotator(address, email, password)


def press_ctrl_c(demo: "subprocess.Popen[str]") -> None:
    """As a person does: again, if nothing comes of it for a minute."""
    for _ in range(3):
        demo.send_signal(signal.SIGINT)
        try:
            demo.communicate(timeout=60)
            return
        except subprocess.TimeoutExpired:
            continue
    demo.kill()
    demo.communicate()
    raise AssertionError("the demo does not end on Ctrl-C")


@pytest.mark.e2e
def test_demo_of_unknown_classes_stays_up_for_a_person_until_ctrl_c(tmp_path: Path) -> None:
    make_images(tmp_path / "images", [f"{number}.png" for number in range(60)])
    given = {"DATA": str(tmp_path / "images"), "PORT": str(free_port()), "LS_PORT": str(free_port())}
    demo = start_demo(tmp_path / "demo", EXIT="", **given)
    said = read_until(demo, "Go on labeling")
    children = psutil.Process(demo.pid).children(recursive=True)
    person = person_of(said)
    task = person.next_task(1)
    assert task is not None
    person.annotate(task.id, [ANSWER])
    [status] = re.findall(r"Status +(\S+)", said)
    assert requests.get(status, timeout=10).json()["queue"]["model_version"] == "pt4al-r000"
    [dashboard] = re.findall(r"Dashboard +(\S+)", said)
    page = requests.get(dashboard, headers={"Accept": "text/html"}, timeout=10)
    assert "PT4AL demo" in page.text
    press_ctrl_c(demo)
    assert demo.returncode == 0
    assert gone(children)

    again = start_demo(tmp_path / "demo", EXIT="", **given)
    said = read_until(again, "Go on labeling")
    assert "This is the demo of the last time" in said
    assert person_of(said).call("GET", f"/api/tasks/{task.id}/")["annotations"] != []
    wait_for("the answer", lambda: requests.get(status, timeout=10).json()["queue"]["answered"] == 1, 60)
    press_ctrl_c(again)
    refused = start_demo(tmp_path / "demo", EXIT="1", **given)
    refused.communicate(timeout=60)
    assert refused.returncode == 2


@pytest.mark.e2e
def test_demo_leaves_no_process_behind_on_ctrl_c(tmp_path: Path) -> None:
    demo = start_demo(tmp_path / "demo")
    started = psutil.Process(demo.pid)
    wait_for("the servers", lambda: len(started.children(recursive=True)) >= 6, 60)
    children = started.children(recursive=True)
    press_ctrl_c(demo)
    assert demo.returncode == 130
    assert gone(children)


def test_a_new_label_studio_begins_with_a_copy_of_the_prepared_database(tmp_path: Path) -> None:
    program = tmp_path / "server" / "bin" / "label-studio"
    (tmp_path / "server" / "lib" / "python3.11" / "site-packages" / "label_studio-9.8.7.dist-info").mkdir(parents=True)
    folder = tmp_path / "data"
    give(program, folder)
    assert list(folder.iterdir()) == [], "nothing was prepared: the server makes its own"
    kept = kept_database(program)
    assert kept == tmp_path / "server" / "empty-label_studio-9.8.7.sqlite3"
    kept.write_bytes(b"tables")
    give(program, folder)
    assert (folder / DATABASE).read_bytes() == b"tables"
    (folder / DATABASE).write_bytes(b"labels")
    give(program, folder)
    assert (folder / DATABASE).read_bytes() == b"labels", "what people labeled is never replaced"


@pytest.mark.parametrize("script", ["exit 3", "exit 0"])
def test_a_label_studio_that_makes_no_database_is_named(tmp_path: Path, script: str) -> None:
    program = tmp_path / "bin" / "label-studio"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho broken >&2\n{script}\n")
    program.chmod(0o700)
    with pytest.raises(ConfigError, match="makes no database: broken"):
        prepare(program)
    assert [path.name for path in tmp_path.iterdir()] == ["bin"]
