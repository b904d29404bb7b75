"""Objects with a box each. A target is a list of boxes, ``[class, left, top, width, height]`` as shares of the image.

Coordinates lie within the image and are rounded to DIGITS decimals. Boxes are in the order of the configured classes,
then of their places; no two are the same. A prediction has the score of each box behind it, surest first.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from model.errors import BadInput
from model.evaluation.boxes import Detections, detections, f1, match, mean_average_precision, overlaps
from model.problems.base import Decoding, Encoded, Mistakes, Prediction, Problem, Target, chunks
from model.querying.outputs import COMMON_DERIVED, BoolArray, FloatArray, IntArray, Outputs

DIGITS = 5  # a hundredth of a pixel of 1,000
SMALLEST = 10.0**-DIGITS  # width and height below which a box has no area
DEFAULT_THRESHOLD = 0.3  # score from which a box is shown, where there are too few labels to choose it
FEWEST = 5  # images below which the threshold is not chosen
_EDGE = 1e-6  # how near to 0 and 1 a score may come: its logit is finite

Box = Sequence[Any]  # [class, left, top, width, height], and a score behind them in predictions


class Detection(Problem):
    """Boxes with classes. Encoded targets are (n, M, 5) float32: class id and box, -1 behind the last one."""

    name = "detection"
    metric = "box_f1"
    base_outputs = ("boxes",)
    outputs = COMMON_DERIVED | {"boxes", "embeddings", "pretext_embeddings"}
    round_size, holdout_share = 8, 0.2  # each answer takes long, and says a lot
    counts_objects = True
    figures = ("curve", "losses", "balance", "boxes", "box_curves", "box_sizes", "reliability", "map")
    overlay = "boxes"
    learners = ("detector",)
    view_side = 320

    def fits(self, target: Target, classes: Sequence[str]) -> bool:
        """Tell whether the target is a list of boxes of these classes within the image, with or without scores."""
        return isinstance(target, list | tuple) and all(_is_box(box, classes) for box in target)

    def merge(self, votes: Sequence[Target]) -> Target | None:
        """Return the objects that more than half of the annotators drew: their mean box, their most frequent class.

        Boxes of different annotators are of one object from an overlap of 0.5 on, whatever their classes. An object
        that exactly half of them drew is left out, and one whose most frequent classes tie.
        """
        if not votes:
            return None
        if len(votes) == 1:
            return list(votes[0])
        names = list(dict.fromkeys(box[0] for vote in votes for box in vote))
        return canonical([box for box in _agreements(votes) if box is not None], names)

    def left_out(self, votes: Sequence[Target]) -> int:
        """Return the number of objects on which several annotators do not agree."""
        return sum(box is None for box in _agreements(votes)) if len(votes) > 1 else 0

    def quality(self, prediction: Prediction, target: Target) -> float:
        """Return the F1 of the boxes matched at an overlap of 0.5, class by class; 1 where both are none."""
        names = {name: number for number, name in enumerate(dict.fromkeys(box[0] for box in (*prediction, *target)))}
        (boxes, classes), (true_boxes, true_classes) = (as_arrays(boxes, names) for boxes in (prediction, target))
        hits = int((match(boxes, classes, true_boxes, true_classes) >= 0).sum())
        return f1(hits, len(boxes), len(true_boxes))

    @property
    def scored(self) -> str:
        """The mean average precision at an overlap of 0.5."""
        return "map50"

    def ranked(self, decoding: Decoding) -> Decoding:
        """Return a decoding that shows all boxes: average precision is that of their order."""
        return {**decoding, "threshold": 0.0}

    def score(self, predictions: Sequence[Prediction], targets: Sequence[Target], classes: Sequence[str]) -> float:
        """Return the mean average precision at an overlap of 0.5, over the classes that occur; 1 where none does."""
        ids = {name: number for number, name in enumerate(classes)}
        given = []
        for boxes in predictions:
            places, names = as_arrays(boxes, ids)
            given.append((places, names, -np.sort([-float(box[5]) for box in boxes])))
        found = mean_average_precision(detections(given, [as_arrays(boxes, ids) for boxes in targets], len(classes)))
        return found[0] if found is not None else 1.0

    def detected(self, outputs: Outputs, indices: IntArray, truth: Encoded, classes: int) -> list[Detections]:
        """Return what all boxes of these images, shown or not, find of their encoded targets, class by class."""
        given = [(rows[:, :4], rows[:, 5].astype(np.int64), rows[:, 4]) for rows in _rows(outputs, indices)]
        known = (row[row[:, 0] >= 0] for row in truth)
        return detections(given, [(row[:, 1:], row[:, 0].astype(np.int64)) for row in known], classes)

    def objects(self, target: Target) -> int:
        """Return the number of boxes."""
        return len(target)

    def classes_of(self, target: Target) -> tuple[str, ...]:
        """Return the classes of the boxes, each once."""
        return tuple(dict.fromkeys(str(box[0]) for box in target))

    def decode(
        self, outputs: Outputs, indices: IntArray, classes: Sequence[str], decoding: Decoding
    ) -> list[Prediction]:
        """Return the boxes whose score reaches the threshold, with their scores, for each of these images.

        decoding: ``threshold``; DEFAULT_THRESHOLD without.
        """
        threshold = decoding.get("threshold", DEFAULT_THRESHOLD)
        return [
            [
                [classes[int(row[5])], *(round(float(share), DIGITS) for share in row[:4]), round(float(row[4]), 4)]
                for row in rows[rows[:, 4] >= threshold]
            ]
            for part in chunks(indices)
            for rows in _rows(outputs, part)
        ]

    def confidence(self, outputs: Outputs, indices: IntArray, decoding: Decoding, temperature: float) -> FloatArray:
        """Return about the expected F1 of the boxes shown at a temperature, (n,) float32: the ratio of expected counts.

        2 * sum of p over the boxes shown / (their number + the expected number of objects), where p is the chance that
        a box finds an object, and the objects are the sum of p over all boxes and those that no box finds, ``missed``
        an image. Where no box is shown, the chance that there is no object.
        """
        parts = [np.empty(0, np.float32)]
        for part in chunks(indices):
            scores = _scores(outputs, part)  # (n, M), 0 for no box
            shown = scores >= decoding.get("threshold", DEFAULT_THRESHOLD)
            p = np.where(scores > 0, _at(scores, temperature), 0.0)
            missed = float(decoding.get("missed", 0.0))
            count = shown.sum(axis=1)
            expected = 2 * (p * shown).sum(axis=1) / np.maximum(count + p.sum(axis=1) + missed, _EDGE)
            none = (1 - p).prod(axis=1) * np.exp(-missed)
            parts.append(np.where(count, expected, none).clip(0, 1).astype(np.float32))
        return np.concatenate(parts)

    def uncertainty(self, outputs: Outputs, indices: IntArray) -> FloatArray:
        """Return the mean doubt about the boxes, 1 - |2p - 1| each, weighted by p, (n,) float64; 1 without any box.

        Weighted, because a detector gives many boxes that are hardly there, about which there is no doubt. An image on
        which it finds nothing at all is one that it knows nothing of.
        """
        parts = [np.empty(0)]
        for part in chunks(indices):
            p = _scores(outputs, part).astype(np.float64)
            doubt = (p * (1 - np.abs(2 * p - 1))).sum(axis=1) / np.maximum(p.sum(axis=1), _EDGE)
            parts.append(np.where(p.sum(axis=1) > 0, doubt, 1.0))
        return np.concatenate(parts)

    def expected_objects(self, outputs: Outputs, indices: IntArray, decoding: Decoding) -> FloatArray:
        """Return the expected number of objects, (n,) float64: the sum of p over all boxes, and what no box finds."""
        parts = [np.empty(0)]
        parts += [_scores(outputs, part).sum(axis=1, dtype=np.float64) for part in chunks(indices)]
        return np.concatenate(parts) + float(decoding.get("missed", 0.0))

    def expected_mistakes(
        self, outputs: Outputs, indices: IntArray, decoding: Decoding, temperature: float
    ) -> Mistakes:
        """Return the boxes shown, the expected number of those that find no object, and of objects without one.

        See ``confidence``: a box finds an object with chance p, and an image has ``missed`` objects that no box finds.
        """
        shown, wrong, missed = 0, 0.0, len(indices) * float(decoding.get("missed", 0.0))
        for part in chunks(indices):
            scores = _scores(outputs, part)
            p = np.where(scores > 0, _at(scores, temperature), 0.0).astype(np.float64)
            kept = scores >= decoding.get("threshold", DEFAULT_THRESHOLD)
            shown += int(kept.sum())
            wrong += float((1 - p)[kept].sum())
            missed += float(p[~kept].sum())
        return Mistakes(shown, wrong, missed)

    def log_likelihood(
        self, outputs: Outputs, indices: IntArray, truth: Encoded, temperatures: FloatArray
    ) -> FloatArray:
        """Return the sum of the log chances of each box finding an object or not, at each temperature, (G,)."""
        scores, hits = scored_hits(outputs, indices, truth)
        if not len(scores):
            return np.zeros(len(temperatures))
        signed = _logits(scores) * np.where(hits, 1.0, -1.0)
        return np.array([float(-np.logaddexp(0.0, -signed / t).sum()) for t in temperatures])

    def tune(self, outputs: Outputs, truth: Encoded, classes: Sequence[str]) -> Decoding:
        """Return the score from which boxes are shown, of the best F1, and the objects an image that no box finds."""
        if len(truth) < FEWEST:
            return {}
        scores, hits = scored_hits(outputs, np.arange(len(truth)), truth)
        objects = int((truth[:, :, 0] >= 0).sum())
        missed = round((objects - int(hits.sum())) / len(truth), 4)
        if not hits.any():
            return {"missed": missed}
        order = np.argsort(-scores, kind="stable")
        found, given, sorted_scores = np.cumsum(hits[order]), np.arange(1, len(order) + 1), scores[order]
        quality = 2 * found / (given + objects)
        quality[:-1][sorted_scores[:-1] == sorted_scores[1:]] = -1.0  # no cut between equal ones
        best = int(quality.argmax())
        below = sorted_scores[best + 1] if best + 1 < len(order) else 0.0
        return {"threshold": round(float((sorted_scores[best] + below) / 2), 4), "missed": missed}

    def at_temperature(self, decoding: Decoding, temperature: float) -> Decoding:
        """Return the threshold of scores at a temperature."""
        if "threshold" not in decoding:
            return decoding
        threshold = np.array([float(decoding["threshold"])])
        return {**decoding, "threshold": float(_at(threshold, temperature)[0])}

    def encode(self, targets: Sequence[Target], classes: Sequence[str]) -> Encoded:
        """Return class id and box of each object, (n, M, 5) float32, -1 behind the last one of an image."""
        ids = {name: number for number, name in enumerate(classes)}
        encoded = np.full((len(targets), max([1, *map(len, targets)]), 5), -1.0, np.float32)
        for row, target in zip(encoded, targets, strict=True):
            for place, box in zip(row, target, strict=False):
                place[:] = ids[box[0]], *box[1:5]
        return encoded

    def check(self, truth: Encoded, classes: int) -> None:
        """Raise BadInput for anything but class ids below ``classes``, and boxes within the image."""
        if truth.ndim != 3 or truth.shape[2] != 5 or not np.isfinite(truth).all():
            raise BadInput(f"found targets of shape {truth.shape} instead of class and box of each object")
        known = truth[truth[:, :, 0] >= 0]
        if len(known) and (known[:, 0].max() >= classes or known[:, 1:].min() < 0 or known[:, 1:].max() > 1):
            raise BadInput(f"found class ids or boxes that do not fit {classes} classes and the image")


def canonical(boxes: Sequence[Box], classes: Sequence[str]) -> Target:
    """Return boxes as a target has them: within the image, rounded, in order, none twice, none without an area."""
    order = {name: number for number, name in enumerate(classes)}
    found = set()
    for name, left, top, width, height, *_ in boxes:
        low = [min(max(float(place), 0.0), 1.0) for place in (left, top)]
        high = [min(max(float(place), 0.0), 1.0) for place in (left + width, top + height)]
        corner = [round(place, DIGITS) for place in low]
        size = [round(end - start, DIGITS) for start, end in zip(low, high, strict=True)]
        if min(size) >= SMALLEST:
            found.add((order.get(name, len(order)), str(name), *corner, *size))
    return [list(box[1:]) for box in sorted(found)]


def scored_hits(outputs: Outputs, indices: IntArray, truth: Encoded) -> tuple[FloatArray, BoolArray]:
    """Return the scores of all boxes of these images, and whether each finds an object of its target, (b,) each."""
    scores: list[FloatArray] = [np.empty(0)]
    hits: list[BoolArray] = [np.empty(0, np.bool_)]
    for rows, objects in zip(_rows(outputs, np.asarray(indices)), truth, strict=True):
        known = objects[objects[:, 0] >= 0]
        found = match(rows[:, :4], rows[:, 5].astype(np.int64), known[:, 1:], known[:, 0].astype(np.int64))
        scores.append(rows[:, 4])
        hits.append(found >= 0)
    return np.concatenate(scores).astype(np.float64), np.concatenate(hits)


def _agreements(votes: Sequence[Target]) -> list[Box | None]:
    """Return each object that anybody drew as most drew it; None for one that not more than half of them drew alike."""
    objects: list[list[Box]] = []
    for vote in votes:
        _add_vote(objects, vote)
    return [_agreed(boxes) if 2 * len(boxes) > len(votes) else None for boxes in objects]


def _add_vote(objects: list[list[Box]], vote: Target) -> None:
    """Add one annotator's boxes to the objects that others have drawn, best overlap first; the rest are new objects."""
    free = set(range(len(vote)))
    if objects and vote:
        means = np.array([np.mean([box[1:5] for box in boxes], axis=0) for boxes in objects])
        overlap = overlaps(np.array([box[1:5] for box in vote]), means)
        taken = set[int]()
        for flat in np.argsort(-overlap, axis=None, kind="stable").tolist():
            box, known = divmod(flat, len(objects))
            if overlap[box, known] < 0.5:
                break
            if box in free and known not in taken:
                objects[known].append(vote[box])
                free.discard(box)
                taken.add(known)
    objects += [[vote[box]] for box in sorted(free)]


