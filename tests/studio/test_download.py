import base64
import contextlib
import socket
import time
from pathlib import Path

import pytest
from support.labelstudio import LabelStudioServer
from support.studio_web import Web, png, reply, serving

from backend.addresses import AllowedAddresses
from backend.demo.annotator import Annotator
from backend.errors import ImageError, ImageUnavailable, StudioUnreachable
from backend.studio import download, ssrf
from backend.studio import session as session_module
from backend.studio.project import LabelStudio
from backend.studio.types import NamedToken

TOKEN = "c0ffee" * 7
IMAGE = png()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(session_module, "BACKOFF_S", 0.01)


@pytest.fixture
def other(web: Web):
    """A second web server: somebody else's."""
    with serving() as server:
        server.answer = lambda handler, _: reply(handler, 200, IMAGE, "image/png")
        yield server


@pytest.fixture
def ours(web: Web) -> LabelStudio:
    """A client that takes `web` for Label Studio, under a path."""
    return LabelStudio(f"{web.url}/ls", [NamedToken("token", TOKEN)], AllowedAddresses.parse("localhost 127.0.0.1"))


# Label Studio's own files


def test_fetch_reads_an_upload(studio: LabelStudio, person: Annotator, project):
    assert person.upload_images(project, [("a b.png", IMAGE), ("c.png", png(9))]) == 2
    (task, _) = studio.project(project).tasks.by_id(studio.project(project).tasks.ids())
    assert task.data["image"].startswith("/data/upload/")
    assert studio.project(1).fetch(task.data["image"], task.id) == IMAGE
    assert studio.project(1).fetch(studio.session.base + task.data["image"], task.id) == IMAGE


def test_fetch_reads_local_files(studio, person, project, make_tasks, label_studio: LabelStudioServer):
    folder = label_studio.data_dir / "files" / str(project)
    folder.mkdir()
    Path(folder / "a.png").write_bytes(IMAGE)
    person.call("POST", "/api/storages/localfiles/", {"project": project, "path": str(folder), "use_blob_urls": True})
    (task,) = make_tasks(1)
    assert studio.project(1).fetch(f"/data/local-files/?d={project}/a.png", task) == IMAGE
    with pytest.raises(ImageError, match=r"^Label Studio answered 40\d"):
        studio.project(1).fetch("/data/local-files/?d=elsewhere/a.png", task)


@pytest.mark.parametrize("presign", [True, False])
def test_fetch_reads_cloud_storage_through_label_studio(studio, person, project, make_tasks, other: Web, presign):
    person.call(
        "POST",
        "/api/storages/s3/",
        {"project": project, "bucket": "bucket", "presign": presign, "s3_endpoint": other.url, "use_blob_urls": True,
         "aws_access_key_id": "key", "aws_secret_access_key": "secret", "region_name": "us-east-1"},
    )  # fmt: skip
    (task,) = make_tasks(1)
    assert studio.project(1).fetch("s3://bucket/a b.png", task) == IMAGE
    method, path, headers = other.requests[-1]
    assert (method, path.partition("?")[0]) == ("GET", "/bucket/a%20b.png")
    assert ("X-Amz-Signature" in path) == presign
    assert "Token" not in headers.get("Authorization", "")
    with pytest.raises(ImageError, match="no cloud storage for gs://another: connect it"):
        studio.project(1).fetch("gs://another/a.png", task)


# Others' files


def test_fetch_reads_a_web_address_without_our_token(ours: LabelStudio, other: Web):
    assert ours.project(1).fetch(f"{other.url}/a.png?key=1", 1) == IMAGE
    assert [path for _, path, _ in other.requests] == ["/a.png?key=1"]
    assert "Authorization" not in other.requests[0][2]


def test_fetch_keeps_the_token_from_whoever_label_studio_sends_us_to(ours: LabelStudio, web: Web, other: Web):
    web.answer = lambda handler, _: reply(handler, 302, "", Location=f"{other.url}/signed?sig=1")
    assert ours.project(1).fetch("/data/upload/a.png", 1) == IMAGE
    assert web.requests[0][2]["Authorization"] == f"Token {TOKEN}"
    assert "Authorization" not in other.requests[0][2]


