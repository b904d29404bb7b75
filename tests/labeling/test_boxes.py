"""Boxes from regions and back, for every control tag that draws them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.labelings import IMAGE, LABELS, REGIONS, annotation, labeling_of, region, tag, view

from backend.config import ProjectConfig
from backend.errors import ConfigError, ProjectError
from backend.labeling.answers import summarize
from backend.labeling.base import Item
from backend.labeling.project import check_config
from backend.labeling.reader import read_labeling
from backend.labeling.shapes import KEYPOINT_EXTENT
from model.problems.detection import Detection

TRIED = {name: read_labeling(view(IMAGE, text), problem="detection") for name, text in REGIONS.items()}
BOXES = TRIED["rectanglelabels"]
DETECTION = Detection()
shares = st.integers(0, 60).map(lambda number: number / 100)
sizes = st.integers(1, 40).map(lambda number: number / 100)
targets = st.lists(st.tuples(st.sampled_from(["cat", "dog"]), shares, shares, sizes, sizes), max_size=4).map(
    lambda boxes: sorted(([*box] for box in {*boxes}), key=lambda box: (box[0] != "cat", *box[1:]))
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["cat", "x", "3"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", "y", "width"]), inner, max_size=3)
    ),
    max_leaves=6,
)


def drawn(x=10, y=10, width=20, height=20, label="cat", **more):
    value = {"x": x, "y": y, "width": width, "height": height, "rotation": 0, "rectanglelabels": [label], **more}
    return {**region(value, "rectanglelabels"), "original_width": 200, "original_height": 100}


@pytest.mark.parametrize("name", TRIED)
@given(target=targets)
def test_any_boxes_come_back_from_their_regions(name, target):
    labeling = TRIED[name]
    regions = labeling.result(target, Item(200, 100))
    read = labeling.target(regions)
    assert labeling.target(labeling.result(target, Item())) is not None
    if name in ("keypointlabels", "labels, key points"):  # a square around the centre of each
        assert len(read) <= len(target)
        return
    assert len(read) == len(target)
    assert DETECTION.quality(read, target) == 1
    assert [box[0] for box in read] == [box[0] for box in target]
    assert [box[1:] for box in read] == [pytest.approx(box[1:], abs=2e-5) for box in target]
    assert all(shown["original_width"] == 200 for shown in regions)


def test_a_pair_writes_two_regions_of_one_id_and_reads_either_order():
    labeling = TRIED["labels, rectangles"]
    shape, named = labeling.result([["dog", 0.1, 0.2, 0.3, 0.4, 0.75]], Item(640, 480))
    assert (shape["type"], shape["from_name"]) == ("rectangle", "drawn")
    assert (named["type"], named["from_name"], named["value"]["labels"]) == ("labels", "choice", ["dog"])
    assert shape["id"] == named["id"]
    assert shape["score"] == 0.75
    assert labeling.target([named, shape]) == labeling.target([shape, named]) == [["dog", 0.1, 0.2, 0.3, 0.4]]
    assert labeling.target([shape]) is None  # nobody has said what it is
    assert labeling.refusal([shape]) == "unknown"


def test_classes_are_aliases_and_a_single_one_is_enough():
    assert BOXES.classes == ("cat", "dog")
    assert labeling_of(tag("RectangleLabels", '<Label value="Tumor"/>')).classes == ("Tumor",)
    assert (BOXES.problem, BOXES.control, BOXES.data_key, BOXES.notice) == ("detection", "choice", "image", None)


def test_a_key_point_stands_for_a_square_and_is_drawn_at_its_centre():
    labeling = TRIED["keypointlabels"]
    point = region({"x": 50, "y": 25, "width": 0.2, "keypointlabels": ["cat"]}, "keypointlabels")
    ((_, left, top, width, height),) = labeling.target([{**point, "original_width": 400, "original_height": 200}])
    assert (400 * width, 200 * height) == pytest.approx((KEYPOINT_EXTENT * 200,) * 2)
    (back,) = labeling.result([["cat", left, top, width, height]], Item(400, 200))
    assert (back["value"]["x"], back["value"]["y"]) == pytest.approx((50, 25), abs=1e-3)


@pytest.mark.parametrize(
    ("regions", "target"),
    [
        ([], []),  # nothing is there: a valid answer
        ([drawn()], [["cat", 0.1, 0.1, 0.2, 0.2]]),
        ([drawn(), drawn()], [["cat", 0.1, 0.1, 0.2, 0.2]]),  # doubled
        ([drawn(), drawn(label="dog")], [["cat", 0.1, 0.1, 0.2, 0.2], ["dog", 0.1, 0.1, 0.2, 0.2]]),
        ([drawn(x=-10, y=90)], [["cat", 0.0, 0.9, 0.1, 0.1]]),  # beyond the image
        ([drawn(width=0), drawn()], [["cat", 0.1, 0.1, 0.2, 0.2]]),  # of no area
        ([drawn(width=0)], None),
        ([drawn(x=120)], None),
        ([drawn(rotation=90, x=50)], [["cat", 0.4, 0.1, 0.1, 0.4]]),  # 40 x 20 pixels become 20 x 40
        ([drawn(label="horse")], None),
        ([drawn(x="10")], None),
        ([drawn(x=float("nan"))], None),
        ([drawn(x=None)], None),
        ([drawn(), 7], None),
        ([{"from_name": "other", "type": "choices", "value": {"choices": ["a"]}}], []),
        ([drawn(x=number % 25 * 4, y=number // 25 * 5, width=3, height=3) for number in range(500)], 500),
    ],
)
def test_boxes_are_right_or_none(regions, target):
    found = BOXES.target(regions)
    assert (len(found) if target == 500 else found) == target


@pytest.mark.parametrize(
    ("regions", "refusal"),
    [
        ([drawn(label="horse")], "unknown"),
        ([drawn(x="10")], "unusable"),
        ([drawn(width=0)], "unusable"),
        (["cat"], "unusable"),
        ([{**drawn(), "type": "choices"}], "unusable"),
        ([drawn(rectanglelabels=[])], "unknown"),
        ([drawn(rectanglelabels="cat")], "unusable"),
    ],
)
def test_why_boxes_are_not_learned(regions, refusal):
    assert BOXES.target(regions) is None
    assert BOXES.refusal(regions) == refusal


def test_no_box_is_no_answer_where_one_is_required_or_the_tag_may_be_hidden():
    assert labeling_of(tag("RectangleLabels", LABELS, extra='required="true"')).target([]) is None
    hidden = f'<View visibleWhen="choice-selected">{tag("RectangleLabels", LABELS)}</View>'
    assert labeling_of(hidden).target([]) is None


@pytest.mark.parametrize("name", TRIED)
@given(value=JSON, label=JSON)
def test_any_answer_is_boxes_that_fit_or_none(name, value, label):
    """Label Studio takes regions of any form by its API."""
    labeling = TRIED[name]
    kind = name.split(",")[0]
    for content in (
        value,
        {"x": value, "y": 1, "width": 2, "height": value, kind: label},
        {"points": value, kind: ["cat"]},
    ):
        for result in ([region(content, kind)], [region(content, kind), value], [drawn(), region(content, kind)]):
            target = labeling.target(result)
            assert target is None or DETECTION.fits(target, labeling.classes)
            assert target is not None or labeling.refusal(result)


@pytest.mark.parametrize(
    "prediction", [None, "cat", ["cat"], [["cat"]], [["horse", 0, 0, 1, 1]], [["cat", 0, 0, 2, 1]], 3]
)
def test_a_prediction_of_another_form_shows_nothing(prediction):
    assert BOXES.result(prediction, Item()) == []


def test_annotators_are_merged_by_overlap():
    one = annotation(drawn(), drawn(x=60))
    two = annotation(drawn(x=12), drawn(x=30, y=60))
    three = annotation(drawn(x=14, label="dog"))
    merged = summarize([one, two, three], BOXES, DETECTION)
    assert (merged.kind, merged.target) == ("labeled", [["cat", pytest.approx(0.12), 0.1, 0.2, 0.2]])


@pytest.mark.parametrize(
    ("tags", "says"),
    [
        (tag("RectangleLabels", "", extra='value="$labels"'), "takes its labels from each task"),
        (tag("RectangleLabels", ""), "at least one <Label>"),
        (tag("Labels", LABELS), "nothing to draw with"),
        (tag("Labels", LABELS) + '<Rectangle name="drawn" toName="other"/>', "nothing to draw with"),
    ],
)
def test_boxes_that_cannot_be_learned_say_why(tags, says):
    with pytest.raises(ProjectError, match=says):
        read_labeling(view(IMAGE, '<Image name="other" value="$other"/>', tags))


def test_the_problem_is_chosen_by_name():
    text = view(IMAGE, tag("Choices", '<Choice value="a"/><Choice value="b"/>', "first"), REGIONS["rectanglelabels"])
    assert read_labeling(text).control == "first"
    assert read_labeling(text, problem="detection").control == "choice"
    with pytest.raises(ProjectError, match="learned as single_label, not as the problem 'multi_label'"):
        read_labeling(text, problem="multi_label")
    with pytest.raises(ConfigError, match="'boxes' is not one of single_label"):
        ProjectConfig.from_extra_params({"problem": "boxes"})


def test_a_tag_that_prompts_a_model_gives_way():
    smart = tag("KeyPointLabels", LABELS, "points", extra='smart="true"')
    assert labeling_of(smart, REGIONS["rectanglelabels"]).control == "choice"
    assert labeling_of(smart).control == "points"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"learner": "linear"}, "'linear' does not fit detection projects: choose one of auto, detector"),
        ({"encoder": "none"}, "encoder: 'none' does not go with detection projects"),
        ({"learner": "own"}, "'own' does not fit detection"),
        ({"sampler": "entropy"}, "'entropy' needs one posterior"),
        ({"gain_per": "object", "sampler": "core_set"}, "gain_per: 'object' is for boxes, and for the sampler uncert"),
        ({"recipe": "paper"}, "recipe: 'paper' does not go with detection projects"),
    ],
)
def test_settings_that_do_not_fit_boxes_are_refused_with_what_does(given, says):
    with pytest.raises(ConfigError, match=says):
        check_config(ProjectConfig.from_extra_params(given), BOXES)


def test_settings_that_fit_boxes_are_taken():
    for params in (
        {},
        {"gain_per": "object"},
        {"learner": "detector"},
        {"sampler": "core_set"},
        {"sampler": "least_confidence"},
    ):
        check_config(ProjectConfig.from_extra_params(params), BOXES)
