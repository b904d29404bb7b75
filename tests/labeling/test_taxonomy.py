import pytest
from support.labelings import TREE, labeling_of, region, tag

from backend.labeling.base import Item


def taxonomy(inner=TREE, extra=""):
    return labeling_of(tag("Taxonomy", inner, extra=extra))


def said(*paths):
    return [region({"taxonomy": [list(path) for path in paths]}, kind="taxonomy")]


def test_every_node_is_a_class():
    labeling = taxonomy()
    assert labeling.problem == "multi_label"
    assert labeling.classes == ("animal", "animal / cat", "animal / dog", "plant")


def test_leaves_alone_are_classes_where_only_these_can_be_chosen():
    labeling = taxonomy(extra='leafsOnly="true"')
    assert labeling.classes == ("animal / cat", "animal / dog", "plant")
    assert labeling.target(said(["animal"])) is None


@pytest.mark.parametrize(("usages", "problem"), [("1", "single_label"), ("2", "multi_label"), ("", "multi_label")])
def test_one_usage_is_a_single_class(usages, problem):
    assert taxonomy(extra=f'maxUsages="{usages}"').problem == problem


@pytest.mark.parametrize(
    ("result", "target"),
    [
        (said(["plant"], ["animal", "cat"]), ["animal / cat", "plant"]),
        (said(["animal"], ["animal", "cat"]), ["animal", "animal / cat"]),
        (said(), []),
        ([], []),
        (said(["cat"]), None),  # a path begins at the top
        (said(["animal", "Big dog"]), None),  # annotations hold the alias
        (said(["plant"], ["added", "by hand"]), None),
        (said([]), None),
    ],
)
def test_the_target_lists_paths_in_the_order_of_the_configuration(result, target):
    assert taxonomy().target(result) == target


def test_a_single_class_is_one_path():
    labeling = taxonomy(extra='maxUsages="1"')
    assert labeling.target(said(["animal", "dog"])) == "animal / dog"
    assert labeling.target(said(["plant"], ["animal", "dog"])) is None
    assert labeling.target([]) is None


def test_the_result_has_whole_paths():
    assert taxonomy().result(["animal / dog", "plant"], Item()) == said(["animal", "dog"], ["plant"])
    assert taxonomy(extra='maxUsages="1"').result("animal / cat", Item()) == said(["animal", "cat"])
