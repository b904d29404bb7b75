"""Boxes and masks over the images of the holdout and the queue, and their figures, with numbers by hand."""

import html
import io
import re

import numpy as np
import pytest
from PIL import Image
from support.problem_pages import CAT, DOG, LEFT, boxes_project, masks_project, painted
from support.web_pages import serve

from backend.dashboard.overlays import masks
from backend.dashboard.overlays.boxes import BoxOverlay
from backend.dashboard.project_page import ProjectPage
from backend.dashboard.worst import worst_images
from backend.project_files import Files
from backend.store import Answer, AskRole, Store
from backend.store.rounds import Ask
from backend.store.tasks import TaskChange
from model.data.views import ViewBank
from model.problems.segmentation import Segmentation

ESCAPED_DOG = "&lt;b&gt;dog&lt;/b&gt;"
FOREVER = "immutable"


@pytest.fixture
def boxes(store: Store, tmp_path) -> Store:
    boxes_project(store, tmp_path)
    return store


@pytest.fixture
def areas(store: Store, tmp_path) -> Store:
    masks_project(store, tmp_path)
    return store


def page_of(pages) -> ProjectPage:
    services = pages.extensions["pt4al"]
    return ProjectPage(services, services.store.projects.find(3))


def shown(browser, part: str, path: str = "/projects/3") -> str:
    """Return the HTML of a card of the page, ``worst`` or ``queue``."""
    answer = browser.get(path)
    assert answer.status_code == 200
    return re.search(rf'id="{part}-card".*?</section>', answer.text, re.S).group()


def text_of(part: str) -> str:
    return html.unescape(
        " ".join(re.sub(r"<[^>]+>", " ", re.sub(r"<(svg|title).*?</\1>", " ", part, flags=re.S)).split())
    )


def answer(store: Store, targets: dict[int, object]) -> None:
    changes = [TaskChange(task, "x", None, Answer.LABELED, target) for task, target in targets.items()]
    store.of(store.projects.find(3).id).tasks.apply(changes)


def test_the_worst_images_come_first_and_perfect_ones_not_at_all(browser, boxes: Store) -> None:
    part = shown(browser, "worst")
    assert re.findall(r'id="worst-(\d+)" href="([^"]+)"', part) == [
        ("4", "http://studio/projects/3/data?task=4"),
        ("1", "http://studio/projects/3/data?task=1"),
    ]
    text = text_of(part)
    assert "Task 4 0.00" in text
    assert f"0 found, 1 missed ({DOG}), 1 false alarm ({CAT})" in text
    assert "Task 1 0.50" in text
    assert f"1 found, 1 missed ({CAT}), 1 false alarm ({CAT})" in text
    assert DOG not in part


def test_misses_and_false_alarms_have_their_own_strokes_at_their_places(browser, boxes: Store) -> None:
    first, second = re.findall(r"<li><p><a id=.*?</li>", shown(browser, "worst"), re.S)
    place = " ".join(rf'{name}="([\d.]+)"' for name in ("x", "y", "width", "height"))
    drawn = rf'<g class="(\w+)"><title>(.*?)</title><rect class="halo" {place}/>'
    # Views of 640 x 320 originals are of 320 x 160 pixels.
    assert re.findall(drawn, first) == [
        ("miss", f"{ESCAPED_DOG}, missed", "160.0", "80.0", "80.0", "40.0"),
        ("alarm", f"{CAT} 0.60, false alarm", "32.0", "16.0", "64.0", "32.0"),
    ]
    assert [kind for kind, *_ in re.findall(drawn, second)] == ["miss", "hit", "alarm", "hit"]
    assert set(re.findall('viewBox="([^"]+)"', first)) == {"0 0 320 160"}
    assert re.findall("<text[^>]*>(.*?)</text>", first) == [ESCAPED_DOG, CAT]
    assert 'alt="Task 4, what the model drew: 0 found, 1 missed' in first


def test_more_of_the_worst_are_shown_on_demand(browser, boxes: Store, monkeypatch) -> None:
    monkeypatch.setattr("backend.dashboard.routes.WORST_SHOWN", 1)
    part = shown(browser, "worst")
    assert re.findall(r'id="worst-(\d+)"', part) == ["4"]
    assert "Show all 2" in text_of(part)
    everything = shown(browser, "worst", "/projects/3?worst=all")
    assert re.findall(r'id="worst-(\d+)"', everything) == ["4", "1"]
    assert "Show fewer" in text_of(everything)


def test_pages_without_places_in_their_answers_have_no_such_part(browser, filled: Store) -> None:
    page = browser.get("/projects/3").text
    assert "worst-card" not in page
    assert 'class="picture' not in page


