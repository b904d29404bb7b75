"""Labels and predictions in the formats of other programs, read as these read them."""

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from support.problem_pages import HELD, classes_project, fill_problem

from backend.labeling.base import Item
from backend.project_files import Files
from backend.store import Answer, Store
from backend.store.tasks import TaskChange
from backend.web.formats import FORMATS
from backend.web.formats.archive import Stems
from backend.web.formats.base import Answers, Entry, file_name
from backend.web.formats.coco import run_lengths
from backend.web.formats.mask_images import palette
from backend.web.formats.spool import PIECE
from model.data.masks import IGNORED, nothing, pack
from model.data.views import ViewBank
from model.problems import PROBLEMS, problem
from model.problems.segmentation import COLUMNS, EXPECTED, GRID, VIEW

CAT, DOG = "cat", "<b>dog</b>"
LABELS = '<Label value="cat"/><Label value="&lt;b&gt;dog&lt;/b&gt;"/>'
BOXES = f'<View><Image name="i" value="$image"/><RectangleLabels name="b" toName="i">{LABELS}</RectangleLabels></View>'
MASKS = f'<View><Image name="i" value="$image"/><BrushLabels name="m" toName="i">{LABELS}</BrushLabels></View>'
WIDTH, HEIGHT, IMAGES = 40, 30, 12  # pixels, and pixels, of every image
UPLOADED = "/data/upload/7/0a1b2c3d-{}.jpg"
TARGETS = [[[CAT, 0.1, 0.2, 0.5, 0.3], [DOG, 0.0, 0.0, 0.25, 1.0]], [], [[DOG, 0.5, 0.5, 0.5, 0.5]], [], [], []]


def mask(first: int) -> np.ndarray:
    """Return class ids: a cat from column ``first`` on, a dog below, and a part that is ignored."""
    pixels = np.zeros((HEIGHT, WIDTH), np.uint8)
    pixels[4:20, first : first + 10] = 1
    pixels[22:, 5:] = 2
    pixels[:2] = IGNORED
    return pixels


def finish(store: Store, data_dir: Path, key: int, targets: list) -> None:
    """Name the images, the third as the second, and note the sizes of all but the last one."""
    names = ["a", "b", "b", *map(str, range(4, IMAGES + 1))]
    answers = [*targets, *[None] * (IMAGES - len(targets))]
    of = store.of(key)
    of.tasks.apply([
        TaskChange(task, UPLOADED.format(name), None, Answer.NONE if said is None else Answer.LABELED, said)
        for task, (name, said) in enumerate(zip(names, answers, strict=True), start=1)
    ])  # fmt: skip
    of.tasks.images_fetched({task: task - 1 for task in range(1, IMAGES + 1)})
    views = ViewBank.create(Files.of(data_dir, key).views(VIEW), VIEW)
    known = np.arange(IMAGES - 1)
    views.write(known, np.zeros((len(known), VIEW, VIEW, 3), np.uint8), np.tile([WIDTH, HEIGHT], (len(known), 1)))


@pytest.fixture
def client(pages):
    return pages.test_client()


@pytest.fixture
def boxes(store: Store, tmp_path: Path) -> Store:
    """Six labeled images of twelve, of which the model says a cat, and hardly a dog."""
    found = np.full((IMAGES, 3, 6), -1.0, np.float32)
    found[:, 0], found[:, 1] = (0.25, 0.5, 0.5, 0.25, 0.9, 0), (0, 0, 0.5, 0.5, 0.2, 1)
    project = fill_problem(store, tmp_path, BOXES, "detection", (CAT, DOG), TARGETS, {"boxes": found})
    finish(store, tmp_path, project.id, TARGETS)
    return store


