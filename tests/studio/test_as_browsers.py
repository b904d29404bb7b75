"""Servers of images that are particular about who asks, as they are met on the web."""

import gzip
import zlib

import pytest
from support.studio_web import Web, png, reply, serving
from urllib3.response import HTTPResponse

from backend.addresses import AllowedAddresses
from backend.errors import ImageError, ImageUnavailable
from backend.studio import download
from backend.studio.project import LabelStudio
from backend.studio.types import NamedToken

IMAGE = png(5)


@pytest.fixture
def images(web: Web):
    """Somebody else's server, which is allowed."""
    with serving() as server:
        server.answer = lambda handler, _: reply(handler, 200, IMAGE, "image/png")
        yield server


@pytest.fixture
def studio(web: Web) -> LabelStudio:
    web.answer = lambda handler, _: reply(handler, 200, IMAGE, "image/png")
    return LabelStudio(
        f"{web.url}/ls", [NamedToken("token", "c0ffee" * 7)], AllowedAddresses.parse("127.0.0.1 localhost")
    )


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        ("User-Agent", lambda value: value.startswith("Mozilla/5.0") and "python" not in value.lower()),
        ("Accept", lambda value: "image/" in value and "application/json" not in value),
        ("Accept-Language", bool),
        ("Accept-Encoding", lambda value: "gzip" in value),
        # Tunnels: browsers get a page before the first answer.
        ("ngrok-skip-browser-warning", bool),
        ("Bypass-Tunnel-Reminder", bool),
        ("X-Tunnel-Skip-AntiPhishing-Page", lambda value: value == "true"),
        ("X-Pinggy-No-Screen", bool),
        ("skip_zrok_interstitial", bool),
    ],
)
def test_a_server_that_looks_at_a_header_gives_the_image(studio, images: Web, header: str, wanted) -> None:
    def answer(handler, _):
        ok = wanted(handler.headers.get(header, ""))
        reply(handler, 200 if ok else 403, IMAGE if ok else "<html>", "image/png")

    images.answer = answer
    assert studio.project(1).fetch(f"{images.url}/a.png", 1) == IMAGE
    assert studio.project(1).fetch("/data/upload/1/a.png", 1) == IMAGE


def test_a_server_that_chooses_by_what_is_accepted_sends_what_we_read(studio, images: Web) -> None:
    def answer(handler, _):
        accepted = handler.headers["Accept"]
        asked_for = [kind for kind in ("image/jxl", "image/heic", "image/svg+xml", "image/webp") if kind in accepted]
        reply(handler, 200, asked_for[0], asked_for[0])

    images.answer = answer
    assert studio.project(1).fetch(f"{images.url}/a", 1) == b"image/webp"


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/octet-stream", "binary/octet-stream", "text/html", "nonsense", ""]
)
def test_the_kind_that_a_server_says_does_not_matter(studio, images: Web, kind: str) -> None:
    images.answer = lambda handler, _: reply(handler, 200, IMAGE, kind)
    assert studio.project(1).fetch(f"{images.url}/a.png", 1) == IMAGE


def deflated(raw: bool) -> bytes:
    packer = zlib.compressobj(wbits=-15 if raw else 15)
    return packer.compress(IMAGE) + packer.flush()


ZIPPED = gzip.compress(IMAGE, mtime=0)  # without the time: every process that collects the tests has to name them alike


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", ZIPPED), ("GZIP", ZIPPED), ("x-gzip", ZIPPED),
        ("deflate", deflated(False)), ("deflate", deflated(True)), ("gzip, gzip", gzip.compress(ZIPPED, mtime=0)),
        ("identity, gzip", ZIPPED), ("gzip, identity", ZIPPED),
        ("identity", IMAGE), ("", IMAGE), ("none", IMAGE), ("utf-8", IMAGE), ("aws-chunked", IMAGE), ("binary", IMAGE),
        ("aws-chunked,utf-8", IMAGE), ("aws-chunked, gzip", IMAGE),
    ],
)  # fmt: skip
def test_the_encodings_that_browsers_read_are_read(studio, images: Web, encoding: str, body: bytes) -> None:
    images.answer = lambda handler, _: reply(handler, 200, body, "image/png", Content_Encoding=encoding)
    assert studio.project(1).fetch(f"{images.url}/a.png", 1) == IMAGE


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, br"])
def test_an_encoding_that_we_cannot_undo_is_named(studio, images: Web, monkeypatch, encoding: str) -> None:
    monkeypatch.setattr(HTTPResponse, "CONTENT_DECODERS", ["gzip", "x-gzip", "deflate"])  # as without more packages
    images.answer = lambda handler, _: reply(handler, 200, b"packed", "image/png", Content_Encoding=encoding)
    with pytest.raises(ImageError, match=r"packed as '(br|zstd)'"):
        studio.project(1).fetch(f"{images.url}/a.png", 1)