@pytest.mark.parametrize(
    ("reference", "path", "signed"),
    [
        ("/data/upload/1/a.png", "/ls/data/upload/1/a.png", True),
        ("/ls/data/upload/1/a.png", "/ls/data/upload/1/a.png", True),
        ("data/a.png", "/ls/data/a.png", True),
        ("{url}/ls/data/a.png", "/ls/data/a.png", True),
        ("{url}/ls/static/samples/sample.jpg", "/ls/static/samples/sample.jpg", False),
        ("{url}/another-app/a.png", "/another-app/a.png", False),
        ("/../another-app/a.png", "/another-app/a.png", False),
        ("/%2e%2e/another-app/a.png", "/another-app/a.png", False),
    ],
)
def test_fetch_sends_the_token_below_the_servers_path_alone(ours, web: Web, reference, path, signed):
    web.answer = lambda handler, _: reply(handler, 200, IMAGE, "image/png")
    assert ours.project(1).fetch(reference.format(url=web.url), 1) == IMAGE
    assert web.requests[0][1] == path
    assert ("Authorization" in web.requests[0][2]) == signed


# The name that Label Studio calls itself


@pytest.fixture
def renamed(web: Web) -> LabelStudio:
    """A client of `web` that has heard Label Studio call itself by a name that leads nowhere, under another path."""
    web.answer = lambda handler, _: reply(handler, 200, IMAGE, "image/png")
    named = "https://Labels.Example.invalid:443/studio/"
    return LabelStudio(f"{web.url}/ls", [NamedToken("token", TOKEN)], AllowedAddresses.parse("localhost"), public=named)


@pytest.mark.parametrize(
    ("reference", "path", "signed"),
    [
        ("https://labels.example.invalid/studio/data/local-files/?d=1/a.png", "/ls/data/local-files/?d=1/a.png", True),
        ("https://labels.example.invalid:443/studio/data/upload/1/a.png", "/ls/data/upload/1/a.png", True),
        ("HTTPS://LABELS.example.invalid./studio/data/upload/1/a.png", "/ls/data/upload/1/a.png", True),
        ("//labels.example.invalid/studio/data/upload/1/a.png", "/ls/data/upload/1/a.png", True),
        ("https://labels.example.invalid/studio/tasks/1/resolve/?fileuri=c", "/ls/tasks/1/resolve/?fileuri=c", True),
        ("/studio/data/upload/1/a.png", "/ls/data/upload/1/a.png", True),
        ("/ls/data/upload/1/a.png", "/ls/data/upload/1/a.png", True),
        ("/data/upload/1/a.png", "/ls/data/upload/1/a.png", True),
        # The rules for Label Studio's own paths hold under its other name as well.
        ("https://labels.example.invalid/studio/api/projects/1/next", "/ls/api/projects/1/next", False),
        ("https://labels.example.invalid/studio/static/sample.jpg", "/ls/static/sample.jpg", False),
    ],
)  # fmt: skip
def test_fetch_asks_for_the_public_address_at_ours(renamed, web: Web, reference, path, signed):
    assert renamed.project(1).fetch(reference, 1) == IMAGE
    assert web.requests[0][1] == path
    assert ("Authorization" in web.requests[0][2]) == signed


@pytest.mark.parametrize(
    "reference",
    [
        "https://labels.example.invalid/data/upload/1/a.png",  # not under its path
        "http://labels.example.invalid/studio/data/upload/1/a.png",
        "https://labels.example.invalid:8443/studio/data/upload/1/a.png",
        "https://labels.example.invalid/studio/%252e%252e/data/upload/1/a.png",
    ],
)
def test_fetch_sends_no_token_for_what_is_not_under_the_public_address(renamed, web: Web, reference):
    with contextlib.suppress(ImageError):
        renamed.project(1).fetch(reference, 1)
    assert all("Authorization" not in headers for _, _, headers in web.requests)


