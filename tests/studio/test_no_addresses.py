import json
from pathlib import Path

import pytest
from support.studio_web import Web, png, reply

from backend.addresses import AllowedAddresses
from backend.errors import ImageError
from backend.studio import own_files
from backend.studio.no_addresses import NO_SCHEME, NOT_THERE, ON_A_DISK, refuse_no_address
from backend.studio.project import LabelStudio
from backend.studio.types import NamedToken

IMAGE = png(5)


@pytest.fixture
def studio(web: Web) -> LabelStudio:
    """A client of `web`, which has nothing that is asked for."""
    web.answer = lambda handler, _: reply(handler, 404, "<html>", "text/html")
    return LabelStudio(web.url, [NamedToken("token", "c0ffee" * 7)], AllowedAddresses())


def refusal(studio: LabelStudio, reference: str) -> str:
    with pytest.raises(ImageError) as caught:
        studio.project(1).fetch(reference, 1)
    return str(caught.value)


@pytest.mark.parametrize(
    "reference",
    [
        "C:\\Users\\someone\\Pictures\\1.jpg", "C:/Users/someone/1.png", "d:\\2.jpg", "D:2.jpg",
        "\\\\server\\share\\3.png",
        "\\\\?\\C:\\3.png", "images\\6.jpg", ".\\6.jpg", "..\\a\\6.jpg", "\\Users\\1.jpg", "%USERPROFILE%\\1.jpg",
        "%HOME%/1.jpg", "$HOME/1.jpg", "${HOME}/1.jpg", "~/1.jpg", "~someone/1.jpg", "/home/someone/pictures/4.jpg",
        "/Users/someone/4.jpg", "/root/4.jpg", "/mnt/data/5.jpg", "/mnt/c/Users/5.jpg", "/Volumes/disk/5.jpg",
        "file:///home/someone/8.jpg", "file:///C:/pictures/9.jpg", "FILE:/home/9.jpg", "file:9.jpg",
        '"C:\\Users\\1.jpg"', "'/home/someone/1.jpg'", "“C:\\1.jpg”", '"file:///home/1.jpg"', "`~/1.jpg`",
        '"C:/a b/1.jpg',
    ],
)  # fmt: skip
def test_a_path_on_a_disk_is_named_as_one_and_nobody_is_asked(studio: LabelStudio, web: Web, reference: str) -> None:
    assert refusal(studio, reference) == ON_A_DISK
    assert web.requests == []


@pytest.mark.parametrize(
    "reference",
    [
        "images/6.jpg",
        "7.jpg",
        "./7.jpg",
        "a/../7.jpg",
        "/tmp/7.jpg",
        "/images/7.jpg",
        "http/7.jpg",
        "/c/Users/7.jpg",
        "/data/images/7.jpg",
        "/data/7.jpg",
        "data/set/7.jpg",
    ],
)
def test_a_path_that_label_studio_has_nothing_at_may_be_one(studio: LabelStudio, web: Web, reference: str) -> None:
    assert refusal(studio, reference) == NOT_THERE
    assert len(web.requests) == 1
    web.answer = lambda handler, _: reply(handler, 200, IMAGE, "image/png")
    assert studio.project(1).fetch(reference, 1) == IMAGE  # it may as well be there


@pytest.mark.parametrize(
    ("reference", "then"),
    [
        ("/data/upload/1/a.png", f": {own_files.UPLOAD_GONE}"),
        ("data/upload/1/a.png", f": {own_files.UPLOAD_GONE}"),
        ("{url}/data/upload/1/a.png", f": {own_files.UPLOAD_GONE}"),
        ("/storage-data/uploaded/?filepath=upload/1/a.png", f": {own_files.UPLOAD_GONE}"),
        ("/tasks/1/resolve/?fileuri=czM6Ly9i", f": {own_files.NO_STORAGE}"),
        ("/data/local-files/?d=home/a.png", f": {own_files.NO_LOCAL_FILE}"),
        ("/data/local-files?d=home/a.png", f": {own_files.NO_LOCAL_FILE}"),
        ("/data/local-files/?d=dataset1%5C3293148.jpg", f": {own_files.BACKSLASHES}"),
        ("/data/local-files/?d=my files\\dataset1\\1.JPG", f": {own_files.BACKSLASHES}"),
        ("{url}/data/local-files/?d=c:%5Ca%5C1.jpg", f": {own_files.BACKSLASHES}"),
        ("/data/local-files/?d=a+b.jpg", f": {own_files.PLUS}"),
        ("/data/local-files/?d=a%2Bb.jpg", f": {own_files.NO_LOCAL_FILE}"),
        ("{url}/a.png", ""),
    ],
)
def test_what_label_studio_serves_by_itself_is_not_taken_for_a_disks(
    studio: LabelStudio, web: Web, reference: str, then: str
) -> None:
    assert refusal(studio, reference.format(url=web.url)) == f"Label Studio answered 404 Not Found{then}"


