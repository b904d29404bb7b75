"""Labeling interfaces: each of Label Studio's own templates gets a working project or one clear sentence."""

import re
import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.labelstudio import binary

from backend.errors import ProjectError
from backend.labeling.base import Item
from backend.labeling.reader import read_labeling
from backend.labeling.regions import Regions


def templates() -> dict[str, str]:
    """Every template of the installed Label Studio, by folder; some are no valid YAML, so that they are cut out."""
    try:
        home = binary().parents[1]
    except FileNotFoundError:
        return {}
    found = {}
    for path in sorted(home.glob("lib/python3*/site-packages/label_studio/annotation_templates/**/config.*")):
        block = re.search(r"^config: *[|>]?[-+]?[ \t]*\n?((?:[ \t]+.*\n?|\n)+)", path.read_text(), re.MULTILINE)
        if block:
            found[f"{path.parent.parent.name}/{path.parent.name}"] = textwrap.dedent(block[1]).strip()
    return found


TEMPLATES = templates()
WORKING = {
    "community-contributions/breast-cancer-mammogram-classification": "birads_left: single_label",
    "community-contributions/ocr-invoices-pre-ner-bio-format": "label: detection",
    "computer-vision/image-classification": "choice: single_label",
    "computer-vision/keypoints": "kp-1: detection",
    "computer-vision/medical-image-classification-with-bboxes": "classification: single_label",
    "computer-vision/semantic-segmentation-with-masks": "tag: segmentation",
    "computer-vision/semantic-segmentation-with-polygons": "label: segmentation",
    "computer-vision/object-detection-with-bounding-boxes": "label: detection",
    "computer-vision/optical-character-recognition": "label: detection",
    "ranking-and-scoring/content-based-image-search": "similar: multi_label",
    "ranking-and-scoring/pairwise-regression": "rating: single_label",
}


def test_the_templates_are_found() -> None:
    assert len(TEMPLATES) >= 60


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_works_or_is_refused_in_one_sentence(name: str) -> None:
    try:
        labeling = read_labeling(TEMPLATES[name])
    except ProjectError as error:
        text = str(error)
        assert "\n" not in text
        assert 20 < len(text) < 500
        assert "Error" not in text, "an exception's name is no explanation"
        return
    assert len(labeling.classes) >= (1 if labeling.problem == "detection" else 2)
    assert labeling.data_key
    if isinstance(labeling, Regions):
        return
    for label in labeling.classes:
        assert labeling.result(label if labeling.problem == "single_label" else [label], Item())


def test_these_templates_work_and_the_others_are_refused(figures) -> None:
    working, refused = dict[str, str](), dict[str, str]()
    for name, config in TEMPLATES.items():
        try:
            labeling = read_labeling(config)
            working[name] = f"{labeling.control}: {labeling.problem}"
        except ProjectError as error:
            refused[name] = str(error)
    print(*(f"{name}: {sentence}" for name, sentence in refused.items()), sep="\n")
    figures(templates=len(TEMPLATES), working=sorted(working), refused=len(refused))
    assert working == WORKING
    assert len(refused) == len(TEMPLATES) - len(WORKING)


TAGS = (
    "View",
    "Image",
    "Choices",
    "Choice",
    "Text",
    "RectangleLabels",
    "Taxonomy",
    "Rating",
    "Label",
    "Header",
    "Style",
    "?xml",
    "!DOCTYPE x",
)
WORDS = st.sampled_from(
    ["name", "toName", "value", "$image", "image", "choice", "single", "multiple", "&x;", "\x00", "é"]
)
ATTRIBUTES = st.dictionaries(
    st.sampled_from(
        ["name", "toName", "value", "choice", "alias", "valueList", "maxRating", "maxUsages", "visibleWhen"]
    ),
    WORDS,
)


def tag(name: str, attributes: dict[str, str], inner: str) -> str:
    written = "".join(f' {key}="{value}"' for key, value in attributes.items())
    return f"<{name}{written}>{inner}</{name}>"


CONFIGS = st.recursive(
    st.one_of(st.just(""), st.text(max_size=20)),
    lambda inner: st.builds(tag, st.sampled_from(TAGS), ATTRIBUTES, st.lists(inner, max_size=4).map("".join)),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(st.one_of(CONFIGS, st.text(), st.binary().map(lambda raw: raw.decode("latin-1"))))
def test_any_text_for_an_interface_works_or_is_refused_in_one_sentence(config: str) -> None:
    refused = ""
    try:
        assert read_labeling(config).classes
    except ProjectError as error:
        refused = str(error)
    assert "\n" not in refused


def test_an_interface_that_explodes_is_refused() -> None:
    laughs = '<!DOCTYPE v [<!ENTITY a "ha">' + "".join(
        f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 10}">' for i in range(9)
    )
    with pytest.raises(ProjectError):
        read_labeling(f"{laughs}]><View><Header>&j;</Header></View>")
    secret = '<!DOCTYPE v [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    with pytest.raises(ProjectError) as error:
        read_labeling(f'{secret}<View><Image name="i" value="$i"/><Choices name="c" toName="i">&x;</Choices></View>')
    assert "root:" not in str(error.value)