def _agreed(boxes: Sequence[Box]) -> Box | None:
    """Return the mean box of the most frequent class; None where the most frequent classes tie."""
    counts: dict[str, int] = {}
    for box in boxes:
        counts[box[0]] = counts.get(box[0], 0) + 1
    most = max(counts.values())
    names = [name for name, count in counts.items() if count == most]
    if len(names) > 1:
        return None
    return [names[0], *np.mean([box[1:5] for box in boxes], axis=0).tolist()]


def _is_box(box: Any, classes: Sequence[str]) -> bool:
    if (
        not isinstance(box, list | tuple)
        or len(box) not in (5, 6)
        or not isinstance(box[0], str)
        or box[0] not in classes
    ):
        return False
    if not all(isinstance(number, int | float) and not isinstance(number, bool) for number in box[1:]):
        return False
    left, top, width, height = box[1:5]
    low = -SMALLEST
    return bool(low <= min(left, top) and max(left + width, top + height) <= 1 - 2 * low and min(width, height) > 0)


def as_arrays(boxes: Sequence[Box], ids: Mapping[str, int]) -> tuple[FloatArray, IntArray]:
    """Return boxes (n, 4) and class ids (n,), surest first where they have scores."""
    ordered = sorted(boxes, key=lambda box: -box[5] if len(box) > 5 else 0.0)
    places = np.array([box[1:5] for box in ordered], np.float64).reshape(-1, 4)
    return places, np.array([ids[box[0]] for box in ordered], np.int64)


def _boxes(outputs: Outputs, indices: IntArray) -> FloatArray:
    if outputs.boxes is None:
        raise BadInput("these outputs have no boxes ('boxes')")
    return np.asarray(outputs.boxes[indices])


def _rows(outputs: Outputs, indices: IntArray) -> list[FloatArray]:
    """Return the boxes of each image, (b, 6): left, top, width, height, score, class id; surest first."""
    return [rows[rows[:, 4] > 0] for rows in _boxes(outputs, indices)]


def _scores(outputs: Outputs, indices: IntArray) -> FloatArray:
    scores: FloatArray = np.clip(_boxes(outputs, indices)[:, :, 4], 0.0, 1.0)
    return scores


def _at(scores: FloatArray, temperature: float) -> FloatArray:
    if temperature == 1.0:
        return scores
    at: FloatArray = 1 / (1 + np.exp(-_logits(scores) / temperature))
    return at


def _logits(scores: FloatArray) -> FloatArray:
    p = np.clip(np.asarray(scores, np.float64), _EDGE, 1 - _EDGE)
    logits: FloatArray = np.log(p) - np.log1p(-p)
    return logits