def test_fetch_follows_label_studio_to_its_public_address(renamed, web: Web):
    def answer(handler, number):
        if number == 1:
            reply(handler, 302, "", Location="https://labels.example.invalid/studio/data/local-files/?d=1/a.png")
        elif number == 2:
            reply(handler, 301, "", Location="/ls/studio/data/upload/1/b.png")
        else:
            reply(handler, 200, IMAGE, "image/png")

    web.answer = answer
    assert renamed.project(1).fetch("/data/local-files?d=1/a.png", 1) == IMAGE
    assert [path for _, path, _ in web.requests[1:]] == ["/ls/data/local-files/?d=1/a.png", "/ls/data/upload/1/b.png"]


def test_the_public_address_of_somebody_else_gets_no_token(ours, web: Web, other: Web):
    """Whoever calls /setup may name any address there: it is read as ours, and nothing is sent to it."""
    web.answer = lambda handler, _: reply(handler, 404, "<html>")
    forged = LabelStudio(ours.session.base, [NamedToken("token", TOKEN)], AllowedAddresses(), public=other.url)
    with pytest.raises(ImageError):
        forged.project(1).fetch(f"{other.url}/data/a.png", 1)
    assert other.requests == []


def test_fetch_gives_up_on_a_circle_of_redirects(ours: LabelStudio, web: Web):
    web.answer = lambda handler, _: reply(handler, 302, "", Location="/ls/again")
    with pytest.raises(ImageError, match="more than 20 times"):
        ours.project(1).fetch("/again", 1)
    assert len(web.requests) == download.REDIRECTS + 1


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://host/a.png"])
def test_fetch_follows_redirects_on_the_web_alone(ours: LabelStudio, other: Web, target):
    other.answer = lambda handler, _: reply(handler, 302, "", Location=target)
    with pytest.raises(ImageError, match="not of the web"):
        ours.project(1).fetch(f"{other.url}/a.png", 1)


# What goes wrong


@pytest.mark.parametrize(
    ("status", "kind"), [(404, ImageError), (403, ImageError), (500, ImageUnavailable), (429, ImageUnavailable)]
)
def test_fetch_tells_what_may_pass_from_what_stays(ours: LabelStudio, other: Web, status, kind):
    other.answer = lambda handler, _: reply(handler, status, "<html>")
    with pytest.raises(ImageError, match=f"127.0.0.1 answered {status}") as caught:
        ours.project(1).fetch(f"{other.url}/a.png?secret=1", 1)
    assert isinstance(caught.value, ImageUnavailable) == (kind is ImageUnavailable)
    assert "secret" not in str(caught.value)


def test_fetch_blames_label_studio_and_no_image_when_it_is_down(ours: LabelStudio, web: Web):
    web.answer = lambda handler, _: reply(handler, 502, "<html>", "text/html")
    with pytest.raises(StudioUnreachable, match=r"through its proxy \(502\)"):
        ours.project(1).fetch("/data/upload/a.png", 1)
    with pytest.raises(StudioUnreachable, match="cannot be reached"):
        LabelStudio("http://127.0.0.1:9", [NamedToken("token", TOKEN)]).project(1).fetch("/data/upload/a.png", 1)


def test_fetch_says_that_another_host_does_not_answer(ours: LabelStudio):
    with pytest.raises(ImageUnavailable, match=r"^localhost did not answer \(ConnectionError\)\. In a container"):
        ours.project(1).fetch("http://localhost:9/a.png?secret=1", 1)


def test_fetch_takes_a_broken_off_body_for_a_failure_that_may_pass(ours: LabelStudio, other: Web):
    def answer(handler, _):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(IMAGE)))
        handler.end_headers()
        handler.wfile.write(IMAGE[:10])
        handler.close_connection = True

    other.answer = answer
    with pytest.raises(ImageUnavailable, match="broke off"):
        ours.project(1).fetch(f"{other.url}/a.png", 1)


def test_fetch_ends_a_body_that_trickles(ours: LabelStudio, other: Web, monkeypatch):
    def answer(handler, _):
        handler.send_response(200)
        handler.end_headers()
        for _ in range(20):
            handler.wfile.write(b"x" * download.CHUNK)
            time.sleep(0.05)
        handler.close_connection = True

    monkeypatch.setattr(download, "FILE_S", 0.2)
    other.answer = answer
    with pytest.raises(ImageUnavailable, match=r"did not send the whole file in 0\.2 s"):
        ours.project(1).fetch(f"{other.url}/a.png", 1)


