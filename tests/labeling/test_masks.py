"""Regions that are areas: what they cover, and how predictions are drawn."""

import base64
import io
import tracemalloc
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support.labelings import IMAGE, annotation, view

from backend.config import ProjectConfig
from backend.errors import ConfigError, ProjectError
from backend.labeling import masks
from backend.labeling.answers import details_of
from backend.labeling.base import Item
from backend.labeling.project import check_config
from backend.labeling.project import labeling_of as labeling_of_row
from backend.labeling.reader import read_labeling
from backend.labeling.rle import SIZES, encode_mask
from backend.status.left_out import left_out
from backend.store.tables import Refused
from model.data.masks import IGNORED, nothing, pack, size_of, unpack

LABELS = '<Label value="sky"/><Label value="road"/><Label value="Big car" alias="car"/>'
CLASSES = ("sky", "road", "car")
WIDTH, HEIGHT = 40, 30
ITEM = Item(WIDTH, HEIGHT)
KINDS = ("BrushLabels", "BitmaskLabels", "PolygonLabels", "EllipseLabels", "RectangleLabels")
LEFT = np.arange(WIDTH) < 10  # a quarter of the image
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["sky", "rle", ""]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["rle", "format", "points", "x", "y", "width", "height", "radiusX", "radiusY", "rotation",
                         "imageDataURL"]), inner, max_size=5),
    max_leaves=12,
)  # fmt: skip


def labeling_of(kind: str, inner: str = LABELS, extra: str = "", background: bool = True):
    config = view(IMAGE, f'<{kind} name="mask" toName="image" {extra}>{inner}</{kind}>')
    return read_labeling(config, problem="segmentation", background=background)


def region(kind: str, value: dict[str, Any], label: str = "sky", size: tuple[int, int] | None = (WIDTH, HEIGHT)):
    sizes = {} if size is None else {"original_width": size[0], "original_height": size[1], "image_rotation": 0}
    key = kind.lower()
    return {"from_name": "mask", "to_name": "image", "type": key, "value": {**value, key: [label]}, **sizes}


def brush(mask: np.ndarray, label: str = "sky"):
    return region("BrushLabels", {"format": "rle", "rle": encode_mask(mask)}, label, mask.shape[::-1])


def painted(kind: str, *regions: dict[str, Any]) -> np.ndarray:
    return unpack(labeling_of(kind).target(regions), CLASSES)


def left_quarter() -> np.ndarray:
    return np.broadcast_to(LEFT, (HEIGHT, WIDTH))


