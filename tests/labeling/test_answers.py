import pytest
from support.labelings import MOST_FREQUENT, annotation, choices, labeling_of, region

from backend.labeling.answers import AnnotationSummary, summarize, targets_of

SINGLE = labeling_of(choices())
SEVERAL = labeling_of(choices(extra='choice="multiple"'))


def given(*names, skipped=False, control="choice"):
    return annotation(*([region({"choices": list(names)}, name=control)] if names else []), skipped=skipped)


@pytest.mark.parametrize(
    ("annotations", "kind", "target"),
    [
        ([], "none", None),
        ([given("cat")], "labeled", "cat"),
        ([given(skipped=True)], "skipped", None),
        ([given(skipped=True), given("dog")], "labeled", "dog"),
        ([given("cat", skipped=True), given("dog")], "labeled", "dog"),
        ([given("cat"), given("dog"), given("dog")], "labeled", "dog"),
        ([given("cat"), given("dog")], "tie", None),
        ([given("cat"), given("bird")], "labeled", "cat"),
        ([given("bird")], "unusable", None),
        ([given("cat", "dog")], "unusable", None),
        ([given()], "unusable", None),
        ([given("cat", control="another")], "unusable", None),
    ],
)
def test_summarize_takes_the_majority_of_single_choices(annotations, kind, target):
    assert summarize(annotations, SINGLE, MOST_FREQUENT) == AnnotationSummary(kind, target)


@pytest.mark.parametrize(
    ("annotations", "kind", "target"),
    [
        ([given()], "labeled", []),
        ([given("dog", "cat")], "labeled", ["cat", "dog"]),
        ([given("cat", "bird")], "unusable", None),
        ([given(skipped=True)], "skipped", None),
        ([given("cat"), given("bird"), given("cat")], "labeled", ["cat"]),
    ],
)
def test_summarize_takes_several_choices(annotations, kind, target):
    assert summarize(annotations, SEVERAL, MOST_FREQUENT) == AnnotationSummary(kind, target)


def test_targets_of_keeps_every_vote_that_can_be_learned():
    votes = [given("dog"), given("cat", skipped=True), given("bird"), given("dog"), given("cat")]
    assert targets_of(votes, SINGLE) == ["dog", "dog", "cat"]
