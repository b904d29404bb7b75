import re

import pytest
from support.labelings import IMAGE, choices, labeling_of, tag, view

from backend.errors import ProjectError
from backend.labeling.reader import read_labeling

RATING = tag("Rating", "", "stars")
LINES = tag("VectorLabels", '<Label value="road"/>', "lines")
BOXES = tag("RectangleLabels", '<Label value="car"/>', "boxes")


def test_read_labeling_finds_the_choice_on_the_image():
    labeling = read_labeling(view(IMAGE, choices()))
    assert (labeling.problem, labeling.classes) == ("single_label", ("cat", "dog"))
    assert (labeling.control, labeling.data_key, labeling.notice) == ("choice", "image", None)


def test_read_labeling_looks_into_nested_views_and_any_case_of_names():
    nested = '<View style="x"><choices name="choice" toname="image"><View><Choice value="cat"/></View>'
    labeling = read_labeling(view(f"<View>{IMAGE}</View>", nested, '<choice value="dog"/></choices></View>'))
    assert labeling.classes == ("cat", "dog")


def test_read_labeling_takes_the_first_of_several_pairs_and_names_the_others():
    labeling = read_labeling(
        view(
            '<Text name="text" value="$text"/>',
            '<Image name="left" value="$a"/><Image name="right" value="$b"/>',
            choices(name="about_text", to="text"),
            choices(name="second", to="right"),
            choices(name="third", to="left"),
        )
    )
    assert (labeling.control, labeling.data_key) == ("second", "b")
    assert labeling.notice == (
        "PT4AL learns 'second' on 'right' and leaves aside 'about_text' (<Choices>), 'third' (<Choices>); "
        '"control" in the extra params names another one to learn'
    )


def test_read_labeling_says_which_of_several_images_is_learned():
    labeling = read_labeling(view(IMAGE, '<Image name="other" value="$b"/>', choices()))
    assert labeling.notice == "PT4AL learns 'choice' on 'image', one of 2 images"


@pytest.mark.parametrize(
    ("tags", "control", "problem"),
    [
        ((choices(), RATING), "choice", "single_label"),
        # Earlier releases learned choices alone: projects of theirs stay with them.
        ((RATING, choices()), "choice", "single_label"),
        ((BOXES, RATING), "boxes", "detection"),
        ((choices(name="many", extra='choice="multiple"'), RATING), "many", "multi_label"),
        # One choice teaches more than several: projects that rely on it stay with it.
        ((choices(name="many", extra='choice="multiple"'), choices(extra='choice="single-radio"')), "choice", None),
        ((choices(name="many", extra='choice="multiple"'), RATING, choices()), "choice", None),
        ((RATING, choices(name="many", extra='choice="multiple"'), choices()), "choice", None),
        ((RATING, choices(name="many", extra='choice="multiple"')), "many", None),
        # What some images are not asked comes last.
        ((choices(name="breed", extra='visibleWhen="choice-selected" whenTagName="stars"'), RATING), "stars", None),
        ((f'<View visibleWhen="choice-unselected">{choices(name="breed")}</View>', RATING), "stars", None),
        ((choices(name="breed", extra='visibleWhen="no-region-selected"'), RATING), "breed", None),
        ((choices(name="breed", extra='visibleWhen="choice-selected"'),), "breed", "single_label"),
        # One that cannot be learned gives way to the next.
        ((choices(extra='perRegion="true"'), RATING), "stars", None),
    ],
)
def test_read_labeling_tries_control_tags_in_this_order(tags, control, problem):
    labeling = labeling_of(*tags)
    assert labeling.control == control
    assert problem in (None, labeling.problem)


@pytest.mark.parametrize("control", ["choice", "many", "stars"])
def test_read_labeling_reads_the_control_tag_that_is_named(control):
    tags = (choices(), choices(name="many", extra='choice="multiple"'), RATING, BOXES)
    labeling = labeling_of(*tags, control=control)
    assert labeling.control == control
    assert "'boxes' (<RectangleLabels>)" in labeling.notice


