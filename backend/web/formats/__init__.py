"""The files of other programs in which labels and predictions can be had: one a file, listed here."""

from backend.web.formats.base import Format
from backend.web.formats.coco import Coco
from backend.web.formats.mask_images import MaskImages
from backend.web.formats.yolo import Yolo

# By the end of the file's name, with which addresses name them.
FORMATS: dict[str, Format] = {"coco.json": Coco(), "yolo.zip": Yolo(), "masks.zip": MaskImages()}


def formats_of(problem: str) -> dict[str, str]:
    """Return the titles of the formats that a problem's targets can be written in, by their names."""
    return {name: form.title for name, form in FORMATS.items() if problem in form.problems}