@pytest.fixture
def masks(store: Store, tmp_path: Path) -> Store:
    """Six labeled images of twelve, of which the model says a dog in the left half, with 0.7."""
    said = [*(pack(mask(first), (CAT, DOG)) for first in (3, 8, 13, 18, 23)), nothing()]
    maps = np.full((IMAGES, GRID, GRID), IGNORED, np.uint8)
    maps[:, : GRID * HEIGHT // WIDTH] = np.where(np.arange(GRID) < GRID // 2, 2, 0)
    values = np.zeros((IMAGES, COLUMNS), np.float32)
    values[:, EXPECTED] = 0.7
    outputs = {"class_maps": maps, "values": values}
    project = fill_problem(store, tmp_path, MASKS, "segmentation", (CAT, DOG), said, outputs)
    finish(store, tmp_path, project.id, said)
    return store


def coco(client, name: str) -> dict:
    answer = client.get(f"/api/projects/3/{name}.coco.json")
    assert answer.status_code == 200, answer.text
    assert answer.mimetype == "application/json"
    found = json.loads(answer.data)
    assert [one["name"] for one in found["categories"]] == [CAT, DOG]
    ids = {one["id"] for one in found["images"]}
    assert len(ids) == len(found["images"])
    assert {one["image_id"] for one in found["annotations"]} <= ids
    assert [one["id"] for one in found["annotations"]] == list(range(1, len(found["annotations"]) + 1))
    assert {one["category_id"] for one in found["annotations"]} <= {one["id"] for one in found["categories"]}
    return found


def archive(client, name: str) -> dict[str, bytes]:
    answer = client.get(f"/api/projects/3/{name}.zip")
    assert answer.status_code == 200, answer.text
    assert (
        answer.headers["Content-Disposition"].replace("-round-1", "") == f'attachment; filename="project-3-{name}.zip"'
    )
    with zipfile.ZipFile(io.BytesIO(answer.data)) as opened:
        assert opened.testzip() is None
        return {one: opened.read(one) for one in opened.namelist()}


def filled(counts: list[int], height: int, width: int) -> np.ndarray:
    """Return the mask of run lengths as COCO defines them: by columns, not set first."""
    pixels, value = [], False
    for count in counts:
        pixels += [value] * count
        value = not value
    return np.array(pixels, bool).reshape(width, height).T


def test_boxes_in_coco_are_in_pixels_with_what_tells_the_image(client, boxes: Store) -> None:
    found = coco(client, "labels")
    first = {
        "id": 1, "width": WIDTH, "height": HEIGHT, "file_name": "a.jpg", "reference": UPLOADED.format("a"),
    }  # fmt: skip
    assert found["images"][0] == first
    assert [one["id"] for one in found["images"]] == [1, 2, 3, 4, 5, 6]  # those without an object too
    cat, dog, last = found["annotations"]
    assert cat == {
        "id": 1, "image_id": 1, "category_id": 1, "bbox": [4, 6, 20, 9], "area": 180, "segmentation": [], "iscrowd": 0,
    }  # fmt: skip
    assert (dog["bbox"], dog["category_id"]) == ([0, 0, 10, 30], 2)
    assert (last["image_id"], last["bbox"]) == (3, [20, 15, 20, 15])
    assert found["info"] == {"left_out": {}}


def test_predicted_boxes_have_scores_and_are_of_images_without_an_answer(client, boxes: Store) -> None:
    found = coco(client, "predictions")
    assert [one["id"] for one in found["images"]] == list(range(7, IMAGES))
    assert [one["score"] for one in found["annotations"]] == pytest.approx([0.9] * 5)  # 0.2 is not shown
    assert found["annotations"][0]["bbox"] == [10, 15, 20, 7.5]
    ((why, count),) = found["info"]["left_out"].items()
    assert count == 1
    assert "size in pixels is not known" in why


def test_masks_in_coco_are_run_lengths_of_each_class(client, masks: Store) -> None:
    found = coco(client, "labels")
    assert len(found["images"]) == 6
    assert len(found["annotations"]) == 2 * 5
    for one in found["annotations"]:
        height, width = one["segmentation"]["size"]
        area = filled(one["segmentation"]["counts"], height, width)
        assert np.array_equal(area, mask(5 * one["image_id"] - 2) == one["category_id"])
        rows, columns = np.nonzero(area)
        left, top, wide, high = one["bbox"]
        assert (left, top, left + wide, top + high) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert (one["area"], one["iscrowd"]) == (area.sum(), 0)
    predicted = coco(client, "predictions")["annotations"]
    assert [(one["image_id"], one["category_id"], one["score"]) for one in predicted] == [
        (task, 2, 0.7) for task in range(7, IMAGES)
    ]
    assert predicted[0]["bbox"] == [0, 0, WIDTH // 2, HEIGHT]


def test_run_lengths_begin_with_what_is_not_set() -> None:
    generator = np.random.default_rng(0)
    for pixels in (np.ones((2, 3), bool), np.zeros((2, 3), bool), *(generator.random((20, 5, 7)) > 0.5)):
        counts = run_lengths(pixels)
        assert sum(counts) == pixels.size
        assert np.array_equal(filled(counts, *pixels.shape), pixels)


def test_yolo_has_a_file_of_lines_an_image(client, boxes: Store) -> None:
    files = archive(client, "labels.yolo")
    rows = [line.split() for line in files["labels/a.txt"].decode().splitlines()]
    assert [row[0] for row in rows] == ["0", "1"]
    assert [[float(number) for number in row[1:]] for row in rows] == [[0.35, 0.35, 0.5, 0.3], [0.125, 0.5, 0.25, 1]]
    assert files["labels/b.txt"] == b""
    assert files["labels/b-task-3.txt"].startswith(b"1 0.750000 0.750000")
    assert files["classes.txt"].decode().splitlines() == [CAT, DOG]
    assert f'  0: "cat"\n  1: "{DOG}"\n' in files["data.yaml"].decode()
    listed = json.loads(files["images.json"])
    assert listed[2] == {
        "task": 3, "file": "labels/b-task-3.txt", "file_name": "b.jpg", "reference": UPLOADED.format("b"),
    }  # fmt: skip
    assert {one["file"] for one in listed} == {name for name in files if name.startswith("labels/")}
    predicted = archive(client, "predictions.yolo")
    assert len([name for name in predicted if name.startswith("labels/")]) == 6  # no size is needed
    assert predicted["labels/12.txt"] == b"0 0.500000 0.625000 0.500000 0.250000 0.900000\n"
    assert "left_out.json" not in predicted


def test_masks_are_pictures_whose_pixels_are_class_ids(client, masks: Store) -> None:
    files = archive(client, "labels.masks")
    with Image.open(io.BytesIO(files["masks/a.png"])) as image:
        assert image.mode == "P"
        assert np.array_equal(np.asarray(image), mask(3))
        assert image.convert("RGB").getpixel((5, 6)) == (128, 0, 0)
    assert json.loads(files["classes.json"]) == {"0": "background", "1": CAT, "2": DOG, "255": "ignored"}
    with Image.open(io.BytesIO(files["masks/6.png"])) as image:
        assert image.size == (WIDTH, HEIGHT)
        assert not np.asarray(image).any()
    predicted = archive(client, "predictions.masks")
    with Image.open(io.BytesIO(predicted["masks/7.png"])) as image:
        assert np.array_equal(np.asarray(image), np.tile(np.where(np.arange(WIDTH) < WIDTH // 2, 2, 0), (HEIGHT, 1)))
    assert list(json.loads(predicted["left_out.json"]).values()) == [1]


def test_colours_are_those_of_pascal_voc() -> None:
    colours = np.frombuffer(palette(), np.uint8).reshape(256, 3)
    assert colours[:4].tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    assert colours[255].tolist() == [224, 224, 192]
    assert len({tuple(colour) for colour in colours.tolist()}) == 256


def test_a_class_that_has_gone_leaves_its_images_out(client, boxes: Store) -> None:
    key = boxes.projects.find(3).id
    boxes.projects.set(key, label_config=BOXES.replace("&lt;b&gt;dog&lt;/b&gt;", "bird"))
    found = json.loads(client.get("/api/projects/3/labels.coco.json").data)
    assert [one["id"] for one in found["images"]] == [2, 4, 5, 6]
    assert list(found["info"]["left_out"].values()) == [2]
    boxes.of(key).tasks.apply([
        TaskChange(task, "x", None, Answer.LABELED, [[DOG, 0, 0, 1.0, 1.0]]) for task in (2, 4, 5, 6)
    ])  # fmt: skip
    answer = client.get("/api/projects/3/labels.yolo.zip")
    assert answer.status_code == 404
    assert "a label that is not in the labeling interface any more" in answer.text


def test_what_cannot_be_had_is_said_in_one_sentence(client, store: Store, tmp_path: Path) -> None:
    found = {"boxes": np.full((IMAGES, 1, 6), -1.0, np.float32)}
    project = fill_problem(store, tmp_path, BOXES, "detection", (CAT, DOG), [[]] * HELD, found)
    assert "size in pixels is not known" in client.get("/api/projects/3/labels.coco.json").text
    store.of(project.id).rounds.set(0, has_model=False)
    answer = client.get("/api/projects/3/predictions.coco.json")
    assert answer.status_code == 404
    assert "There is no model yet" in answer.text
    answer = client.get("/api/projects/3/labels.masks.zip")
    assert answer.status_code == 404
    assert "take coco.json, yolo.zip" in answer.text
    store.projects.set(project.id, label_config="<View/>")
    assert client.get("/api/projects/3/labels.coco.json").status_code == 404


def test_the_page_links_the_formats_that_fit(browser, boxes: Store, tmp_path: Path) -> None:
    page = browser.get("/projects/3").text
    assert "/api/projects/3/labels.coco.json" in page
    assert "/api/projects/3/predictions.yolo.zip" in page
    assert "masks.zip" not in page
    classes_project(
        boxes, tmp_path, BOXES.replace("RectangleLabels", "Choices").replace("Label ", "Choice "), [CAT, DOG], 4
    )
    assert "coco" not in browser.get("/projects/4").text


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_writes_what_its_problems_may_have_as_it_comes(name: str) -> None:
    chosen = FORMATS[name]
    assert chosen.problems
    assert chosen.problems <= set(PROBLEMS)
    odd = {"detection": [[], [[DOG, 0, 0, 1, 1, 0.5]]], "segmentation": [nothing(), pack(mask(3), (CAT, DOG))]}
    for of in chosen.problems:
        taken: list[int] = []

        def entries(of=of, taken=taken) -> Iterator[Entry]:
            for number in range(400):
                taken.append(number)
                yield Entry(number, f"{number}.png", Item(WIDTH, HEIGHT), odd[of][number % 2], 0.5)

        answers = Answers(problem(of), (CAT, DOG), entries(), sized=chosen.sized)
        assert answers
        pieces = chosen.write(answers)
        seen = [len(next(pieces)) for _ in range(3)]
        assert len(taken) < 10, "it is read whole before anything is sent"
        seen += [len(piece) for piece in pieces]
        assert len(taken) == 400
        assert max(seen) <= PIECE


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("/data/upload/3/0a1b2c3d-my photo.jpg", "my photo.jpg"),
        ("/data/upload/3/0a1b2c3d-", "0a1b2c3d-"),
        ("https://host/a/0a1b2c3d-b.png?X-Sig=1/2", "0a1b2c3d-b.png"),
        ("/data/local-files/?d=sets%2Fone/c%20d.tif", "c d.tif"),
        ("s3://bucket/x/y.jpeg", "y.jpeg"),
        ("data:image/png;base64,AA/BB", ""),
        ("a\\b\\c.png", "c.png"),
        ("https://host/a/..", ""),
        ("http://[::", ""),
        ("n%00l%0a.png", "n_l_.png"),
    ],
)  # fmt: skip
def test_a_file_has_the_name_that_it_had_before_it_was_imported(image: str, name: str) -> None:
    assert file_name(image) == name


def test_names_in_an_archive_are_bounded_and_given_once() -> None:
    stems, long = Stems(), "é" * 70_000
    entries = [Entry(task, image, Item(), []) for task, image in enumerate(["A.png", "a.jpg", long, long])]
    assert [stems.of(entry) for entry in entries] == ["A", "a-task-1", "é" * 100, "é" * 100 + "-task-3"]


def test_an_image_without_a_file_is_named_by_its_task() -> None:
    entry = Entry(7, "data:image/png;base64,AAAA", Item(), [])
    assert entry.file_name == "task-7"
    answers = Answers(SimpleNamespace(fits=lambda *_: True), (), [entry], sized=False)
    assert [one.size for one in answers] == [None]
