import gzip
import io

import pytest
from PIL import Image, TiffImagePlugin

from model.data.decoding import decode
from model.data.signatures import description
from model.errors import BadImage

NIFTI = (348).to_bytes(4, "little") + bytes(340) + b"n+1\0" + bytes(1000)


def boxes(brand):
    return b"\0\0\0\x18ftyp" + brand + bytes(64)


@pytest.mark.parametrize(
    ("data", "what", "remedy"),
    [
        (boxes(b"heic"), "HEIC", "convert it to JPEG or PNG"),
        (boxes(b"mif1"), "HEIC", "convert it"),
        (bytes(128) + b"DICM" + bytes(99), "DICOM", "convert it"),
        (NIFTI, "NIfTI", "save the slices"),
        (gzip.compress(NIFTI, mtime=0), "NIfTI", "save the slices"),
        ((540).to_bytes(4, "little") + b"n+2\0" + bytes(600), "NIfTI", "save the slices"),
        (gzip.compress(b"a,b\n1,2\n", mtime=0), "gzip archive", "unpack it"),
        (b"FUJIFILMCCD-RAW 0201", "raw file of a camera", "convert it"),
        (b"IIU\0" + bytes(64), "raw file of a camera", "convert it"),
        (boxes(b"crx "), "raw file of a camera", "convert it"),
        (b"8BPS\0\1" + bytes(64), "Photoshop", "convert it"),
        (b"gimp xcf v011", "GIMP", "convert it"),
        (b"%PDF-1.7", "PDF", "save its pages"),
        (b"%!PS-Adobe-3.0", "PostScript", "convert it"),
        (boxes(b"isom"), "video", "single frames"),
        (boxes(b"qt  "), "video", "single frames"),
        (b"\x1a\x45\xdf\xa3" + bytes(64), "video", "single frames"),
        (b"RIFF\0\0\0\0AVI LIST", "video", "single frames"),
        (b"RIFF\0\0\0\0WAVEfmt ", "sound", ""),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL", "convert it"),
        (b"\x76\x2f\x31\x01" + bytes(64), "OpenEXR", "convert it"),
        (b"SIMPLE  =                    T", "FITS", "convert it"),
        (b"NRRD0005\n", "NRRD", "save the slices"),
        (b"\x93NUMPY\1\0", "NumPy", "convert it"),
        (b"PK\3\4" + bytes(64), "ZIP", "unpack it"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS", "git lfs pull"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG", "convert it"),
        (b"<?xml version='1.0'?><!-- " + b"x" * 900 + b" --><svg/>", "SVG", "convert it"),
        (b"<!DOCTYPE html><html><svg/></html>", "web page", "login or error page"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "web page", "error page"),
        (b'{"detail": "not found"}', "text", "error message"),
        (b'{"message": "see", "url": "https://docs.example/1.png"}', "text", "error message"),
        (b"Not found. See https://docs.example", "text", "error message"),
        (b"https://host/1.jpg\nhttps://host/2.jpg\n", "list of addresses", "one for each line"),
        (b"\xef\xbb\xbfHTTP://172.17.0.1:8252/picture?time=1\r\n", "list of addresses", "list of tasks"),
        (b"id,image\n1,https://host/1.jpg\n", "list of addresses", "list of tasks"),
        (b'image;class\n"s3://bucket/1.jpg";cat\n', "list of addresses", "list of tasks"),
        (b'[{"data": {"image": "/data/upload/1/a.png"}}]', "list of tasks", "Treat every bucket object"),
        (b'{\n  "id": 1,\n  "annotations": [{"id": 7}]\n}', "list of tasks", "import it as tasks"),
        (b"0 0.5984375 0.2671875 0.553125 0.53125\n", "file of labels", "leave it out"),
        (b"0 0.1 0.2 0.3 0.4\r\n12 0.1 0.2 0.3 0.4", "file of labels", "leave it out"),
        (b"<annotation><folder>1</folder></annotation>\n", "file of labels", "leave it out"),
        (b"\0\0\0\1Bud1" + bytes(64), ".DS_Store", "leave it out"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(64), "Thumbs.db", "leave it out"),
        (b"\x01\x02\x03" * 99, "not an image in a known format", "convert it"),
    ],
)
def test_a_file_that_is_not_read_is_named_with_what_to_do(data, what, remedy):
    with pytest.raises(BadImage, match=what) as caught:
        decode(data, 16)
    text = str(caught.value)
    assert remedy in text
    assert "\n" not in text


def test_damaged_gzip_is_an_archive():
    assert "gzip" in description(b"\x1f\x8b" + bytes(40))


@pytest.mark.parametrize("tags", [{50706: b"\1\4\0\0"}, {254: 1, 330: 8}])
def test_a_raw_file_that_begins_with_a_small_tiff_is_named(tags):
    info = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in tags.items():
        info[tag] = value
        info.tagtype[tag] = 1 if tag == 50706 else 4
    buffer = io.BytesIO()
    Image.new("RGB", (16, 12)).save(buffer, "TIFF", tiffinfo=info)
    with pytest.raises(BadImage, match="raw file of a camera"):
        decode(buffer.getvalue(), 16)


def test_too_large_says_what_to_do(monkeypatch):
    monkeypatch.setattr("model.data.decoding.MAX_PIXELS", 100)
    buffer = io.BytesIO()
    Image.new("L", (20, 20)).save(buffer, "PNG")
    with pytest.raises(BadImage, match="make it smaller"):
        decode(buffer.getvalue(), 16)
