import pytest
from support.labelings import labeling_of, region, tag

from backend.labeling.base import Item


def rating(extra=""):
    return labeling_of(tag("Rating", "", extra=extra))


def said(stars):
    return [region({"rating": stars}, kind="rating")]


def test_the_classes_are_the_stars_in_their_order():
    assert (rating().problem, rating().classes) == ("single_label", ("1", "2", "3", "4", "5"))
    assert rating('maxRating="10"').classes == tuple(map(str, range(1, 11)))


@pytest.mark.parametrize(
    ("stars", "target"),
    [(3, "3"), (3.0, "3"), (5, "5"), (0, None), (6, None), (-1, None), (2.5, None), (True, None), ("3", None)],
)
def test_the_target_is_the_number_of_stars(stars, target):
    assert rating().target(said(stars)) == target


@pytest.mark.parametrize("stars", [None, [], {}, float("nan"), float("inf")])
def test_what_is_no_number_is_no_target(stars):
    assert rating().target(said(stars)) is None


def test_no_stars_are_no_target():
    assert rating().target([]) is None


def test_the_result_is_a_number():
    assert rating().result("4", Item()) == said(4)
    assert rating().result("6", Item()) == []
