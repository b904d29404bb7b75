from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.errors import ProjectError
from backend.labeling.paths import MAX_DEPTH, choice_paths, path_name, path_of

PATHS = st.lists(st.text(alphabet="a/\\ ", min_size=1, max_size=6), min_size=1, max_size=4).map(tuple)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (("cat",), "cat"),
        (("animal", "cat"), "animal / cat"),
        (("n/a",), "n/a"),
        (("a / b",), r"a \/ b"),
        (("a /", "b"), r"a \/ / b"),
        (("a", "/ b"), r"a / \/ b"),
        ((r"a \/ b",), r"a \\/ b"),
    ],
)
def test_a_path_reads_as_people_write_it(path, name):
    assert path_name(path) == name
    assert path_of(name) == path


@given(PATHS)
def test_any_path_comes_back_from_its_name(path):
    assert path_of(path_name(path)) == path


def paths(text):
    return choice_paths(ElementTree.fromstring(f"<Taxonomy>{text}</Taxonomy>"))


def test_choice_paths_lists_parents_before_their_children():
    text = '<Choice value="a"><Choice value="b"/><View><Choice value="c"/></View></Choice><Choice value="d"/>'
    assert paths(text) == [(("a",), False), (("a", "b"), True), (("a", "c"), True), (("d",), True)]


def test_choice_paths_leaves_out_what_has_no_name_or_stands_there_already():
    text = (
        '<Choice value=""><Choice value="b"/></Choice><Choice value="d"/><Choice value="d"><Choice value="e"/></Choice>'
    )
    assert paths(text) == [(("d",), True)]


def test_choice_paths_ends_at_a_depth_that_nobody_needs():
    def deep(levels):
        return '<Choice value="a">' * levels + "</Choice>" * levels

    assert len(paths(deep(MAX_DEPTH))) == MAX_DEPTH
    with pytest.raises(ProjectError, match="levels"):
        paths(deep(MAX_DEPTH + 1))
