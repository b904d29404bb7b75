"""Every attribute of Label Studio 1.23.2 for choices and images: it works, changes nothing, or is refused."""

import re
from pathlib import Path

import pytest
from support.labelings import IMAGE, PAIR, TREE, choices, labeling_of, region, tag, view

from backend.errors import ProjectError
from backend.labeling.base import Labeling
from backend.labeling.reader import read_labeling

RATING = tag("Rating", "", "stars")
# What changes how a control tag or the image looks, or what the interface insists on, and no answer.
DISPLAY = {
    "Choices": {
        "showInline": "true",
        "layout": "select",
        "requiredMessage": "please",
        "whenTagName": "stars",  # without visibleWhen
        "whenLabelValue": "a",
        "whenRole": "user",
        "displayMode": "tag",
        "resolver": "csv",
    },
    "Choice": {
        "selected": "true",
        "style": "color: red",
        "hotkey": "a",
        "html": "&lt;b&gt;cat&lt;/b&gt;",
        "hint": "a cat",
        "color": "red",
    },
    "Taxonomy": {
        "showFullPath": "true",
        "pathSeparator": " : ",
        "maxWidth": "300px",
        "minWidth": "300px",
        "dropdownWidth": "300px",
        "placeholder": "choose",
        "legacy": "true",
        "requiredMessage": "please",
    },
    "Rating": {
        "defaultValue": "3",
        "size": "large",
        "icon": "star",
        "hotkey": "r",
        "requiredMessage": "please",
        "visibleWhen": "choice-selected",  # a <Rating> does not heed it
    },
    "Image": {
        "smoothing": "true",
        "resize": "2",
        "width": "50%",
        "height": "50%",
        "maxWidth": "300px",
        "maxHeight": "300px",
        "zoom": "true",
        "negativeZoom": "true",
        "zoomBy": "1.5",
        "zoomControl": "true",
        "grid": "true",
        "gridSize": "10",
        "gridColor": "#fff",
        "brightnessControl": "true",
        "contrastControl": "true",
        "rotateControl": "true",
        "crosshair": "true",
        "selectionControl": "true",
        "showLabels": "true",
        "horizontalAlignment": "center",
        "verticalAlignment": "center",
        "defaultZoom": "original",
        "crossOrigin": "anonymous",
        "lazyOff": "true",
    },
}
# What decides about answers; each has a test of its own below.
DECIDING = {
    "Choices": {
        "choice", "value", "allowNested", "required", "perRegion", "perItem", "layout",
        "visibleWhen", "whenChoiceValue",
    },
    "Choice": {"value", "alias", "readonly"},
    "Taxonomy": {
        "apiUrl", "leafsOnly", "maxUsages", "labeling", "perRegion", "perItem", "value", "required", "visibleWhen",
    },
    "Rating": {"maxRating", "perRegion", "perItem", "required"},
    "Image": {"value", "valueList"},
    "View": {"visibleWhen", "whenChoiceValue", "style"},
}  # fmt: skip


def with_attribute(kind: str, extra: str) -> str:
    """Return a configuration whose tag of this kind has the attribute."""
    if kind == "Image":
        return view(IMAGE.replace("/>", f" {extra}/>"), choices())
    if kind == "Choice":
        return view(IMAGE, choices(f'<Choice value="cat" {extra}/><Choice value="dog"/>'))
    return view(IMAGE, tag(kind, "" if kind == "Rating" else PAIR, extra=extra))


def facts(labeling: Labeling) -> tuple[object, ...]:
    """Return what is learned, and what an annotation without an answer is."""
    return labeling.problem, labeling.classes, labeling.data_key, labeling.notice, labeling.target([])


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in DISPLAY.items() for name in names])
def test_an_attribute_of_how_things_look_changes_nothing(kind: str, name: str) -> None:
    changed = read_labeling(with_attribute(kind, f'{name}="{DISPLAY[kind][name]}"'))
    assert facts(changed) == facts(read_labeling(with_attribute(kind, "")))


@pytest.mark.parametrize(
    ("value", "problem"), [("single", "single_label"), ("single-radio", "single_label"), ("multiple", "multi_label")]
)
def test_choice_says_how_many_are_learned(value: str, problem: str) -> None:
    assert labeling_of(choices(extra=f'choice="{value}"')).problem == problem


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ('choice="radio"', 'has choice="radio", with which Label Studio shows nothing: write single, single-radio or'),
        ('choice="Multiple"', 'has choice="Multiple"'),
        ('layout="row"', "write select, inline or vertical"),
        ('value="$options"', "takes its choices from each task"),
        ('perRegion="true"', "is about regions"),
        ('perItem="true"', "is about regions"),
    ],
)
def test_choices_that_nothing_can_be_learned_from_are_refused(extra: str, says: str) -> None:
    with pytest.raises(ProjectError, match=re.escape(says)):
        labeling_of(choices(extra=extra))


@pytest.mark.parametrize("layout", ["select", "inline", "vertical"])
def test_every_layout_is_read(layout: str) -> None:
    assert labeling_of(choices(extra=f'layout="{layout}"')).classes == ("cat", "dog")


