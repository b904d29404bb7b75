"""What every labeling of the registry does, whatever its control tag."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.labelings import IMAGE, MOST_FREQUENT, TREE, annotation, choices, labeling_of, region, tag, view

from backend.errors import ProjectError
from backend.labeling.answers import summarize
from backend.labeling.base import Item
from backend.labeling.reader import read_labeling
from backend.labeling.registry import LABELINGS

ODD_NAMES = '<Choice value="a / b"/><Choice value="a"><Choice value="b"/><Choice value="/ c"/></Choice>'
CONTROLS = {
    "choices": choices(),
    "choices, multiple": choices(extra='choice="multiple"'),
    "choices, nested": choices(TREE, extra='allowNested="true"'),
    "choices, nested and multiple": choices(ODD_NAMES, extra='allowNested="true" choice="multiple"'),
    "taxonomy": tag("Taxonomy", ODD_NAMES),
    "taxonomy, one usage": tag("Taxonomy", TREE, extra='maxUsages="1"'),
    "taxonomy, leaves": tag("Taxonomy", TREE, extra='leafsOnly="true"'),
    "rating": tag("Rating", "", extra='maxRating="7"'),
}
LABELINGS_TRIED = {name: labeling_of(text) for name, text in CONTROLS.items()}
SINGLE = [name for name, labeling in LABELINGS_TRIED.items() if labeling.problem == "single_label"]
SEVERAL = [name for name in LABELINGS_TRIED if name not in SINGLE]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["cat", "animal", "3"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["choices", "x"]), inner, max_size=2),
    max_leaves=8,
)


def test_every_control_tag_of_the_registry_is_tried_with_both_kinds_of_problems():
    """Those whose answers are regions have contracts of their own."""
    of_the_image = {name for name in LABELINGS if not name.endswith("labels")}
    assert {name.split(",")[0] for name in CONTROLS} == of_the_image
    assert all(key == info.tag.lower() for key, info in LABELINGS.items())
    assert len(SINGLE) >= 3
    assert len(SEVERAL) >= 3


@pytest.mark.parametrize("name", LABELINGS_TRIED)
def test_a_labeling_keeps_its_contract(name):
    labeling = LABELINGS_TRIED[name]
    assert len(set(labeling.classes)) == len(labeling.classes) >= 2
    assert (labeling.control, labeling.data_key, labeling.notice) == ("choice", "image", None)


@pytest.mark.parametrize("name", SINGLE)
def test_each_class_comes_back_from_its_result(name):
    labeling = LABELINGS_TRIED[name]
    for label in labeling.classes:
        (shown,) = labeling.result(label, Item(640, 480))
        assert {key: shown[key] for key in ("from_name", "to_name", "type")} == {
            "from_name": "choice",
            "to_name": "image",
            "type": name.split(",")[0],
        }
        assert labeling.target([shown]) == label


@pytest.mark.parametrize("name", SEVERAL)
@given(data=st.data())
def test_any_set_of_classes_comes_back_from_its_result(name, data):
    labeling = LABELINGS_TRIED[name]
    chosen = data.draw(st.sets(st.sampled_from(labeling.classes)))
    target = [label for label in labeling.classes if label in chosen]
    assert labeling.target(labeling.result(target, Item())) == target


@pytest.mark.parametrize("name", LABELINGS_TRIED)
@pytest.mark.parametrize("prediction", [None, "bird", ["bird"], [], "", 3, [None], [["cat"]]])
def test_a_prediction_of_other_classes_shows_nothing(name, prediction):
    assert LABELINGS_TRIED[name].result(prediction, Item()) == []


@pytest.mark.parametrize("name", SEVERAL)
def test_a_prediction_shows_nothing_where_one_class_is_gone(name):
    labeling = LABELINGS_TRIED[name]
    assert labeling.result([labeling.classes[0], "bird"], Item()) == []


@pytest.mark.parametrize("name", LABELINGS_TRIED)
@pytest.mark.parametrize(
    "value", [{"K": 500}, {"K": "cat"}, {"K": None}, {"K": {}}, {"K": [7]}, "cat", ["cat"], None, {}]
)
def test_annotations_of_any_form_are_unusable_and_no_other_suffers(name, value):
    """Label Studio takes them by its API."""
    kind = name.split(",")[0]
    value = {kind: value["K"]} if isinstance(value, dict) and "K" in value else value
    for result in ((region(value, kind),), (region(value, kind), "cat"), ("cat",), (7, None)):
        summary = summarize([annotation(*result)], LABELINGS_TRIED[name], MOST_FREQUENT)
        assert (summary.kind, summary.target) == ("unusable", None)


@pytest.mark.parametrize("name", LABELINGS_TRIED)
@given(answer=JSON)
def test_any_answer_is_a_target_of_known_classes_or_none(name, answer):
    labeling = LABELINGS_TRIED[name]
    kind = name.split(",")[0]
    for value in ({kind: answer}, answer):
        target = labeling.target([region(value, kind)])
        names = target if isinstance(target, list) else [target]
        assert target is None or set(names) <= set(labeling.classes)


@pytest.mark.parametrize("kind", LABELINGS)
def test_a_control_tag_about_something_else_is_refused(kind):
    text = tag(LABELINGS[kind].tag, TREE, to="text")
    with pytest.raises(ProjectError, match="is not about an <Image>"):
        read_labeling(view(IMAGE, '<Text name="text" value="$text"/>', text))