def test_the_queue_shows_what_the_model_drew_when_it_asked(browser, boxes: Store) -> None:
    part = shown(browser, "queue")
    assert re.findall(r'<g class="(\w+)"><title>(.*?)</title>', part) == [("plain", f"{CAT} 0.80")]
    assert re.findall(r'src="([^"?]+)', part) == [f"/projects/3/views/{index}.jpg" for index in (6, 7)]


def test_a_view_has_the_aspect_of_its_image_and_is_kept_by_browsers(browser, boxes: Store, tmp_path) -> None:
    (path, *_) = re.findall(r'src="([^"]+views/6[^"]+)', shown(browser, "queue"))
    small = browser.get(html.unescape(path))
    assert (small.mimetype, Image.open(io.BytesIO(small.data)).size) == ("image/jpeg", (192, 96))
    assert FOREVER in small.headers["Cache-Control"]
    whole = browser.get("/projects/3/views/6.jpg")
    image = np.asarray(Image.open(io.BytesIO(whole.data)), float)
    assert image.shape == (160, 320, 3)
    expected = ViewBank.open(Files.of(tmp_path, boxes.projects.find(3).id).views(320)).gather(np.array([6]))[0, :160]
    assert abs(image - expected).max() < 20
    assert FOREVER not in whole.headers["Cache-Control"]
    for index in (11, 99, 10**30):  # without a view, and without an image
        assert browser.get(f"/projects/3/views/{index}.jpg").status_code == 404


def test_an_image_without_a_view_is_shown_as_the_bank_has_it(browser, boxes: Store) -> None:
    key = boxes.projects.find(3).id
    serve(boxes, key, 2, [Ask(12, 0.1, AskRole.QUERY, [[CAT, 0.5, 0.5, 0.5, 0.5, 0.9]], 0.6)])
    part = shown(browser, "queue")
    assert "/projects/3/images/11.png" in part
    assert '<rect x="4.0" y="4.0" width="4.0" height="4.0"/>' in part  # of 8 pixels


def test_each_class_of_boxes_has_its_average_precision_and_its_working_point(browser, boxes: Store) -> None:
    trace = browser.get("/projects/3/figures/boxes.json").json["data"][0]
    assert trace["x"] == ["AP50", "AP50:95", "precision", "recall", "objects", "images"]
    assert trace["y"] == [CAT, ESCAPED_DOG]
    # Cats by score: hit, miss, hit, miss, and a hit below the threshold: (34 + 33 * 2/3 + 34 * 3/5) / 101. Of the two
    # dogs one is found: 51 / 101. Every box that finds an object has its very place, so both precisions are the same.
    assert trace["text"] == [
        ["0.76", "0.76", "0.50", "0.67", "3", "2"],
        ["0.50", "0.50", "1.00", "0.50", "2", "2"],
    ]


def test_the_curve_of_a_class_goes_through_its_working_point(browser, boxes: Store) -> None:
    line, mark, dogs, _ = browser.get("/projects/3/figures/box_curves.json").json["data"]
    assert line["x"] == pytest.approx([1 / 3, 1 / 3, 2 / 3, 2 / 3, 1], abs=1e-4)
    assert line["y"] == pytest.approx([1, 1 / 2, 2 / 3, 2 / 4, 3 / 5], abs=1e-4)
    assert (mark["x"], mark["y"]) == ([pytest.approx(2 / 3, abs=1e-4)], [0.5])
    assert dogs["name"] == ESCAPED_DOG
    assert line["line"]["dash"] != dogs["line"]["dash"]


def test_objects_are_counted_by_their_size_and_by_whether_they_are_found(browser, boxes: Store) -> None:
    found, missed = browser.get("/projects/3/figures/box_sizes.json").json["data"]
    # A is of 64 x 32 pixels, a side of 45, and found twice; B is of 80 x 40, a side of 57, found once and missed twice.
    assert found["x"][3] == "32 to 64"
    assert found["y"] == [0, 0, 0, 3, 0, 0]
    assert missed["y"] == [0, 0, 0, 2, 0, 0]
    assert missed["text"][3] == "60%"


def test_figures_of_boxes_without_any_object_say_so(browser, boxes: Store) -> None:
    answer(boxes, {1: [], 2: [], 4: []})
    for name in ("box_curves", "box_sizes"):
        assert browser.get(f"/projects/3/figures/{name}.json").json == {
            "waiting": "No labeled random image has an object yet."
        }
    trace = browser.get("/projects/3/figures/boxes.json").json["data"][0]
    assert trace["text"][0] == ["-", "-", "0.00", "-", "0", "0"]  # boxes without objects are wrong


