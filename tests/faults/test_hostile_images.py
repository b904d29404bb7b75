"""Images that are broken, hostile or odd, from a real server: each costs at most one line in the quarantine."""

import io
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from functools import cache
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.studio_web import Web, png, reply

from backend.addresses import AllowedAddresses
from backend.items.fetching import FetchedImage, download_images
from backend.studio import download, session
from backend.studio.project import LabelStudio
from backend.studio.types import NamedToken

SIDE = 8
ROOT = Path(__file__).parents[2]
Serve = Callable[[BaseHTTPRequestHandler], None]


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    body = io.BytesIO()
    image.save(body, kind, **options)
    return body.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG file that promises so many pixels and holds next to none."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")


def plain(body: bytes, kind: str = "image/png", status: int = 200, **headers: str) -> Serve:
    return lambda handler: reply(handler, status, body, kind, **headers)


def hang(handler: BaseHTTPRequestHandler) -> None:
    time.sleep(3)


def break_off(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    handler.wfile.write(png())
    handler.close_connection = True


def endless(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b"\0" * 65536)


@cache
def zip_bomb() -> bytes:
    """Two hundred megabytes of zeros in two hundred kilobytes."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    return b"".join(packer.compress(b"\0" * 2**20) for _ in range(200)) + packer.flush()


def zipped(handler: BaseHTTPRequestHandler) -> None:
    reply(handler, 200, zip_bomb(), "image/png", Content_Encoding="gzip")


SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><script>x()</script></svg>'
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file showpage\n"
REFUSED: dict[str, tuple[Serve, str]] = {
    "404": (plain(b"", status=404), "404"),
    "403": (plain(b"", status=403), "403"),
    "500": (plain(b"", status=500), "500"),
    "timeout": (hang, "did not answer"),
    "redirect-loop": (plain(b"", status=302, Location="/redirect-loop"), "more than 20 times"),
    "redirect-file": (plain(b"", status=302, Location="file:///etc/passwd"), "not of the web"),
    "redirect-metadata": (plain(b"", status=302, Location="http://169.254.169.254/latest/"), "private or local"),
    "redirect-nonsense": (plain(b"", status=302, Location="http://[::"), "not valid"),
    "html": (plain(b"<!doctype html><html><body>Sign in</body></html>", "text/html"), "web page"),
    "html-named-png": (plain(b"<html><body>Sign in</body></html>"), "web page"),
    "truncated": (plain(encoded(Image.new("RGB", (64, 64), "red"), "PNG")[:90]), "truncated"),
    "broken-off": (break_off, "broke off"),
    "empty": (plain(b""), "empty"),
    "0x0": (plain(png_header(0, 0)), ""),
    "0x5": (plain(png_header(0, 5)), ""),
    "bomb": (plain(png_header(60_000, 60_000)), "megapixels"),
    "bomb-that-fits": (plain(png_header(9_000, 9_000)), "truncated or damaged"),
    "svg": (plain(SVG, "image/svg+xml"), "SVG"),
    "eps": (plain(EPS, "application/postscript"), "known format"),
    "pdf": (plain(b"%PDF-1.7\n"), "PDF"),
    "noise": (plain(np.random.default_rng(0).bytes(5000)), "known format"),
    "png-of-noise": (plain(png_header(50, 50)[:40] + np.random.default_rng(1).bytes(500)), "known format"),
    "endless": (endless, "larger than"),
    "zipped-bomb": (zipped, "larger than"),
}


def exif(orientation: int) -> bytes:
    """White above, black below as shown, whatever way the pixels lie in the file."""
    shown = Image.new("L", (40, 40), 255)
    shown.paste(0, (0, 20, 40, 40))
    lies = {1: None, 3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
    stored = shown if lies[orientation] is None else shown.transpose(lies[orientation])
    tags = Image.Exif()
    tags[0x0112] = orientation
    return encoded(stored, "JPEG", quality=95, exif=tags)


def palette() -> bytes:
    """A palette whose one colour is transparent: white on a page."""
    image = Image.new("P", (20, 20), 0)
    image.putpalette([200, 0, 0] + [0] * 765)
    return encoded(image, "PNG", transparency=0)


def animated(kind: str) -> bytes:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "lime", "blue")]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=40)


TAKEN: dict[str, tuple[Callable[[], bytes], tuple[int, int, int]]] = {
    "gif-animated": (lambda: animated("GIF"), (255, 0, 0)),
    "png-animated": (lambda: animated("PNG"), (255, 0, 0)),
    "webp-animated": (lambda: animated("WEBP"), (255, 0, 0)),
    "16-bit": (lambda: encoded(Image.fromarray(np.full((9, 9), 65535, np.uint16)), "PNG"), (255, 255, 255)),
    "cmyk": (lambda: encoded(Image.new("CMYK", (20, 20), (0, 255, 255, 0)), "JPEG", quality=95), (254, 0, 0)),
    "palette-alpha": (palette, (255, 255, 255)),
    "rgba-clear": (lambda: encoded(Image.new("RGBA", (9, 9), (0, 0, 0, 0)), "PNG"), (255, 255, 255)),
    "1-bit": (lambda: encoded(Image.new("1", (9, 9), 1), "PNG"), (255, 255, 255)),
    "1x1": (lambda: png(80, (1, 1)), (80, 80, 80)),
    "1x9000": (lambda: png(80, (1, 9000)), (80, 80, 80)),
}


@pytest.fixture
def client(web: Web, monkeypatch: pytest.MonkeyPatch) -> LabelStudio:
    monkeypatch.setattr(session, "BACKOFF_S", 0.01)
    monkeypatch.setattr(download, "FILE_READ_S", 0.5)
    return LabelStudio("http://127.0.0.1:9", [NamedToken("token", "c0ffee")], AllowedAddresses.parse("127.0.0.1"))


def served(web: Web, answers: dict[str, Serve]) -> None:
    web.answer = lambda handler, _: answers[handler.path.strip("/")](handler)


def fetch(client: LabelStudio, web: Web, names: list[str]) -> dict[str, FetchedImage]:
    refs = [(task, f"{web.url}/{name}") for task, name in enumerate(names)]
    return dict(zip(names, download_images(client.project(1), refs, SIDE), strict=True))


MEASURE = f"""
import sys
from pathlib import Path
from backend.addresses import AllowedAddresses
from backend.studio import download, session
from backend.studio.project import LabelStudio
from backend.studio.types import NamedToken
from backend.items.fetching import download_images

session.BACKOFF_S, download.FILE_READ_S = 0.01, 0.5

def most():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024

client = LabelStudio("http://127.0.0.1:9", [NamedToken("token", "c0ffee")], AllowedAddresses.parse("127.0.0.1"))
small, *refs = list(enumerate(sys.argv[1:]))
assert [image.error for image in download_images(client.project(1), [small], {SIDE})] == [None]  # all is loaded by now
before = most()
assert len(list(download_images(client.project(1), refs, {SIDE}))) == len(refs)
print(most() - before)
"""


def memory_grown(web: Web, names: list[str]) -> float:
    """Fetch images in a process of its own; give by how many MB its memory grew at the most.

    In this process, whatever took as much in an earlier test would hide it.
    """
    if not Path("/proc/self/status").exists():
        pytest.skip("only Linux tells a process's own peak")
    others = web.answer
    web.answer = lambda handler, number: (
        reply(handler, 200, png(), "image/png") if handler.path == "/small" else others(handler, number)
    )
    refs = [f"{web.url}/{name}" for name in ["small", *names]]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *refs], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


def test_each_hostile_image_costs_one_line_and_no_other_image(client: LabelStudio, web: Web, figures) -> None:
    answers = {name: serve for name, (serve, _) in REFUSED.items()}
    good = {f"good-{number}": plain(png(number)) for number in range(len(answers))}
    served(web, answers | good)
    assert len(zip_bomb()) < 2**20  # made before the clock starts
    mixed = [name for pair in zip(answers, good, strict=True) for name in pair]
    begun = time.monotonic()
    fetched = fetch(client, web, mixed)
    took, grown = time.monotonic() - begun, memory_grown(web, mixed)
    for name, (_, words) in REFUSED.items():
        image = fetched[name]
        assert image.pixels is None, name
        assert image.error is not None, name
        assert words in image.error, f"{name}: {image.error}"
        assert "\n" not in image.error
        assert "Traceback" not in image.error
    lost = sum(fetched[name].pixels is None for name in good)
    figures(hostile=len(answers), good=len(good), good_lost=lost, seconds=round(took, 1), memory_grown_mb=round(grown))
    for number, name in enumerate(good):
        assert fetched[name].error is None, f"{name}: {fetched[name].error}"
        assert int(fetched[name].pixels.mean()) == number
    assert took < 120
    assert grown < 1000


def test_odd_images_are_taken_as_a_person_sees_them(client: LabelStudio, web: Web) -> None:
    served(web, {name: plain(make()) for name, (make, _) in TAKEN.items()})
    for name, image in fetch(client, web, list(TAKEN)).items():
        assert image.error is None, f"{name}: {image.error}"
        colour = image.pixels.reshape(-1, 3).mean(axis=0)
        assert np.abs(colour - TAKEN[name][1]).max() <= 3, f"{name}: {colour}"


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_rotated_photographs_stand_upright(client: LabelStudio, web: Web, orientation: int) -> None:
    served(web, {"photo": plain(exif(orientation), "image/jpeg")})
    pixels = fetch(client, web, ["photo"])["photo"].pixels
    assert pixels[0].mean() > 240
    assert pixels[-1].mean() < 15


def test_a_photograph_of_200_megapixels_is_refused_unread(client: LabelStudio, web: Web) -> None:
    served(web, {"huge": plain(encoded(Image.new("L", (20_000, 10_000)), "JPEG", quality=10), "image/jpeg")})
    image = fetch(client, web, ["huge"])["huge"]
    assert "megapixels" in (image.error or "")
    assert memory_grown(web, ["huge"]) < 100


def test_memory_that_a_large_image_takes_is_seen(web: Web) -> None:
    """Of the two tests above: their measure shows the 36 megapixels of an image that is taken."""
    served(web, {"large": plain(encoded(Image.new("RGB", (6000, 6000)), "PNG", compress_level=1))})
    assert memory_grown(web, ["large"]) > 100


def test_memory_stays_near_the_pixels_of_an_image_of_16_bits(web: Web) -> None:
    """The 36 megapixels are 72 MB themselves; a copy of theirs in double precision would be 288."""
    deep = Image.fromarray(np.zeros((6000, 6000), np.uint16))
    served(web, {"deep": plain(encoded(deep, "PNG", compress_level=1))})
    assert memory_grown(web, ["deep"]) < 150


def bomb_of_scans() -> bytes:
    """A JPEG of a megapixel that says thirty thousand times in thirty bytes to go over all of it again."""
    start = encoded(Image.new("L", (1000, 1000), 128), "JPEG", progressive=True)
    return start[:-2] + start[start.rindex(b"\xff\xda") : -2] * 30_000 + start[-2:]


def test_a_jpeg_of_endless_scans_is_refused_at_once(client: LabelStudio, web: Web) -> None:
    served(web, {"scans": plain(bomb_of_scans(), "image/jpeg")})
    begun = time.monotonic()
    assert "scans" in (fetch(client, web, ["scans"])["scans"].error or "")
    assert time.monotonic() - begun < 20  # it would take a minute


def test_a_thousand_hostile_images_of_a_host_that_hangs_take_little_time(
    client: LabelStudio, web: Web, figures
) -> None:
    web.answer = lambda handler, _: hang(handler)
    begun = time.monotonic()
    fetched = fetch(client, web, [f"{number}.png" for number in range(1000)])
    took = time.monotonic() - begun
    assert all(image.transient for image in fetched.values())
    assert len(web.requests) < 100
    figures(images=1000, seconds=round(took, 1))


def test_the_quarantine_names_no_query_of_an_address(client: LabelStudio, web: Web) -> None:
    served(web, {"a.png?token=hush": plain(b"", status=404)})
    ((_, image),) = fetch(client, web, ["a.png?token=hush"]).items()
    assert image.error is not None
    assert "hush" not in image.error
