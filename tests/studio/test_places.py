import pytest

from backend.errors import ImageError
from backend.studio.places import Names, Place
from backend.studio.urls import plain_url

INSIDE = "http://studio:8080"


@pytest.mark.parametrize(
    ("public", "url", "asked"),
    [
        # The same server, however its name is written.
        ("http://labels.example", "http://labels.example/data/a.png", "/data/a.png"),
        ("http://labels.example/", "http://labels.example/data/a.png", "/data/a.png"),
        ("http://labels.example//", "http://labels.example//data/a.png", "/data/a.png"),
        ("http://labels.example:80", "http://labels.example/data/a.png", "/data/a.png"),
        ("http://labels.example", "http://labels.example:80/data/a.png", "/data/a.png"),
        ("https://labels.example", "https://labels.example:443/data/a.png", "/data/a.png"),
        ("HTTP://Labels.Example", "http://labels.example/data/a.png", "/data/a.png"),
        ("http://labels.example", "HTTP://LABELS.example/data/A.png", "/data/A.png"),
        ("http://labels.example", "http://labels.example./data/a.png", "/data/a.png"),
        ("http://labels.example.", "http://labels.example/data/a.png", "/data/a.png"),
        ("http://etiquetés.example", "http://xn--etiquets-h1a.example/data/a.png", "/data/a.png"),
        ("http://[::1]:8081", "http://[::1]:8081/data/a.png", "/data/a.png"),
        ("http://u:p@labels.example", "http://labels.example/data/a.png", "/data/a.png"),
        # What follows the path stays with it.
        ("http://labels.example", "http://labels.example/data/local-files/?d=a%20b", "/data/local-files/?d=a%20b"),
        ("http://labels.example", "http://labels.example", "/"),
        # Under a path: taken off, where it ends.
        ("https://host/labels", "https://host/labels/data/a.png", "/data/a.png"),
        ("https://host/labels/", "https://host/labels/data/a.png?b=1", "/data/a.png?b=1"),
        ("https://host/labels", "http://studio:8080/labels/data/a.png", "/data/a.png"),
    ],
)  # fmt: skip
def test_an_address_under_label_studios_own_name_is_read_as_its_path(public, url, asked):
    assert Names(INSIDE, public).inward(plain_url(url)) == INSIDE + asked


@pytest.mark.parametrize(
    ("public", "url"),
    [
        ("http://labels.example", "https://labels.example/data/a.png"),  # another scheme
        ("http://labels.example", "http://labels.example:8081/data/a.png"),  # another port
        ("http://labels.example", "http://labels.example.org/data/a.png"),
        ("http://labels.example", "http://not-labels.example/data/a.png"),
        ("https://host/labels", "https://host/data/a.png"),  # another application's
        ("https://host/labels", "https://host/labels-too/data/a.png"),
        ("https://host/labels", "https://host/Labels/data/a.png"),  # paths have capitals that count
        ("https://host/labels", "https://host/labels/../data/a.png"),
        ("https://host/labels", "https://host/labels/%2e%2e/data/a.png"),
        (None, "http://labels.example/data/a.png"),
        ("", "http://labels.example/data/a.png"),
        ("http://", "http://labels.example/data/a.png"),
        ("http://[", "http://labels.example/data/a.png"),
        ("/labels", "http://labels.example/labels/data/a.png"),
    ],
)
def test_an_address_elsewhere_stays(public, url):
    assert Names(INSIDE, public).inward(plain_url(url)) == plain_url(url)


@pytest.mark.parametrize(
    ("base", "public", "url", "asked"),
    [
        # Both have a path, or only the inner one.
        ("http://studio/inner", "https://host/labels", "https://host/labels/data/a.png", "http://studio/inner/data/a.png"),
        ("http://studio/inner", "https://host", "https://host/data/a.png", "http://studio/inner/data/a.png"),
        ("http://studio/labels", "http://studio", "http://studio/labels/data/a.png", "http://studio/labels/data/a.png"),
        ("http://studio/labels", "http://studio", "http://studio/data/a.png", "http://studio/labels/data/a.png"),
        # Its own address under the path that it was told, which it does not answer by itself.
        ("http://studio", "http://studio/labels", "http://studio/labels/data/a.png", "http://studio/data/a.png"),
        ("http://studio", "http://studio/labels", "http://studio/data/a.png", "http://studio/data/a.png"),
        ("https://host/labels", "https://host/labels/", "https://host/labels/data/a.png", "https://host/labels/data/a.png"),
        ("https://host/labels", "https://host/labels", "https://host/labels/labels/a.png", "https://host/labels/labels/a.png"),
    ],
)  # fmt: skip
def test_the_longest_path_says_whose_an_address_is(base, public, url, asked):
    assert Names(base, public).inward(plain_url(url)) == asked


def test_an_address_that_escapes_once_its_path_is_taken_off_is_written_anew():
    asked = Names(INSIDE, "https://host/labels").inward("https://host/labels/a/b%20c")
    assert asked == f"{INSIDE}/a/b%20c"
    with pytest.raises(ImageError, match="user name"):
        plain_url("http://labels.example@stranger/data/a.png")  # what inward is given has passed this


def test_a_place_is_like_no_other_without_an_address():
    assert Place.of("nonsense").below("http://studio/data/a.png") is None
