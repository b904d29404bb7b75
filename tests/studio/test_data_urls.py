import base64

import pytest

from backend.errors import ImageError
from backend.studio.data_urls import is_data_url, read_data_url

BODY = bytes(range(256)) * 2
PLAIN = base64.b64encode(BODY).decode()
HEAD = "data:image/png;base64,"
MOST = 1 << 20


def folded(width, end):
    return end.join(PLAIN[i : i + width] for i in range(0, len(PLAIN), width))


@pytest.mark.parametrize(
    "reference",
    [
        HEAD + PLAIN,
        HEAD + PLAIN.rstrip("="),
        HEAD + folded(76, "\n"),
        HEAD + folded(60, "\r\n\t"),
        HEAD + folded(7, " "),
        HEAD + folded(50, "\f"),
        HEAD + folded(76, "%0D%0A"),
        HEAD + folded(9, "%20"),
        HEAD + PLAIN.replace("+", "%2B").replace("/", "%2f").replace("=", "%3D"),
        HEAD + "".join(f"%{ord(letter):02x}" for letter in PLAIN),
        "DATA:IMAGE/PNG;BASE64," + PLAIN,
        "Data:image/png;Base64," + PLAIN,
        "data:;base64," + PLAIN,
        "data:image/png;charset=utf-8;name=a.png;base64," + PLAIN,
        "data:image/png;   base64," + PLAIN,
        "data:image/png;base64 ," + PLAIN,
        " \n" + HEAD + " " + PLAIN + "\x00 ",
        "da\nta:image/png;bas\te64," + PLAIN,
        HEAD + PLAIN + "#a-fragment",
    ],
)
def test_every_spelling_that_browsers_read_is_read(reference):
    assert is_data_url(reference)
    assert read_data_url(reference, MOST) == BODY


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("YQ", b"a"),
        ("YQ==", b"a"),
        ("YR==", b"a"),  # the bits that are left over do not matter
        ("YWI", b"ab"),
        ("YWI=", b"ab"),
        ("Y W I =", b"ab"),
        ("", b""),
    ],
)
def test_padding_and_bits_that_are_left_over_do_not_matter(body, expected):
    assert read_data_url("data:;base64," + body, MOST) == expected


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("data:,a%20b%zz%4", b"a b%zz%4"),
        ("data:text/plain,caf\u00e9", "caf\u00e9".encode()),
        ("data:image/png;base64x,QUJD", b"QUJD"),
        ("data:base64,QUJD", b"QUJD"),  # no semicolon: browsers take it for the type
    ],
)
def test_without_base64_the_bytes_stand_for_themselves(reference, expected):
    assert read_data_url(reference, MOST) == expected


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("data:image/png;base64", "cut off"),
        (HEAD + "YWJj=ZGVm", "damaged base64"),
        (HEAD + "YQ=", "damaged base64"),  # browsers take padding off a multiple of four only
        (HEAD + "YWJjZ", "a character is missing"),
        (HEAD + "ab-_", "'-' is none of its characters"),
        (HEAD + "====", "damaged base64"),
        (HEAD + "A" * 100, "more than"),
    ],
)
def test_what_browsers_do_not_read_is_refused_with_one_sentence(reference, says):
    with pytest.raises(ImageError, match=says) as caught:
        read_data_url(reference, 64)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("reference", ["http://host/data:a", "/data/upload/a.png", "data/a.png", "", "dat:a,"])
def test_other_addresses_are_none(reference):
    assert not is_data_url(reference)
