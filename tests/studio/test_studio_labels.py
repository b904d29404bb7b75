import re

import pytest

from backend.demo.annotator import Annotator
from backend.errors import ImageError, ProjectError
from backend.labeling.choices import Answer, LabelSpec, aggregate, image_ref, prediction_result, read_label_config
from backend.studio.types import AnnotationRecord

IMAGE = '<Image name="image" value="$image"/>'
PAIR = '<Choice value="cat"/><Choice value="dog"/>'
SPEC = LabelSpec("choice", "image", "image", ("cat", "dog"))


def config(*tags):
    return f"<View>{''.join(tags)}</View>"


def choices(inner=PAIR, name="choice", to="image", extra=""):
    return f'<Choices name="{name}" toName="{to}" {extra}>{inner}</Choices>'


def given(*labels, skipped=False, control="choice"):
    region = {"from_name": control, "to_name": "image", "type": "choices", "value": {"choices": list(labels)}}
    return AnnotationRecord(1, (region,) if labels else (), skipped)


def test_read_label_config_finds_the_choice_on_the_image():
    assert read_label_config(config(IMAGE, choices())) == SPEC


def test_read_label_config_looks_into_nested_views_and_any_case_of_tags():
    nested = '<View style="x"><choices name="choice" toName="image"><View><Choice value="cat"/></View>'
    assert read_label_config(config(f"<View>{IMAGE}</View>", nested, '<choice value="dog"/></choices></View>')) == SPEC


def test_read_label_config_takes_the_alias_that_annotations_hold():
    spec = read_label_config(config(IMAGE, choices('<Choice value="Adult cat" alias="cat"/><Choice value="dog"/>')))
    assert spec.classes == ("cat", "dog")


def test_read_label_config_takes_the_first_of_several_pairs_and_says_so():
    spec = read_label_config(
        config(
            '<Text name="text" value="$text"/>',
            '<Image name="left" value="$a"/><Image name="right" value="$b"/>',
            choices(name="about_text", to="text"),
            choices(name="second", to="right"),
            choices(name="third", to="left"),
        )
    )
    assert (spec.control_name, spec.object_name, spec.data_key) == ("second", "right", "b")
    assert "3 <Choices> and 2 <Image>" in spec.notice
    assert "'second' on 'right'" in spec.notice


def test_read_label_config_prefers_a_single_choice_to_a_multiple_one():
    several = choices(name="several", extra='choice="multiple"')
    spec = read_label_config(config(IMAGE, several, choices(name="one", extra='choice="single-radio"')))
    assert spec.control_name == "one"
    alone = read_label_config(config(IMAGE, several))
    assert alone.control_name == "several"
    assert "more than one are left out" in alone.notice


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no labeling interface yet"),
        ("<View>", "not valid XML"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><View>&a;</View>', "XML entities"),
        (config(choices()), "no <Image> tag"),
        (config(IMAGE), "no <Choices> tag"),
        (config(IMAGE, '<Text name="t" value="$t"/>', choices(to="t")), "is not about an <Image>"),
        (config('<Image name="image" value="image.png"/>', choices()), 'give it value="$image"'),
        (config('<Image name="image" valueList="$images"/>', choices()), 'give it value="$image"'),
        (config(IMAGE, choices(extra='perRegion="true"')), "is about regions"),
        (config(IMAGE, choices("", extra='value="$options"')), "takes its choices from each task"),
        (config(IMAGE, choices('<Choice value="a"><Choice value="b"/></Choice>')), "choices within choices"),
        (config(IMAGE, choices('<Choice value="cat"/>')), "at least two"),
    ],
)
def test_read_label_config_says_what_to_add(text, says):
    with pytest.raises(ProjectError, match=re.escape(says)) as caught:
        read_label_config(text)
    assert "\n" not in str(caught.value)