def test_a_flat_list_with_nested_answers_is_read_and_written_as_paths() -> None:
    labeling = labeling_of(choices(extra='allowNested="true"'))
    assert labeling.target([region({"choices": [["cat"]]})]) == "cat"
    (shown,) = labeling.result("dog", None)  # type: ignore[arg-type]
    assert shown["value"]["choices"] == [["dog"]]


@pytest.mark.parametrize("name", ["text", "labels", "sequence", "mylabels"])
def test_a_name_under_which_paths_are_not_shown_is_said(name: str) -> None:
    labeling = labeling_of(choices(TREE, name=name, extra='allowNested="true"'))
    assert labeling.notice is not None
    assert "give the control tag another name" in labeling.notice
    assert labeling_of(choices(name=name)).notice is None


@pytest.mark.parametrize(
    ("kind", "inner", "extra"), [("Choices", PAIR, 'choice="multiple"'), ("Taxonomy", PAIR, ""), ("Taxonomy", TREE, "")]
)
def test_no_answer_is_none_of_them_unless_one_is_required(kind: str, inner: str, extra: str) -> None:
    assert labeling_of(tag(kind, inner, extra=extra)).target([]) == []
    required = labeling_of(tag(kind, inner, extra=f'{extra} required="true"'))
    assert required.target([]) is None
    assert required.refusal([]) == "empty"
    assert required.refusal([region({"choices": ["x"]}, name="another")]) == "other"


@pytest.mark.parametrize("inner", ["", PAIR])
def test_a_rating_may_be_required(inner: str) -> None:
    assert labeling_of(tag("Rating", inner, extra='required="true"')).target([]) is None


HIDDEN = [
    'visibleWhen="choice-selected"',
    'visibleWhen="choice-unselected"',
    'visibleWhen="region-selected"',
    'visibleWhen="choice-selected" whenTagName="stars" whenChoiceValue="x"',
    'whenChoiceValue="x"',
]
SHOWN = [
    'visibleWhen="no-region-selected"',
    'visibleWhen="Choice-Selected"',  # Label Studio does not know it, and shows the tag
    'whenTagName="stars"',
    'whenLabelValue="x"',
]


@pytest.mark.parametrize("kind", ["Choices", "Taxonomy", "View"])
@pytest.mark.parametrize(("extra", "hidden"), [(one, True) for one in HIDDEN] + [(one, False) for one in SHOWN])
def test_what_is_shown_for_some_images_only_comes_last_and_no_answer_says_nothing(
    kind: str, extra: str, hidden: bool
) -> None:
    many = 'choice="multiple"'
    inner = f"<View {extra}>{choices(extra=many)}</View>" if kind == "View" else ""
    inner = inner or tag(kind, extra=f"{extra} {many if kind == 'Choices' else ''}")
    assert labeling_of(inner).target([]) == (None if hidden else [])
    plain = tag("Taxonomy", name="plain") if kind == "Taxonomy" else choices(name="plain", extra=many)
    assert labeling_of(inner, plain).control == ("plain" if hidden else "choice")


def test_a_question_within_a_hidden_view_of_a_view_is_hidden() -> None:
    nested = f'<View visibleWhen="choice-selected"><View>{choices()}</View></View>'
    assert labeling_of(nested, RATING).control == "stars"


@pytest.mark.parametrize("style", ["display: none", "color: red; display:none;", "Display : None"])
def test_a_view_that_is_never_displayed_comes_last(style: str) -> None:
    assert labeling_of(f'<View style="{style}">{choices()}</View>', RATING).control == "stars"
    assert labeling_of(f'<View style="display: flex">{choices()}</View>', RATING).control == "choice"


@pytest.mark.parametrize(
    ("inner", "says"),
    [
        (
            '<Choice value="$first"/><Choice value="dog"/>',
            "the choice '$first' from each task: give the choice an alias",
        ),
        ('<Choice value="up to $10"/><Choice value="more"/>', "the choice 'up to $10' from each task"),
        ('<Choice value="cat" alias=""/><Choice value="dog"/>', "a choice 'cat' with an empty alias"),
        ('<Choice value="cat">Cat</Choice><Choice value="dog"/>', "'cat' with the text 'Cat'"),
        ('<Choice value="cat" readonly="true"/><Choice value="dog"/>', "at least two <Choice> tags"),
    ],
)
def test_choices_whose_answers_would_be_others_are_refused(inner: str, says: str) -> None:
    with pytest.raises(ProjectError, match=re.escape(says)) as caught:
        labeling_of(choices(inner))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("inner", "classes"),
    [
        ('<Choice value="$first" alias="a"/><Choice value="$second" alias="b"/>', ("a", "b")),
        ('<Choice value="5$"/><Choice value="10 $"/>', ("5$", "10 $")),
        ('<Choice value="cat" readonly="true"/><Choice value="dog"/><Choice value="owl"/>', ("cat", "dog", "owl")),
        ('<Choice value="cat">  cat </Choice><Choice value="dog"> </Choice>', ("cat", "dog")),
    ],
)
def test_choices_whose_answers_are_known_are_read(inner: str, classes: tuple[str, ...]) -> None:
    assert labeling_of(choices(inner)).classes == classes


