"""COCO's JSON: boxes, and masks as run lengths. Source: cocodataset.org, "Data format" and "Results format".

Ids of images are Label Studio's ids of the tasks; categories count from 1. Predictions have a ``score`` beside what an
annotation has, so that the list of them is what COCO calls results.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from backend.web.formats.base import Answers, Entry, reference
from backend.web.formats.spool import JsonList, encoded
from model.data.masks import fitted, unpack

DIGITS = 2  # decimals of a pixel

Part = dict[str, Any]


class Coco:
    """A box is an annotation, and so is all that an image has of a class in its mask: masks do not tell objects apart.

    Pixels that are ignored are in no annotation.
    """

    title, mimetype, sized = "COCO (JSON)", "application/json", True
    problems = frozenset({"detection", "segmentation"})

    def write(self, answers: Answers) -> Iterator[bytes]:
        """Yield the JSON, annotations before images: of these, the list is the shorter one."""
        ids = {name: number for number, name in enumerate(answers.classes, start=1)}
        parts_of = _boxes if answers.problem.name == "detection" else _areas
        categories = [{"id": number, "name": name, "supercategory": ""} for name, number in ids.items()]
        yield b'{"categories": ' + encoded(categories) + b',\n"annotations": ['
        count = 0
        with JsonList() as images:
            for entry in answers:
                width, height = entry.pixels
                images.add({"id": entry.task_id, "width": width, "height": height, **reference(entry)})
                for part in parts_of(entry, ids):
                    count += 1
                    row = encoded({"id": count, "image_id": entry.task_id, **part})
                    yield (b",\n" if count > 1 else b"\n") + row
            yield b'],\n"images": '
            yield from images.pieces()
        yield b',\n"info": ' + encoded({"left_out": answers.left_out}) + b"}\n"


def _boxes(entry: Entry, ids: dict[str, int]) -> Iterator[Part]:
    sides = entry.pixels * 2
    for name, *shares in entry.answer:
        box = [share * side for share, side in zip(shares[:4], sides, strict=True)]
        yield {
            "category_id": ids[name],
            "bbox": [round(length, DIGITS) for length in box],
            "area": round(box[2] * box[3], DIGITS),
            "segmentation": [],
            "iscrowd": 0,
            **({} if entry.confidence is None else {"score": shares[4]}),
        }


def _areas(entry: Entry, ids: dict[str, int]) -> Iterator[Part]:
    pixels = fitted(unpack(entry.answer, tuple(ids)), entry.pixels)
    for name in entry.answer["classes"]:
        area = pixels == ids[name]
        if not area.any():  # a small one, of a mask that was scaled down
            continue
        columns, rows = np.flatnonzero(area.any(axis=0)), np.flatnonzero(area.any(axis=1))
        left, top = int(columns[0]), int(rows[0])
        yield {
            "category_id": ids[name],
            "bbox": [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top],
            "area": int(area.sum()),
            "segmentation": {"size": [*area.shape], "counts": run_lengths(area)},
            "iscrowd": 0,
            **({} if entry.confidence is None else {"score": round(entry.confidence, 4)}),
        }


def run_lengths(mask: npt.NDArray[np.bool_]) -> list[int]:
    """Return the lengths of the runs of a mask (height, width), column by column, the first one of what is not set."""
    flat = mask.ravel(order="F")
    ends = np.concatenate([np.flatnonzero(flat[1:] != flat[:-1]) + 1, [len(flat)]])
    lengths: list[int] = np.diff(ends, prepend=0).tolist()
    return [0, *lengths] if flat[0] else lengths