def png(values: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def test_areas_of_a_large_photo_are_drawn_no_larger_than_they_are_kept() -> None:
    size = (6000, 90)
    polygon = {"points": [[0, 0], [25, 0], [25, 100], [0, 100]]}
    regions = [region("PolygonLabels", polygon, size=size)]
    with patch("backend.labeling.masks.covered", wraps=masks.covered) as drawn:
        target = labeling_of("PolygonLabels").target(regions)
    assert drawn.call_args.args[1:] == size_of(target) == (2048, 31)
    wide = np.broadcast_to(np.arange(size[0]) < 1500, size[::-1])
    for pixels in (unpack(target, CLASSES), painted("BrushLabels", brush(wide))):
        np.testing.assert_array_equal(pixels == 1, np.broadcast_to(np.arange(2048) < 512, (31, 2048)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_control_tag_has_its_classes_and_the_problem(kind: str) -> None:
    labeling = labeling_of(kind)
    assert (labeling.problem, labeling.classes) == ("segmentation", CLASSES)


@pytest.mark.parametrize(
    ("kind", "value"),
    [("BrushLabels", {"format": "rle", "rle": encode_mask(left_quarter())}),
     ("PolygonLabels", {"points": [[0, 0], [25, 0], [25, 100], [0, 100]]}),
     ("PolygonLabels", {"points": [[-50, -50], [25, -50], [25, 150], [-50, 150]]}),
     ("RectangleLabels", {"x": -900, "y": -900, "width": 925, "height": 1900, "rotation": 0}),
     ("RectangleLabels", {"x": 0, "y": 0, "width": 25, "height": 100, "rotation": 0}),
     ("RectangleLabels", {"x": 25, "y": 0, "width": 75, "height": 100 / 3, "rotation": 90})],
)  # fmt: skip
def test_a_region_covers_a_quarter_of_the_image(kind: str, value: dict[str, Any]) -> None:
    """The last one turns around its first corner: 30 pixels wide and 10 high become 10 wide and 30 high."""
    assert np.array_equal(painted(kind, region(kind, value)) == 1, left_quarter())


def test_an_ellipse_covers_its_area() -> None:
    value = {"x": 50, "y": 50, "radiusX": 20, "radiusY": 40, "rotation": 0}
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    wanted = ((columns + 0.5 - 20) / 8) ** 2 + ((rows + 0.5 - 15) / 12) ** 2 <= 1
    assert (painted("EllipseLabels", region("EllipseLabels", value)).astype(bool) != wanted).sum() <= 6


@pytest.mark.parametrize("channels", ["RGBA", "L"])
def test_a_bitmask_covers_its_opaque_or_bright_pixels(channels: str) -> None:
    layer = np.where(left_quarter(), 255, 0).astype(np.uint8)
    values = layer if channels == "L" else np.dstack([np.zeros_like(layer)] * 3 + [layer])
    assert np.array_equal(
        painted("BitmaskLabels", region("BitmaskLabels", {"imageDataURL": png(values)})) == 1, left_quarter()
    )


def test_later_regions_lie_over_earlier_ones_and_the_rest_is_background() -> None:
    top = np.arange(HEIGHT)[:, None] < 15
    everything = painted("BrushLabels", brush(left_quarter(), "car"), brush(left_quarter() & top, "road"))
    assert np.array_equal(everything, np.where(left_quarter(), np.where(top, 2, 3), 0))


@pytest.mark.parametrize("kind", ["BrushLabels", "PolygonLabels"])
def test_200_regions_of_an_image_are_read(kind: str) -> None:
    places = np.arange(200)
    regions = []
    for place in places.tolist():
        row, column = divmod(place, WIDTH)
        pixel = np.zeros((HEIGHT, WIDTH), np.bool_)
        pixel[row, column] = True
        corners = [(column, row), (column + 1, row), (column + 1, row + 1), (column, row + 1)]
        points = [[100 * x / WIDTH, 100 * y / HEIGHT] for x, y in corners]
        value = {"format": "rle", "rle": encode_mask(pixel), "points": points}
        regions.append(region(kind, value, CLASSES[place % 3]))
    found = painted(kind, *regions).ravel()
    assert np.array_equal(found[:200], places % 3 + 1)
    assert not found[200:].any()


def test_run_lengths_of_another_size_are_brought_to_that_of_the_image() -> None:
    small = np.zeros((HEIGHT // 2, WIDTH // 2), np.bool_)
    small[:, :5] = True
    both = labeling_of("BrushLabels").target(
        [brush(left_quarter(), "car"), brush(left_quarter(), "road"), brush(small)]
    )
    assert size_of(both) == (WIDTH, HEIGHT)
    assert np.array_equal(unpack(both, CLASSES) == 1, left_quarter())


def test_no_region_is_an_image_without_anything() -> None:
    labeling = labeling_of("BrushLabels")
    assert labeling.target([]) == labeling.target([brush(np.zeros((HEIGHT, WIDTH), np.bool_))]) == nothing()
    assert labeling_of("BrushLabels", extra='required="true"').target([]) is None


def test_outlines_whose_image_has_no_size_are_shares_of_it() -> None:
    value = {"points": [[0, 0], [25, 0], [25, 100], [0, 100]]}
    target = labeling_of("PolygonLabels").target([region("PolygonLabels", value, size=None)])
    assert np.array_equal(unpack(target, CLASSES, (WIDTH, HEIGHT)) == 1, left_quarter())


@pytest.mark.parametrize(
    ("kind", "value", "size"),
    [("BrushLabels", {"format": "rle", "rle": encode_mask(left_quarter())}, None),
     ("BrushLabels", {"format": "rle", "rle": encode_mask(left_quarter())}, (WIDTH + 1, HEIGHT)),
     ("BrushLabels", {"format": "rle", "rle": [1, 2, 3]}, (WIDTH, HEIGHT)),
     ("BrushLabels", {"format": "png", "rle": []}, (WIDTH, HEIGHT)),
     ("BitmaskLabels", {"imageDataURL": "data:image/png;base64,xxxx"}, (WIDTH, HEIGHT)),
     ("BitmaskLabels", {"imageDataURL": "https://example.com/mask.png"}, (WIDTH, HEIGHT)),
     ("PolygonLabels", {"points": [[0, 0], [25, 0]]}, (WIDTH, HEIGHT)),
     ("PolygonLabels", {"points": [[0, 0], [25, "x"], [25, 100]]}, (WIDTH, HEIGHT)),
     ("EllipseLabels", {"x": 0, "y": float("nan"), "radiusX": 25, "radiusY": 100}, (WIDTH, HEIGHT)),
     ("EllipseLabels", {"x": 0, "y": 0, "radiusX": -1, "radiusY": 100}, (WIDTH, HEIGHT))],
)  # fmt: skip
def test_a_region_that_is_no_area_is_unusable(kind: str, value: dict[str, Any], size) -> None:
    labeling, result = labeling_of(kind), [region(kind, value, size=size)]
    assert labeling.target(result) is None
    assert labeling.refusal(result) == "unusable"


@pytest.mark.parametrize("kind", KINDS)
def test_a_region_that_claims_200_megapixels_is_said_to_be_huge(kind: str) -> None:
    value = {"format": "rle", "rle": encode_mask(left_quarter()), "points": [[0, 0], [25, 0], [25, 100]]}
    labeling = labeling_of(kind)
    for size in ((20_000, 10_000), (10**9, 10**9)):
        result = [brush(left_quarter()), region(kind, value, size=size)]
        assert labeling.target(result[1:]) is None
        assert Refused(labeling.refusal(result[1:])) == Refused.HUGE
    assert "1 with a region that claims an image of 200 megapixels or more" in (left_out({Refused.HUGE: 1}) or "")


def test_memory_follows_from_the_run_lengths_and_not_from_the_size_that_a_region_claims() -> None:
    size = (19_999, 9_999)
    values = 4 * size[0] * size[1]
    header = f"{values:032b}{7:05b}" + "".join(f"{bits - 1:04b}" for bits in SIZES)
    longest = "111" + "1" * 16  # a run of 65,536 values
    bits = header + (longest + "1" * 8) * 3000 + (longest + "0" * 8) * (values // 65_536 - 2999)
    rle = list(int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big"))
    tracemalloc.start()
    target = labeling_of("BrushLabels").target([region("BrushLabels", {"format": "rle", "rle": rle}, size=size)])
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size_of(target) == (2048, 1024)
    assert (unpack(target, CLASSES) == 1).mean() == pytest.approx(3000 * 65_536 / values, rel=0.01)
    assert most < 64e6


def test_what_nobody_painted_is_unknown_where_the_background_is_ignored() -> None:
    labeling = labeling_of("BrushLabels", background=False)
    mask = unpack(labeling.target([brush(left_quarter(), "car")]), CLASSES)
    assert np.array_equal(mask, np.where(left_quarter(), 3, IGNORED))
    nobody = np.zeros((HEIGHT, WIDTH), np.bool_)
    for result in ([], [brush(nobody)]):
        assert (labeling.target(result), labeling.refusal(result)) == (None, "empty")
    assert labeling.refusal([brush(nobody), region("BrushLabels", {"format": "png"})]) == "unusable"


def test_background_is_a_setting_of_masks_alone() -> None:
    config = ProjectConfig.from_extra_params({"background": "ignore"})
    assert not labeling_of_project(config, "BrushLabels").background
    assert labeling_of_project(ProjectConfig(), "BrushLabels").background
    check_config(config, labeling_of("BrushLabels"))
    with pytest.raises(ConfigError, match="background: 'ignore' is for masks, not for detection projects"):
        check_config(config, labeling_of_project(config, "RectangleLabels"))
    with pytest.raises(ConfigError, match="background: 'black' is not one of learn, ignore"):
        ProjectConfig.from_extra_params({"background": "black"})


def labeling_of_project(config: ProjectConfig, kind: str):
    tags = view(IMAGE, f'<{kind} name="mask" toName="image">{LABELS}</{kind}>')
    params = config.model_dump(exclude_defaults=True)
    return labeling_of_row(SimpleNamespace(label_config=tags, extra_params=params, control=None))


BOTH = (
    '<BrushLabels name="brush" toName="image"><Label value="sky"/><Label value="road"/></BrushLabels>'
    '<PolygonLabels name="polygon" toName="image"><Label value="road"/><Label value="Big car" alias="car"/>'
    "</PolygonLabels>"
)


def of(name: str, kind: str, value: dict[str, Any], label: str) -> dict[str, Any]:
    return {**region(kind, value, label), "from_name": name}


def test_regions_of_all_control_tags_are_one_mask() -> None:
    """In the order of the annotation, whichever tag they are of; shared labels are one class."""
    labeling = read_labeling(view(IMAGE, BOTH))
    assert (labeling.control, labeling.classes, labeling.notice) == ("brush", CLASSES, None)
    rle = {"format": "rle", "rle": encode_mask(left_quarter())}
    half = {"points": [[0, 0], [100, 0], [100, 50], [0, 50]]}
    top = np.arange(HEIGHT)[:, None] < 15
    regions = [of("brush", "BrushLabels", rle, "sky"), of("polygon", "PolygonLabels", half, "car")]
    assert np.array_equal(unpack(labeling.target(regions), CLASSES), np.where(top, 3, np.where(left_quarter(), 1, 0)))
    assert np.array_equal(
        unpack(labeling.target(regions[::-1]), CLASSES), np.where(left_quarter(), 1, np.where(top, 3, 0))
    )
    roads = [of("brush", "BrushLabels", rle, "road"), of("polygon", "PolygonLabels", half, "road")]
    assert np.array_equal(unpack(labeling.target(roads), CLASSES), np.where(top | left_quarter(), 2, 0))


def test_predictions_are_of_the_control_tag_that_has_the_label() -> None:
    labeling = read_labeling(view(IMAGE, BOTH))
    pixels = np.repeat([1, 2, 3, 0], WIDTH // 4)[None].repeat(HEIGHT, axis=0).astype(np.uint8)
    mask = pack(pixels, CLASSES)
    shown = labeling.result(mask, ITEM)
    said = {(one["from_name"], one["type"], one["value"][one["type"]][0]) for one in shown}
    assert said == {
        ("brush", "brushlabels", "sky"),
        ("brush", "brushlabels", "road"),
        ("polygon", "polygonlabels", "car"),
    }
    assert labeling.target(shown) == mask
    accepted = [{**one, "origin": "prediction"} for one in shown if one["from_name"] == "polygon"]
    assert details_of([annotation(*accepted)], labeling).accepted


def test_only_the_named_control_tag_is_read_and_rectangles_only_where_masks_are_asked_for() -> None:
    boxes = '<RectangleLabels name="box" toName="image"><Label value="sign"/></RectangleLabels>'
    alone = read_labeling(view(IMAGE, BOTH), "polygon")
    assert alone.classes == ("road", "car")
    assert "leaves aside 'brush'" in alone.notice
    assert "'box' (<RectangleLabels>)" in read_labeling(view(IMAGE, BOTH + boxes)).notice
    everything = read_labeling(view(IMAGE, BOTH + boxes), problem="segmentation")
    assert (everything.classes, everything.notice) == ((*CLASSES, "sign"), None)
    hidden = boxes.replace('name="box"', 'name="box" smart="true"')
    assert read_labeling(view(IMAGE, BOTH + hidden), problem="segmentation").classes == CLASSES


def test_a_pair_and_a_tag_of_its_own_are_one_mask() -> None:
    pair = '<Labels name="named" toName="image"><Label value="sky"/></Labels>{}'
    polygons = '<PolygonLabels name="polygon" toName="image"><Label value="road"/></PolygonLabels>'
    for kind in ("Brush", "Bitmask", "Polygon", "Ellipse"):
        labeling = read_labeling(view(IMAGE, pair.format(f'<{kind} name="drawn" toName="image"/>'), polygons))
        assert (labeling.problem, labeling.classes, labeling.notice) == ("segmentation", ("sky", "road"), None)
        pixels = np.where(left_quarter(), 1, 2).astype(np.uint8)
        shown = labeling.result(pack(pixels, ("sky", "road")), ITEM)
        assert [one["from_name"] for one in shown] == ["polygon", "drawn", "named"]
        assert shown[1]["id"] == shown[2]["id"]
        back = unpack(labeling.target(shown), ("sky", "road"))
        assert (back != pixels).mean() <= (0.12 if kind == "Ellipse" else 0)
    rectangle = view(IMAGE, pair.format('<Rectangle name="drawn" toName="image"/>'), polygons)
    assert read_labeling(rectangle).problem == "detection"
    assert read_labeling(rectangle, problem="segmentation").classes == ("sky", "road")


def test_too_many_labels_of_several_control_tags_are_refused() -> None:
    tags = [
        f'<{kind} name="{kind}" toName="image">'
        + "".join(f'<Label value="{kind}{number}"/>' for number in range(130)) + f"</{kind}>"
        for kind in ("BrushLabels", "PolygonLabels")
    ]  # fmt: skip
    with pytest.raises(ProjectError, match="'PolygonLabels' have together 260 labels: masks can have 254"):
        read_labeling(view(IMAGE, *tags))


def test_a_label_that_has_gone_is_said_to_be_unknown() -> None:
    labeling, result = labeling_of("BrushLabels"), [brush(left_quarter(), "sea")]
    assert (labeling.target(result), labeling.refusal(result)) == (None, "unknown")


@pytest.mark.parametrize("kind", KINDS)
@given(value=JSON)
def test_regions_of_any_form_are_a_mask_or_none(kind: str, value: Any) -> None:
    labeling = labeling_of(kind)
    for given_value in (value, {**value, kind.lower(): ["sky"]} if isinstance(value, dict) else [value]):
        target = labeling.target([{**region(kind, {}), "value": given_value}])
        assert target is None or set(target["classes"]) <= set(CLASSES)


@pytest.mark.parametrize("kind", ["BrushLabels", "BitmaskLabels"])
@pytest.mark.parametrize("seed", range(4))
def test_a_mask_comes_back_to_the_pixel(kind: str, seed: int) -> None:
    pixels = np.kron(np.random.default_rng(seed).integers(0, 4, (6, 8)), np.ones((5, 5))).astype(np.uint8)
    mask, labeling = pack(pixels, CLASSES), labeling_of(kind)
    shown = labeling.result(mask, ITEM)
    assert {one["value"][kind.lower()][0] for one in shown} == set(mask["classes"])
    assert all((one["original_width"], one["original_height"]) == (WIDTH, HEIGHT) for one in shown)
    assert labeling.target(shown) == mask


def test_a_small_mask_is_drawn_at_the_size_of_the_image_with_the_largest_class_first() -> None:
    pixels = np.zeros((15, 20), np.uint8)
    pixels[:, :5], pixels[:10, 5:] = 3, 1
    shown = labeling_of("BrushLabels").result(pack(pixels, CLASSES), ITEM)
    assert [one["value"]["brushlabels"] for one in shown] == [["sky"], ["car"]]
    assert np.array_equal(painted("BrushLabels", *shown) == 3, left_quarter())


def test_polygons_have_few_points_and_fit_the_mask() -> None:
    rows, columns = np.mgrid[:300, :400]
    pixels = np.where((columns - 150) ** 2 + (rows - 150) ** 2 < 90**2, 1, 0).astype(np.uint8)
    pixels[20:60, 300:380] = 3
    shown = labeling_of("PolygonLabels").result(pack(pixels, CLASSES), Item(400, 300))
    assert [one["value"]["polygonlabels"][0] for one in shown] == ["sky", "car"]
    assert all(3 <= len(one["value"]["points"]) < 100 for one in shown)
    back = unpack(labeling_of("PolygonLabels").target(shown), CLASSES)
    assert (back != pixels).mean() < 0.002


@pytest.mark.parametrize("kind", ["RectangleLabels", "EllipseLabels"])
def test_where_nothing_else_can_be_drawn_a_part_is_shown_by_what_is_around_it(kind: str) -> None:
    pixels = np.zeros((HEIGHT, WIDTH), np.uint8)
    pixels[6:18, 4:20] = 2
    (shown,) = labeling_of(kind).result(pack(pixels, CLASSES), ITEM)
    x, y, width, height = (10, 20, 40, 40) if kind == "RectangleLabels" else (30, 40, 20, 20)
    sizes = ("width", "height") if kind == "RectangleLabels" else ("radiusX", "radiusY")
    assert [shown["value"][name] for name in ("x", "y", *sizes)] == [x, y, width, height]


@pytest.mark.parametrize(
    ("prediction", "item"),
    [(None, ITEM), ("sky", ITEM), ({"classes": ["sea"], "png": ""}, ITEM), (nothing(), ITEM),
     (pack(np.ones((3, 4), np.uint8), CLASSES), Item())],
)  # fmt: skip
def test_what_cannot_be_shown_has_no_region(prediction, item: Item) -> None:
    assert labeling_of("BrushLabels").result(prediction, item) == []


def test_more_labels_than_a_mask_can_have_are_refused() -> None:
    inner = "".join(f'<Label value="{number}"/>' for number in range(255))
    with pytest.raises(ProjectError, match="has 255 labels: masks can have 254"):
        labeling_of("BrushLabels", inner)


def test_brushes_beside_labels_are_read_by_their_ids_and_written_as_a_pair() -> None:
    """``<Labels>`` names the class of what a ``<Brush>`` or a ``<Rectangle>`` draws."""
    config = view(IMAGE, f'<Labels name="mask" toName="image">{LABELS}</Labels>'
                  '<Brush name="brush" toName="image"/><Rectangle name="box" toName="image"/>')  # fmt: skip
    labeling = read_labeling(config)
    assert (labeling.problem, labeling.classes) == ("segmentation", CLASSES)
    mask = pack(np.where(left_quarter(), 3, 0).astype(np.uint8), CLASSES)
    shown = labeling.result(mask, ITEM)
    assert [(one["from_name"], one["type"]) for one in shown] == [("brush", "brush"), ("mask", "labels")]
    assert shown[0]["id"] == shown[1]["id"]
    assert labeling.target(shown) == mask
    box = {"x": 25, "y": 0, "width": 75, "height": 100, "rotation": 0}
    sizes = {"id": "b", "to_name": "image", "original_width": WIDTH, "original_height": HEIGHT}
    shown += [{**sizes, "from_name": "box", "type": "rectangle", "value": box},
              {**sizes, "from_name": "mask", "type": "labels", "value": {**box, "labels": ["sky"]}}]  # fmt: skip
    assert np.array_equal(unpack(labeling.target(shown), CLASSES), np.where(left_quarter(), 3, 1))