@pytest.mark.parametrize(
    ("control", "says"),
    [
        (
            "chioce",
            "control 'chioce': no control tag has this name; there are 'choice' (<Choices>), "
            "'lines' (<VectorLabels>), 'per' (<Choices>), of which we can learn 'choice' (<Choices>)",
        ),
        ("lines", "control 'lines': we cannot learn <VectorLabels>; there are 'choice' (<Choices>)"),
        ("per", "no control tag that we can learn: <Choices> 'per' is about regions"),
    ],
)
def test_read_labeling_says_which_control_tags_there_are(control, says):
    with pytest.raises(ProjectError, match=re.escape(says)):
        labeling_of(choices(), LINES, choices(name="per", extra='perRegion="true"'), control=control)


def test_read_labeling_says_that_nothing_can_be_learned_where_a_name_is_wrong():
    with pytest.raises(ProjectError, match="of which we can learn none"):
        labeling_of(LINES, control="choice")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no labeling interface yet"),
        ("<View>", "not valid XML"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><View>&a;</View>', "XML entities"),
        (view(choices()), "no <Image> tag"),
        (view(IMAGE), "no control tag that we can learn (<Choices>, <Taxonomy>, <Rating>, <BrushLabels>, "),
        (view(IMAGE, LINES), "no control tag that we can learn (<Choices>, <Taxonomy>, <Rating>, <BrushLabels>, "),
        (view(IMAGE, '<Text name="t" value="$t"/>', choices(to="t")), "is not about an <Image>"),
        (view('<Image name="image" value="$Image URL"/>', choices()), 'value="$Image URL", for which Label Studio sh'),
        (view('<Image name="image" value="$画像"/>', choices()), 'value="$画像", for which Label Studio sh'),
        (view('<Image name="image" value="$undefined$"/>', choices()), 'its new name here, as in value="$image"'),
        (view('<Image name="image" value="image.png"/>', choices()), 'give it value="$image"'),
        (view('<Image name="image" valueList="$images"/>', choices()), 'give it value="$image"'),
        (view(IMAGE, choices(extra='perRegion="true"')), "is about regions"),
        (view(IMAGE, tag("Taxonomy", extra='perItem="true"')), "is about regions"),
        (view(IMAGE, tag("Rating", extra='perRegion="true"')), "is about regions"),
        (view(IMAGE, choices("", extra='value="$options"')), "takes its choices from each task"),
        (view(IMAGE, tag("Taxonomy", "", extra='value="$options"')), "takes its choices from each task"),
        (view(IMAGE, tag("Taxonomy", extra='apiUrl="$url"')), "loads its choices from apiUrl"),
        (view(IMAGE, tag("Taxonomy", extra='labeling="true"')), "labels regions"),
        (view(IMAGE, choices('<Choice value="a"><Choice value="b"/></Choice>')), 'only with allowNested="true"'),
        (view(IMAGE, choices('<Choice value="cat"/>')), "at least two"),
        (view(IMAGE, tag("Taxonomy", '<Choice value="cat"/>')), "at least two"),
        (
            view(IMAGE, tag("Taxonomy", '<Choice value="a"><Choice value="b"/></Choice>', extra='leafsOnly="true"')),
            "two",
        ),
        (view(IMAGE, tag("Rating", extra='maxRating="1"')), "a whole number from 2 to 100"),
        (view(IMAGE, tag("Rating", extra='maxRating="many"')), "a whole number from 2 to 100"),
        (view(IMAGE, tag("Rating", extra='maxRating="99999999999"')), "a whole number from 2 to 100"),
        (view(IMAGE, tag("Taxonomy", '<Choice value="a">' * 65 + "</Choice>" * 65)), "more than 64 levels"),
    ],
)
def test_read_labeling_says_what_to_add(text, says):
    with pytest.raises(ProjectError, match=re.escape(says)) as caught:
        read_labeling(text)
    assert "\n" not in str(caught.value)