# Redirects


@pytest.mark.parametrize(
    ("location", "path"),
    [
        ("/b.png", "/b.png"), ("b.png", "/folder/b.png"), ("../b.png", "/b.png"), ("?x=1", "/folder/a.png?x=1"),
        ("//{host}/b.png", "/b.png"), ("HTTP://{host}/b.png", "/b.png"), ("  /b.png ", "/b.png"),
        ("/a b.png", "/a%20b.png"), ("/é.png", "/%C3%A9.png"), ("/%C3%A9.png", "/%C3%A9.png"),
        ("/b.png#part", "/b.png"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("status", [301, 307])
def test_every_form_of_redirect_is_followed(studio, images: Web, location: str, path: str, status: int) -> None:
    def answer(handler, number):
        if number > 1:
            return reply(handler, 200, IMAGE, "image/png")
        target = location.format(host=images.url.removeprefix("http://"))
        return reply(handler, status, "", Location=target.encode().decode("latin-1"))  # bytes as they are

    images.answer = answer
    assert studio.project(1).fetch(f"{images.url}/folder/a.png", 1) == IMAGE
    assert images.requests[1][1] == path


def test_a_long_way_is_gone_to_its_end(studio, images: Web) -> None:
    def answer(handler, number):
        if number <= 15:
            reply(handler, 302, "", Location=f"/{number}.png")
        else:
            reply(handler, 200, IMAGE, "image/png")

    images.answer = answer
    assert studio.project(1).fetch(f"{images.url}/a.png", 1) == IMAGE


def test_a_way_that_takes_too_long_is_given_up(studio, images: Web, monkeypatch) -> None:
    monkeypatch.setattr(download, "FILE_S", -1.0)
    images.answer = lambda handler, _: reply(handler, 302, "", Location="/again")
    with pytest.raises(ImageUnavailable, match="after redirects"):
        studio.project(1).fetch(f"{images.url}/a.png", 1)
    assert len(images.requests) == 1


# Cookies


def needs_cookie(handler, number: int) -> None:
    """Answer as a storage does that gives a pass on the way, and looks for it at the end."""
    if "pass=1" in handler.headers.get("Cookie", ""):
        reply(handler, 200, IMAGE, "image/png")
    else:
        reply(handler, 302, "", Location=handler.path, Set_Cookie="pass=1; Path=/; HttpOnly")


def test_a_cookie_of_the_way_is_shown_at_its_end_and_forgotten(studio, images: Web) -> None:
    images.answer = needs_cookie
    for _ in range(2):
        assert studio.project(1).fetch(f"{images.url}/a.png", 1) == IMAGE
    assert [headers.get("Cookie") for _, _, headers in images.requests] == [None, "pass=1", None, "pass=1"]


def test_a_cookie_reaches_neither_another_host_nor_label_studio(studio, web: Web, images: Web) -> None:
    with serving() as third:
        third.answer = lambda handler, _: reply(handler, 302, "", Location=f"{web.url}/ls/data/upload/1/a.png")
        port = third.url.rpartition(":")[2]
        images.answer = lambda handler, _: reply(
            handler, 302, "", Location=f"http://localhost:{port}/b.png", Set_Cookie="pass=1; Path=/"
        )
        assert studio.project(1).fetch(f"{images.url}/a.png", 1) == IMAGE
        assert "Cookie" not in third.requests[0][2]
    assert "Cookie" not in web.requests[0][2]


def test_a_cookie_of_label_studio_reaches_nobody(studio, web: Web, images: Web) -> None:
    web.answer = lambda handler, _: reply(
        handler, 302, "", Location=f"{images.url}/a.png", Set_Cookie="sessionid=1; Path=/"
    )
    assert studio.project(1).fetch("/data/upload/1/a.png", 1) == IMAGE
    assert "Cookie" not in images.requests[0][2]
