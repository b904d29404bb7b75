import pytest

from backend.errors import ImageError
from backend.items.reference import data_key_of, image_ref


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
