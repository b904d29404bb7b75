"""What a file is that is no picture we read, by its first bytes, and what to do about it."""

import re
import zlib

CONVERT = "convert it to JPEG or PNG"
LEAVE_OUT = "leave it out of the import (storages have a filter of file names)"
_HEAD = 4096  # bytes of a file that are looked at
_PAGE = (b"<!doctype html", b"<html", b"<head", b"<body")
_MARKUP = (b"<?xml", b"<!doctype", b"<!--")

# By the first bytes. Of those that begin alike, the longer ones come first.
_STARTS: tuple[tuple[bytes, str], ...] = (
    (b"\0\0\1\0", f"is an icon (ICO), not an image: {CONVERT}"),
    (b"icns", f"is an icon (ICNS), not an image: {CONVERT}"),
    (b"8BPS", f"is a Photoshop document (PSD), which browsers do not show: {CONVERT}"),
    (b"gimp xcf", f"is a GIMP document (XCF), which browsers do not show: {CONVERT}"),
    (b"%PDF", "is a PDF document, not an image: save its pages as JPEG or PNG"),
    (b"%!PS", f"is not an image in a known format but a PostScript document: {CONVERT}"),
    (b"\xc5\xd0\xd3\xc6", f"is not an image in a known format but a PostScript document: {CONVERT}"),
    (b"FUJIFILMCCD-RAW", "raw"),
    (b"IIRO", "raw"),
    (b"IIRS", "raw"),
    (b"MMOR", "raw"),
    (b"IIU\0", "raw"),
    (b"FOVb", "raw"),
    (b"\xff\x0a", f"is a JPEG XL picture, which few browsers show: {CONVERT}"),
    (b"\0\0\0\x0cJXL ", f"is a JPEG XL picture, which few browsers show: {CONVERT}"),
    (b"\x76\x2f\x31\x01", f"is an OpenEXR picture, which browsers do not show: {CONVERT}"),
    (b"#?R", f"is a Radiance HDR picture, which browsers do not show: {CONVERT}"),
    (b"SIMPLE  =", f"is a FITS file, which browsers do not show: {CONVERT}"),
    (b"NRRD0", "is a NRRD volume: save the slices that people label as JPEG or PNG"),
    (b"\x93NUMPY", f"is a NumPy array, not an image: {CONVERT}"),
    (b"\x89HDF", f"is an HDF5 file, not an image: {CONVERT}"),
    (b"\x1a\x45\xdf\xa3", "video"),
    (b"\0\0\1\xba", "video"),
    (b"\0\0\1\xb3", "video"),
    (b"FLV\1", "video"),
    (b"OggS", "is a video or sound (Ogg), not an image: save single frames as JPEG or PNG"),
    (b"ID3", "is a sound (MP3), not an image"),
    (b"\0\0\0\1Bud1", f"is a .DS_Store of macOS, not an image: {LEAVE_OUT}"),
    (b"\xd0\xcf\x11\xe0", f"is a Thumbs.db of Windows or a document of Office, not an image: {LEAVE_OUT}"),
    (b"PK\3\4", "is a ZIP archive, not an image: unpack it and upload the images in it"),
    (b"Rar!", "is a RAR archive, not an image: unpack it and upload the images in it"),
    (b"7z\xbc\xaf\x27\x1c", "is a 7z archive, not an image: unpack it and upload the images in it"),
    (b"version https://git-lfs", "is a pointer of Git LFS, not the image itself: fetch the images with git lfs pull"),
)
_NAMED = {
    "raw": f"is a raw file of a camera, which browsers do not show: {CONVERT}",
    "video": "is a video, not an image: save single frames as JPEG or PNG",
    "nifti": "is a NIfTI volume, which browsers do not show: save the slices that people label as JPEG or PNG",
}
_HEIC = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
_NIFTI = (b"n+1\0", b"ni1\0")
# What lies beside images: each line, or a column of each line, is an address; tasks; labels of other programs.
_ADDRESSES = re.compile(rb"(?:[^\n]*\n)?(?:[^\n]*[,;\t])?[\"']?(?:https?|s3|gs|azure-blob)://")
_TASKS = re.compile(rb"[\[{].*\"(?:data|annotations|predictions)\"\s*:\s*[\[{]", re.DOTALL)
_LABELS = re.compile(rb"(?:[0-9]+(?:[ \t]+[0-9.]+){4,}[ \t]*[\r\n]+)+[0-9 .\t]*|<annotation[\s>].*", re.DOTALL)
_TEXT = re.compile(rb"[\t\n\r\x20-\x7e\x80-\xff]+")


def description(data: bytes) -> str:
    """Return one sentence on a file that no decoder reads: what it is, and what to do."""
    return f"the file {_described(data)}"


def _described(data: bytes) -> str:
    head = data[:_HEAD]
    for start, text in _STARTS:
        if head.startswith(start):
            return _NAMED.get(text, text)
    if head[4:8] == b"ftyp":
        return _of_boxes(head[8:12])
    if head[:4] == b"RIFF":
        return "is a sound (WAV), not an image" if head[8:12] == b"WAVE" else _NAMED["video"]
    if head[128:132] == b"DICM":
        return f"is a DICOM file, which browsers do not show: {CONVERT}"
    if head.startswith(b"\x1f\x8b"):
        head = _unpacked(data)
        if not _is_nifti(head):
            return "is a gzip archive, not an image: unpack it and upload the images in it"
    if _is_nifti(head):
        return _NAMED["nifti"]
    return _as_text(head)


def _of_boxes(brand: bytes) -> str:
    """Return what a file of the ISO base media format is: pictures and videos share it."""
    if brand in _HEIC:
        return f"is a HEIC picture, which most browsers do not show: {CONVERT}"
    if brand == b"crx ":
        return _NAMED["raw"]
    if brand in (b"avif", b"avis"):
        return f"is a damaged AVIF picture: {CONVERT}"
    return _NAMED["video"]


def _is_nifti(head: bytes) -> bool:
    return head[344:348] in _NIFTI or head[4:8] == b"n+2\0"


def _unpacked(data: bytes) -> bytes:
    """Return the first bytes of what is packed with gzip; none where it is damaged."""
    try:
        return zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(data[:65536], _HEAD)
    except zlib.error:
        return b""


def _as_text(head: bytes) -> str:
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in text and not text.startswith(_PAGE):
        return f"is an SVG drawing, which has no pixels until it is drawn: {CONVERT}"
    if _LABELS.fullmatch(text):
        return f"is a file of labels, not an image: {LEAVE_OUT}"
    if text.startswith(_PAGE + _MARKUP):
        return "is a web page, not an image (a login or error page of the image's server?)"
    if _TASKS.match(text):
        return (
            "is a list of tasks (JSON), not an image: import it as tasks, in a storage without 'Treat every bucket "
            "object as a source file'"
        )
    if not text.startswith((b"{", b"[")) and _ADDRESSES.match(text):
        return "is a list of addresses, not an image: import it as a list of tasks, one for each line"
    if text and _TEXT.fullmatch(head):
        return "is a text, not an image (an error message of the image's server?)"
    return f"is not an image in a known format: {CONVERT}"
