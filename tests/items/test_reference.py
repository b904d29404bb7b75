import pytest

from backend.errors import ImageError
from backend.items.reference import data_key_of, image_ref, is_read


@pytest.mark.parametrize(
    ("data", "key", "expected"),
    [
        ({"image": " /data/upload/1/a.png "}, "image", "/data/upload/1/a.png"),
        ({"image": ["a.png"]}, "image", "a.png"),
        ({"a": {"b": [" a.png "]}}, "a.b", "a.png"),
        ({"a.b": "flat"}, "a.b", "flat"),
        ({"a": {"b": ["x", "y"]}}, "a.b[1]", "y"),
        ({"host": "h", "file": "a b.png"}, "https://$host/img?f=$file", "https://h/img?f=a b.png"),
    ],
)
def test_image_ref_finds_the_address(data, key, expected):
    assert image_ref(data, key) == expected


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({}, "without an image"),
        ({"image": None}, "without an image"),
        ({"image": "  "}, "without an image"),
        ({"image": ["a", "b"]}, "list of 2 images"),
        ({"image": []}, "list of 0 images"),
        ({"image": [["a"]]}, "list of 1 images"),
        ({"image": {"url": "a"}}, "not an address but a dict"),
    ],
)
def test_image_ref_refuses_what_is_not_one_address(data, says):
    with pytest.raises(ImageError, match=says):
        image_ref(data, "image")


@pytest.mark.parametrize(
    ("data", "named"),
    [
        ({"Image": "https://host/1.jpg"}, "'Image'"),
        ({"id": 7, "name": "cat", "img_url": "s3://bucket/1"}, "'img_url'"),
        ({"$undefined$": "/data/upload/1/a.png"}, "'$undefined$'"),
        ({"file": "a b.JPEG", "text": "1/2 of it"}, "'file'"),
        ({"a": "/1", "b": "/2", "c": "/3", "d": "/4"}, "'a', 'b', 'c'"),
    ],
)
def test_image_ref_names_the_field_that_has_an_address(data, named):
    with pytest.raises(ImageError, match=r"'image' is empty or missing in its data\. It has an address in") as caught:
        image_ref(data, "image")
    assert f"It has an address in {named}: name that field" in str(caught.value)


def test_image_ref_names_no_field_where_none_has_an_address():
    with pytest.raises(ImageError, match=r"is empty or missing in its data$"):
        image_ref({"text": "a word", "pretext_loss": 1.5, "image": ""}, "image")


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("$image", True), (" $image ", True), ("$a.b[0]", True), ("${image}", True), ("https://host/$name", True),
        ("$host/$name", True), ("$a$b", True), ("", True), ("image", True),
        ("$Image URL", False), ("$image-url", False), ("$画像", False), ("$größe", False), ("$imagé", False),
        ("$undefined$", False), ("$image name ", False),
    ],
)  # fmt: skip
def test_is_read_follows_label_studios_interface(value, read):
    assert is_read(value) == read


@pytest.mark.parametrize("data", [[1, 2], "text", 3, None])
def test_image_ref_refuses_data_that_is_no_object(data):
    with pytest.raises(ImageError, match="whose data is not an object"):
        image_ref(data, "image")


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ("$image", "image"),
        ("$a.b[0]", "a.b[0]"),
        ("https://host/$name", "https://host/$name"),
        ("image.png", ""),
        ("", ""),
    ],
)
def test_data_key_of_reads_an_images_value(value, key):
    assert data_key_of(value) == key


def test_data_key_of_a_template_value_is_the_whole_text():
    assert image_ref({"name": "1.png"}, data_key_of("https://host/$name")) == "https://host/1.png"