@pytest.mark.parametrize(
    ("reference", "then"),
    [
        ("/data/local-files/?d=home/a.png", own_files.NOT_SERVED),
        ("/data/local-files/", own_files.UNNAMED),
        ("/data/local-files/?path=home/a.png", own_files.UNNAMED),
    ],
)
def test_local_files_that_are_not_served_are_named(studio: LabelStudio, web: Web, reference: str, then: str) -> None:
    web.answer = lambda handler, _: reply(handler, 403, "Serving local files can be dangerous", "text/html")
    assert refusal(studio, reference) == f"Label Studio answered 403 Forbidden: {then}"


@pytest.mark.parametrize(
    ("reference", "begins"),
    [
        ("htps://host/a.png", "htps://"), ("htp://host/a.png", "htp://"), ("hhttps://host/a.png", "hhttps://"),
        ("ttps://host/a.png", "ttps://"), ("HTPS://host/a.png", "HTPS://"), ("https//host/a.png", "https//"),
        ("http:/host/a.png", "http:/"), ("https:host/a.png", "https:"), ("https;//host/a.png", "https;//"),
        ("https//:host/a.png", "https//:"), ("http:///host/a.png", "http:///"), ("https:\\\\host\\a.png", "https:\\\\"),
        ("http.//host/a.png", "http.//"), ("https ://host/a.png", "https ://"), ("htttps:host/a.png", "htttps:"),
    ],
)  # fmt: skip
def test_a_misspelled_scheme_is_named(studio: LabelStudio, web: Web, reference: str, begins: str) -> None:
    assert refusal(studio, reference) == f"the address begins with '{begins}', where https:// or http:// belongs"
    assert web.requests == []


@pytest.mark.parametrize(
    "reference",
    ["127.0.0.1:8000/10.jpg", "localhost:8000/10.jpg", "images.example.com:443/10.jpg", "[::1]:8000/10.jpg",
     "host:80?a=1", "www.example.com/10.jpg", "192.168.1.5/10.jpg"],
)  # fmt: skip
def test_a_host_without_a_scheme_is_named(studio: LabelStudio, web: Web, reference: str) -> None:
    assert refusal(studio, reference) == NO_SCHEME
    assert web.requests == []


@pytest.mark.parametrize(
    "reference",
    ['"http://127.0.0.1:8000/11.jpg"', "'https://host/a.png'", '"/data/upload/1/a.png"', "“https://host/a.png”"],
)
def test_quotes_are_named(studio: LabelStudio, web: Web, reference: str) -> None:
    assert "quotes around it" in refusal(studio, reference)
    assert web.requests == []


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("s3://bucket/a.png", "no cloud storage for s3://bucket: connect it"),
        ("GS://bucket/a.png", "no cloud storage for gs://bucket: connect it"),
        ("s3:/bucket/a.png", "begins with 's3://'"),
        ("ftp://host/a.png", "'ftp:' is neither of the web"),
        ("hdfs://host/a.png", "'hdfs:' is neither of the web"),
        ("gdrive://a.png", "'gdrive:' is neither of the web .*s3://, gs://, azure-blob://"),
        ("blob:http://host/1234", "only the browser that made it"),
        ("https://https://host/a.png", "twice"),
        ("http://https//host/a.png", "twice"),
    ],
)  # fmt: skip
def test_other_schemes_get_a_sentence_of_their_own(studio: LabelStudio, reference: str, says: str) -> None:
    with pytest.raises(ImageError, match=says):
        studio.project(1).fetch(reference, 1)


@pytest.mark.parametrize(
    "reference",
    ["https://host/a.png", "HTTP://host/C:/a.png", "http://host/~me/a.png", "https://host/home/a.png?file:///x",
     "s3://b/C:/a.png",
     "https://host/a'b.png", "/data/local-files/?d=home/me/a.png", "/data/upload/1/it's.png", "//host/a.png",
     "htdocs/a.png", "/homes/a.png", "azure-blob://c/a.png", "/data/upload/1/a%22b.png", "http://host:80/a.png"],
)  # fmt: skip
def test_what_may_be_an_address_is_asked_for(reference: str) -> None:
    refuse_no_address(reference)


FIELD = Path(__file__).parents[3] / "shared" / "field" / "paths_of_a_disk.json"


@pytest.mark.skipif(not FIELD.exists(), reason="the inputs from the field are not part of the sources")
def test_every_path_from_the_field_gets_one_sentence(studio: LabelStudio) -> None:
    said = [refusal(studio, task["data"]["image"]) for task in json.loads(FIELD.read_text())]
    assert [text for text in said if text not in (ON_A_DISK, NOT_THERE, NO_SCHEME) and "quotes" not in text] == []