@pytest.mark.parametrize(
    ("fill", "figure", "start"),
    [
        (boxes_project, "boxes", r"mAP50 0\.63 \(0\.\d\d to [01]\.\d\d\), mAP50:95 0\.63 \(.*The F1 of boxes above"),
        (masks_project, "pixels", r"mIoU 0\.25 \(0\.\d\d to [01]\.\d\d, .* and 0\.33 with each class weighted"),
    ],
)
def test_findings_tell_what_papers_report_beside_the_mean_over_images(
    fill, figure: str, start: str, browser, store: Store, tmp_path, monkeypatch
) -> None:
    fill(store, tmp_path)
    assert "As papers report it" not in browser.get("/projects/3").text  # four images say too little
    monkeypatch.setattr(f"backend.dashboard.figures.{figure}.FEW_RANDOM", 4)
    text = text_of(browser.get("/projects/3").text)
    (sentence,) = re.findall(r"As papers report it, of all (?:boxes|pixels) of 4 random images together: [^<]*", text)
    assert re.match(start, sentence.split("together: ")[1])


def test_objects_on_which_annotators_differ_are_counted(browser, boxes: Store) -> None:
    assert "Left out of the answers" not in browser.get("/projects/3").text
    of = boxes.of(boxes.projects.find(3).id)
    changes = [(1, Answer.LABELED, 2), (2, Answer.LABELED, 1), (3, Answer.LABELED, 0), (4, Answer.SKIPPED, 5)]
    of.tasks.apply([TaskChange(task, "x", None, kind, [], left_out=number) for task, kind, number in changes])
    assert "Left out of the answers: 3 objects on 2 images" in text_of(browser.get("/projects/3").text)


def test_masks_lie_beside_each_other_with_their_classes_named(browser, areas: Store) -> None:
    part = shown(browser, "worst")
    assert re.findall(r'id="worst-(\d+)"', part) == ["4", "2"]
    text = text_of(part)
    assert f"Task 4 0.00 expected 0.00 annotators model IoU: {DOG} 0.00, {CAT} 0.00" in text
    assert f"IoU: {CAT} 0.50" in text
    assert [html.unescape(word) for word in re.findall("<text[^>]*>(.*?)</text>", part)] == [DOG, CAT, CAT, CAT]
    assert re.findall(r'fill="(#\w+)"/></svg> ([^<]+)</li>', part) == [
        (masks.colour(1), CAT),
        (masks.colour(2), ESCAPED_DOG),
    ]
    addresses = [html.unescape(path) for path in re.findall(r'class="mask" [^>]*src="([^"]+)', part)]
    assert [path.split("?")[0] for path in addresses] == [
        f"/projects/3/masks/{whose}/{index}.png" for index in (3, 1) for whose in ("annotators", "model")
    ]
    for path in addresses:
        kept = browser.get(path)
        assert (kept.status_code, kept.mimetype) == (200, "image/png")
        assert FOREVER in kept.headers["Cache-Control"]


def test_a_mask_is_painted_in_the_colour_of_its_class_and_clear_elsewhere(browser, areas: Store) -> None:
    answer = browser.get("/projects/3/masks/annotators/3.png")
    assert FOREVER not in answer.headers["Cache-Control"]
    pixels = np.asarray(Image.open(io.BytesIO(answer.data)).convert("RGBA"))
    assert pixels.shape == (160, 320, 4)
    assert (pixels[:, :159, 3] == 0).all()
    assert (pixels[:, 170:, :3] == list(bytes.fromhex(masks.colour(2)[1:]))).all()
    assert set(pixels[:, 170:, 3].ravel().tolist()) == {masks.INSIDE}
    assert (pixels[:, 160, 3] == masks.RIM).all()


def test_the_queue_has_the_mask_of_the_model_that_asked(browser, areas: Store) -> None:
    (path,) = re.findall(r'class="mask" [^>]*src="([^"]+)', shown(browser, "queue"))
    path = html.unescape(path)
    assert path.startswith(f"/projects/3/masks/asked/6.png?digest={masks.digest(painted(LEFT))}&")
    kept = browser.get(path)
    assert FOREVER in kept.headers["Cache-Control"]
    # With the classes in another order, the same mask has another colour.
    project = areas.projects.find(3)
    turned = (
        project.label_config.replace(f'"{CAT}"', '"x"').replace(ESCAPED_DOG, CAT).replace('"x"', f'"{ESCAPED_DOG}"')
    )
    areas.projects.set(project.id, label_config=turned)
    assert path not in html.unescape(shown(browser, "queue"))
    assert FOREVER not in browser.get(path).headers["Cache-Control"]
    assert (np.asarray(Image.open(io.BytesIO(kept.data)).convert("RGBA"))[:, :150, 3] > 0).all()


