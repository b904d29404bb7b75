"""Labeling interfaces: each of Label Studio's own templates gets a working project or one clear sentence."""

import re
import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.labelstudio import binary

from backend.errors import ProjectError
from backend.labeling.choices import prediction_result, read_label_config


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


def test_the_templates_are_found() -> None:
    assert len(TEMPLATES) >= 60


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_works_or_is_refused_in_one_sentence(name: str) -> None:
    try:
        spec = read_label_config(TEMPLATES[name])
    except ProjectError as error:
        text = str(error)
        assert "\n" not in text
        assert 20 < len(text) < 500
        assert "Error" not in text, "an exception's name is no explanation"
        return
    assert len(spec.classes) >= 1
    assert spec.data_key
    for label in spec.classes:
        assert prediction_result(label, spec)


def test_the_image_classification_templates_work(figures) -> None:
    working = set()
    for name, config in TEMPLATES.items():
        try:
            read_label_config(config)
        except ProjectError:
            continue
        working.add(name)
    assert "computer-vision/image-classification" in working
    figures(templates=len(TEMPLATES), working=sorted(working))


TAGS = (
    "View",
    "Image",
    "Choices",
    "Choice",
    "Text",
    "RectangleLabels",
    "Label",
    "Header",
    "Style",
    "?xml",
    "!DOCTYPE x",
)
WORDS = st.sampled_from(
    ["name", "toName", "value", "$image", "image", "choice", "single", "multiple", "&x;", "\x00", "é"]
)
ATTRIBUTES = st.dictionaries(st.sampled_from(["name", "toName", "value", "choice", "alias", "valueList"]), WORDS)


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
        assert read_label_config(config).classes
    except ProjectError as error:
        refused = str(error)
    assert "\n" not in refused


def test_an_interface_that_explodes_is_refused() -> None:
    laughs = '<!DOCTYPE v [<!ENTITY a "ha">' + "".join(
        f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 10}">' for i in range(9)
    )
    with pytest.raises(ProjectError):
        read_label_config(f"{laughs}]><View><Header>&j;</Header></View>")
    secret = '<!DOCTYPE v [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    with pytest.raises(ProjectError) as error:
        read_label_config(
            f'{secret}<View><Image name="i" value="$i"/><Choices name="c" toName="i">&x;</Choices></View>'
        )
    assert "root:" not in str(error.value)