def test_read_label_config_understands_every_template_of_label_studio(person: Annotator):
    found = {}
    for template in person.call("GET", "/api/templates/")["templates"]:
        try:
            found[template["title"]] = read_label_config(template["config"])
        except ProjectError as error:
            found[template["title"]] = str(error)
    specs = {title: spec for title, spec in found.items() if isinstance(spec, LabelSpec)}
    assert len(found) > 50
    assert specs["Image Classification"].classes == ("Adult content", "Weapons", "Violence")
    assert specs["Image Classification"].notice is None
    assert all(spec.notice for spec in specs.values() if spec.object_name not in {"image"})
    assert all("<Image" in error or "<Choices" in error for error in found.values() if isinstance(error, str))


@pytest.mark.parametrize(
    ("data", "key", "expected"),
    [
        ({"image": " /data/upload/1/a.png "}, "image", "/data/upload/1/a.png"),
        ({"a.b": "flat"}, "a.b", "flat"),
        ({"a": {"b": ["x", "y"]}}, "a.b[1]", "y"),
        ({"host": "h", "file": "a b.png"}, "https://$host/img?f=$file", "https://h/img?f=a b.png"),
    ],
)
def test_image_ref_finds_the_address(data, key, expected):
    assert image_ref(data, key) == expected


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({}, "without an image"),
        ({"image": None}, "without an image"),
        ({"image": "  "}, "without an image"),
        ({"image": ["a", "b"]}, "list of 2 images"),
        ({"image": {"url": "a"}}, "not an address but a dict"),
    ],
)
def test_image_ref_refuses_what_is_not_one_address(data, says):
    with pytest.raises(ImageError, match=says):
        image_ref(data, "image")


@pytest.mark.parametrize("data", [[1, 2], "text", 3, None])
def test_image_ref_refuses_data_that_is_no_object(data):
    with pytest.raises(ImageError, match="whose data is not an object"):
        image_ref(data, "image")


def test_data_key_of_a_template_value_is_the_whole_text():
    spec = read_label_config(config('<Image name="image" value="https://host/$name"/>', choices()))
    assert image_ref({"name": "1.png"}, spec.data_key) == "https://host/1.png"


@pytest.mark.parametrize(
    ("annotations", "answer"),
    [
        ([], Answer("none")),
        ([given("cat")], Answer("labeled", "cat")),
        ([given(skipped=True)], Answer("skipped")),
        ([given(skipped=True), given("dog")], Answer("labeled", "dog")),
        ([given("cat", skipped=True), given("dog")], Answer("labeled", "dog")),
        ([given("cat"), given("dog"), given("dog")], Answer("labeled", "dog")),
        ([given("cat"), given("dog")], Answer("tie")),
        ([given("cat"), given("bird")], Answer("labeled", "cat")),
        ([given("bird")], Answer("unusable")),
        ([given("cat", "dog")], Answer("unusable")),
        ([given()], Answer("unusable")),
        ([given("cat", control="another")], Answer("unusable")),
    ],
)
def test_aggregate_takes_the_majority(annotations, answer):
    assert aggregate(annotations, SPEC) == answer


def test_prediction_result_reads_back_as_the_same_answer():
    result = prediction_result("dog", SPEC, score=0.5)
    record = AnnotationRecord(1, tuple(result), False)
    assert aggregate([record], SPEC) == Answer("labeled", "dog")
    assert result[0]["score"] == 0.5


@pytest.mark.parametrize("value", [{"choices": 5}, {"choices": "cat"}, {"choices": None}, "cat", ["cat"], None, {}])
def test_aggregate_survives_annotations_of_any_shape(value):
    """Label Studio takes them by its API: such an answer is unusable, and no other suffers."""
    region = {"from_name": "choice", "to_name": "image", "type": "choices", "value": value}
    for result in ((region,), (region, "cat"), ("cat",), (7, None)):
        odd = AnnotationRecord(1, result, False)
        assert aggregate([odd], SPEC).label is None