def test_what_has_no_mask_is_not_found(browser, areas: Store) -> None:
    """Nothing is painted in 2 and 7; 0 is not in the queue, 5 not in the holdout."""
    too_large = f"asked/{10**30}", f"model/{2**40}"
    for path in ("asked/7", "asked/0", "annotators/2", "annotators/5", "model/99", "others/3", *too_large):
        assert browser.get(f"/projects/3/masks/{path}.png").status_code == 404


def test_labeling_the_rest_tells_how_many_boxes_will_be_wrong_and_missed(browser, boxes: Store, tmp_path) -> None:
    path = Files.of(tmp_path, boxes.projects.find(3).id).output(0, "boxes")
    found = np.load(path)
    found[-1, :2] = [0.1, 0.1, 0.2, 0.2, 0.8, 0], [0.5, 0.5, 0.2, 0.2, 0.3, 1]  # the last is not labeled
    np.save(path, found)
    told = browser.get("/api/projects/3/final?confidence=0").get_json()
    page = text_of(browser.get("/projects/3/final?percent=0").text)
    says = re.search(r"They have (\d+) box: about ([\d.]+) of these will be wrong, and about ([\d.]+) more", page)
    assert int(says[1]) == told["objects"]["shown"] == 1
    expected = [told["objects"][name] for name in ("wrong", "missed")]
    assert [float(says[2]), float(says[3])] == pytest.approx(expected, abs=0.5)
    assert 0 < expected[0] < 1
    assert "every box is right and none is missing" in page


def test_predictions_of_another_problem_are_not_drawn(browser, boxes: Store) -> None:
    key = boxes.projects.find(3).id
    serve(boxes, key, 2, [Ask(9, 0.1, AskRole.QUERY, CAT, 0.6)])
    assert "<rect" not in shown(browser, "queue")
    assert browser.get("/projects/3/masks/asked/8.png").status_code == 404


def test_images_are_compared_once_as_long_as_model_and_answer_stay(pages, areas: Store, monkeypatch) -> None:
    compared = []
    counts = Segmentation.counts
    monkeypatch.setattr(Segmentation, "counts", lambda *a: compared.append(a) or counts(*a))
    assert [page_of(pages).problem.quality_of(value) for value in page_of(pages).compared()] == [1, 0.5, 1, 0]
    assert len(compared) == 4
    answer(areas, {4: painted(LEFT), 9: painted(LEFT)})
    assert len(page_of(pages).compared()) == 4
    assert len(compared) == 5  # 9 is not of the holdout
    for path in ("/projects/3/final", "/api/projects/3/final"):  # which goes by the same holdout
        assert pages.test_client().get(path).status_code == 200
    assert len(compared) == 5


def test_a_page_does_not_wait_for_a_large_holdout(pages, browser, boxes: Store, monkeypatch) -> None:
    monkeypatch.setattr("backend.status.predictions.COMPARED_AT_ONCE", 1)
    monkeypatch.setattr("backend.dashboard.project_page.BUDGET_S", -1.0)
    assert "1 of 4 labeled random images are compared so far" in text_of(shown(browser, "worst"))
    assert worst_images(page_of(pages), 8).compared == 2  # it went on
    browser.get("/projects/3/figures/reliability.json")  # a figure waits for all
    assert worst_images(page_of(pages), 8).compared == 4


def test_many_boxes_are_bounded_and_the_wrong_ones_stay() -> None:
    target = [[CAT, 0.001 * i, 0.0, 0.001, 0.001] for i in range(300)]
    sides = BoxOverlay().sides([[*target[0], 0.9]], target, (320, 160))
    assert len(sides.annotators.boxes) == 100
    assert {box.kind for box in sides.annotators.boxes} == {"miss"}
    assert sides.summary == f"1 found, 299 missed (299 {CAT}), 0 false alarms"


def test_a_name_lies_inside_of_what_it_names() -> None:
    ring = np.zeros((9, 9), bool)
    ring[1:8, 1:8] = True
    ring[3:6, 3:5] = False
    row, column = masks.inside(ring)
    assert ring[row, column]
    disc = np.zeros((9, 9), bool)
    disc[2:7, 2:7] = True
    assert masks.inside(disc) == (4, 4)


def test_colours_of_classes_differ() -> None:
    assert len({masks.colour(number) for number in range(1, 61)}) == 60
