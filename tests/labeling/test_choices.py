import pytest
from support.labelings import TREE, choices, labeling_of, region

from backend.labeling.base import Item

MULTIPLE = 'choice="multiple"'
NESTED = 'allowNested="true"'


def said(*names):
    return [region({"choices": list(names)})]


def test_choices_hold_the_alias_that_annotations_hold():
    labeling = labeling_of(choices('<Choice value="Adult cat" alias="cat"/><Choice value="dog"/><Choice value="dog"/>'))
    assert labeling.classes == ("cat", "dog")


def test_choices_may_stand_in_views_with_headers():
    inner = '<View><Header value="h"/><Choice value="cat"/></View><Choice value="dog"/>'
    assert labeling_of(choices(inner)).classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("result", "target"),
    [
        (said("cat"), "cat"),
        (said(["cat"]), "cat"),  # allowNested was on when it was answered
        (said(), None),
        ([], None),
        (said("bird"), None),
        (said("cat", "dog"), None),
        ([*said("cat"), *said("dog")], None),
        ([region({"choices": ["cat"]}, name="another")], None),
        ([region({"choices": ["dog"]}, name="another"), *said("cat")], "cat"),
        ([region({"choices": ["cat"]}, kind="rating")], None),
    ],
)
def test_a_single_choice_is_a_class(result, target):
    assert labeling_of(choices()).target(result) == target


@pytest.mark.parametrize(
    ("result", "target"),
    [
        (said("dog", "cat"), ["cat", "dog"]),
        (said("dog"), ["dog"]),
        (said("dog", "dog"), ["dog"]),
        ([*said("dog"), *said("cat")], ["cat", "dog"]),
        (said(), []),
        ([], []),  # submitted without a choice
        ([region({"choices": ["x"]}, name="another")], []),
        (said("cat", "bird"), None),
    ],
)
def test_several_choices_are_a_list_in_the_order_of_the_configuration(result, target):
    labeling = labeling_of(choices(extra=MULTIPLE))
    assert (labeling.problem, labeling.classes) == ("multi_label", ("cat", "dog"))
    assert labeling.target(result) == target


def test_no_answer_is_no_target_where_the_question_may_not_have_been_asked():
    labeling = labeling_of(choices(extra=f'{MULTIPLE} visibleWhen="choice-selected"'))
    assert labeling.target([]) is None
    assert labeling.target(said()) == []
    assert labeling.target(said("cat")) == ["cat"]


def test_the_leaves_of_nested_choices_are_the_classes():
    labeling = labeling_of(choices(TREE, extra=NESTED))
    assert (labeling.problem, labeling.classes) == ("single_label", ("animal / cat", "animal / dog", "plant"))
    assert labeling.target(said(["animal", "cat"])) == "animal / cat"
    assert labeling.target(said(["plant"])) == "plant"
    assert labeling.target(said("plant")) == "plant"
    assert labeling.target(said(["animal"])) is None
    assert labeling.target(said(["animal", "bird"])) is None
    assert labeling.target(said(["animal", "cat"], ["animal", "dog"])) is None


def test_a_parent_among_nested_choices_only_repeats_its_children():
    """Label Studio's interface sends it along as soon as all below it are chosen."""
    labeling = labeling_of(choices(TREE, extra=f"{NESTED} {MULTIPLE}"))
    both = ["animal / cat", "animal / dog"]
    assert labeling.target(said(["animal"], ["animal", "cat"], ["animal", "dog"])) == both
    assert labeling.target(said(["animal"])) is None


def test_a_flat_list_with_allow_nested_has_plain_classes():
    labeling = labeling_of(choices(extra=NESTED))
    assert labeling.classes == ("cat", "dog")
    assert labeling.target(said(["dog"])) == "dog"


def test_the_result_names_control_image_and_choices():
    assert labeling_of(choices()).result("dog", Item()) == said("dog")
    assert labeling_of(choices(extra=MULTIPLE)).result(["cat", "dog"], Item()) == said("cat", "dog")


def test_the_result_of_nested_choices_has_paths_and_what_label_studio_checks():
    (shown,) = labeling_of(choices(TREE, extra=NESTED)).result("animal / dog", Item())
    assert shown["value"] == {"choices": [["animal", "dog"]], "choice": {"choices": ["dog"]}}


@pytest.mark.parametrize("name", ["choices", "id", "points", "brushlabels"])
def test_nested_choices_named_like_a_key_of_label_studio_show_nothing(name):
    """With ``id`` its interface showed an error instead of the image."""
    labeling = labeling_of(choices(TREE, name=name, extra=NESTED))
    assert labeling.result("plant", Item()) == []
    assert labeling.target([region({"choices": [["plant"]]}, name=name)]) == "plant"