def test_a_taxonomy_takes_no_text_from_tasks() -> None:
    assert labeling_of(tag("Taxonomy", '<Choice value="$1"/><Choice value="$2"/>')).classes == ("$1", "$2")


@pytest.mark.parametrize(
    ("extra", "problem"),
    [
        ("", "multi_label"),
        ('maxUsages="1"', "single_label"),
        ('maxUsages=" 1.0 "', "single_label"),
        ('maxUsages="1.5"', "single_label"),
        ('maxUsages="2"', "multi_label"),
        ('maxUsages=""', "multi_label"),
        ('maxUsages="many"', "multi_label"),
        ('maxUsages="NaN"', "multi_label"),
        ('leafsOnly="true"', "multi_label"),
    ],
)
def test_a_taxonomy_is_learned_by_how_many_may_be_chosen(extra: str, problem: str) -> None:
    assert labeling_of(tag("Taxonomy", extra=extra)).problem == problem


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ('maxUsages="0"', "nothing can be chosen"),
        ('maxUsages="-3"', "nothing can be chosen"),
        ('apiUrl="https://host/tree"', "loads its choices from apiUrl"),
        ('value="$tree"', "takes its choices from each task"),
        ('labeling="true"', "labels regions"),
        ('perRegion="true"', "is about regions"),
        ('perItem="true"', "is about regions"),
    ],
)
def test_a_taxonomy_that_nothing_can_be_learned_from_is_refused(extra: str, says: str) -> None:
    with pytest.raises(ProjectError, match=re.escape(says)):
        labeling_of(tag("Taxonomy", extra=extra))


def test_a_path_that_people_have_added_to_a_taxonomy_is_unknown() -> None:
    labeling = labeling_of(tag("Taxonomy", TREE, extra='legacy="true"'))
    result = [region({"taxonomy": [["animal", "my own"]]}, "taxonomy")]
    assert (labeling.target(result), labeling.refusal(result)) == (None, "unknown")


def test_a_rating_has_as_many_classes_as_stars() -> None:
    assert labeling_of(tag("Rating", "", extra='maxRating="3"')).classes == ("1", "2", "3")


@pytest.mark.parametrize("extra", ['perRegion="true"', 'perItem="true"'])
def test_a_rating_of_regions_is_refused(extra: str) -> None:
    with pytest.raises(ProjectError, match="is about regions"):
        labeling_of(tag("Rating", "", extra=extra))


@pytest.mark.parametrize("more", ["", 'value="$image"'])
def test_several_images_of_a_task_are_refused(more: str) -> None:
    text = view(f'<Image name="image" valueList="$images" {more}/>', choices())
    with pytest.raises(ProjectError, match="shows several images of each task"):
        read_labeling(text)


def test_a_question_for_each_element_of_a_list_is_refused() -> None:
    repeated = f'<Repeater on="$images">{IMAGE.replace("$image", "$images[{{idx}}].url")}{choices()}</Repeater>'
    with pytest.raises(ProjectError, match="is repeated for each element of a list"):
        read_labeling(view(repeated))
    assert labeling_of(f'<Repeater on="$x">{choices(name="each")}</Repeater>', choices()).control == "choice"


@pytest.mark.parametrize(
    ("answer", "target", "refusal"),
    [
        (["cat", "cat"], "cat", None),  # two <Choice> tags of one name are chosen together
        (["cat", "dog"], None, "several"),
        (["bird"], None, "unknown"),
        ([], None, "empty"),
        ([7], None, "unusable"),
        ("cat", None, "unusable"),
    ],
)
def test_each_answer_that_cannot_be_learned_has_its_cause(
    answer: object, target: str | None, refusal: str | None
) -> None:
    labeling = labeling_of(choices(PAIR + '<Choice value="cat"/>'))
    result = [region({"choices": answer})]
    assert labeling.target(result) == target
    if refusal is not None:
        assert labeling.refusal(result) == refusal


def test_a_choice_that_now_has_others_below_it_is_no_class_any_more() -> None:
    labeling = labeling_of(choices(TREE, extra='allowNested="true"'))
    result = [region({"choices": [["animal"]]})]
    assert (labeling.target(result), labeling.refusal(result)) == (None, "unknown")


def test_the_page_lists_every_attribute() -> None:
    page = Path("docs/label-studio.md").read_text()
    rows = {}
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if len(cells) == 3 and cells[0].startswith("`<"):
            for kind in re.findall(r"<(\w+)>", cells[0]):
                rows.setdefault(kind, set()).update(re.findall(r"`(\w+)[=`]", cells[1]))
    for kind in (*DISPLAY, "View"):
        assert set(DISPLAY.get(kind, {})) | DECIDING[kind] <= rows[kind], kind