def test_fetch_ends_a_body_that_trickles_byte_by_byte(ours: LabelStudio, other: Web, monkeypatch):
    whole = []

    def answer(handler, _):
        handler.send_response(200)
        handler.end_headers()
        for _ in range(1200):
            handler.wfile.write(b"x")
            handler.wfile.flush()
            time.sleep(0.05)
        whole.append(True)
        handler.close_connection = True

    monkeypatch.setattr(download, "FILE_S", 0.2)
    other.answer = answer
    with pytest.raises(ImageUnavailable, match=r"did not send the whole file in 0\.2 s"):
        ours.project(1).fetch(f"{other.url}/a.png", 1)
    assert not whole  # it would have taken a minute


def test_fetch_ends_an_answer_that_never_quite_begins(ours: LabelStudio, other: Web, monkeypatch):
    whole = []

    def answer(handler, _):
        for letter in b"HTTP/1.1 200 OK\r\n" + b"X-Slow: " + b"x" * 1200:
            handler.wfile.write(bytes([letter]))
            handler.wfile.flush()
            time.sleep(0.05)
        whole.append(True)

    monkeypatch.setattr(ssrf, "HEAD_S", 0.2)
    other.answer = answer
    with pytest.raises(ImageUnavailable, match=r"127\.0\.0\.1 did not answer"):
        ours.project(1).fetch(f"{other.url}/a.png", 1)
    assert not whole


def test_fetch_leaves_a_host_alone_that_failed_three_times_in_a_row(ours: LabelStudio, other: Web):
    def hang_up(handler, _):
        handler.connection.shutdown(socket.SHUT_RDWR)
        handler.close_connection = True

    other.answer = hang_up
    for _ in range(10):
        with pytest.raises(ImageUnavailable, match=r"127\.0\.0\.1 did not answer"):
            ours.project(1).fetch(f"{other.url}/a.png", 1)
    assert len(other.requests) == download.HOST_FAILURES * download.FILE_ATTEMPTS


@pytest.mark.parametrize("healthy", [True, False])
def test_fetch_tells_a_stuck_file_of_label_studios_from_a_stuck_label_studio(ours, web: Web, healthy):
    def answer(handler, _):
        well = handler.path == "/ls/health" and healthy
        reply(handler, 200 if well else 504, '{"status": "UP"}' if well else "<html>")

    web.answer = answer
    kind, words = (ImageUnavailable, "504 for this file") if healthy else (StudioUnreachable, r"its proxy \(504\)")
    with pytest.raises(kind, match=words):
        ours.project(1).fetch("/tasks/1/resolve", 1)


@pytest.mark.parametrize("announced", [True, False])
def test_fetch_stops_at_its_limit(ours: LabelStudio, other: Web, monkeypatch, announced):
    def answer(handler, _):
        handler.send_response(200)
        if announced:
            handler.send_header("Content-Length", "2000")
        handler.end_headers()
        handler.wfile.write(b"x" * 2000)
        handler.close_connection = True

    monkeypatch.setattr(download, "FILE_BYTES", 1024)
    other.answer = answer
    with pytest.raises(ImageError, match="larger than"):
        ours.project(1).fetch(f"{other.url}/a.png", 1)


def test_fetch_reads_what_stands_in_the_address_itself(ours: LabelStudio):
    assert ours.project(1).fetch(f"data:image/png;base64,{base64.b64encode(IMAGE).decode()}", 1) == IMAGE


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("file:///etc/passwd", "a path on somebody's disk"),
        ("FILE:///etc/passwd", "a path on somebody's disk"),
        ("http://[bad", "not valid"),
        ("http://host:99999/a.png", "not valid"),
        ("http://host:port/a.png", "not valid"),
        ("data:image/png;base64", "cut off"),
        ("data:image/png;base64,!", "damaged base64"),
    ],
)
def test_fetch_refuses_what_is_no_address_of_an_image(ours: LabelStudio, web: Web, reference, says):
    with pytest.raises(ImageError, match=says):
        ours.project(1).fetch(reference, 1)
    assert web.requests == []
