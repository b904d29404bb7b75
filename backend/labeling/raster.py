"""Outlines to the pixels that they cover, and back."""

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]  # (n, 2) of x and y, in pixels from the top left corner
Mask = npt.NDArray[np.bool_]  # (height, width)

MOST_POINTS = 99  # of an outline that people are to correct by hand
_TOLERANCE = 0.75  # pixels that a simplified outline may lie off, at first
_SMALLEST = 12  # pixels of a part of a mask that gets an outline


def covered(outline: Points, width: int, height: int) -> Mask:
    """Return which pixels have their centre within a closed outline, (height, width).

    Points may lie outside of the image. Fewer than three enclose nothing. An outline that crosses itself holds all that
    it winds around, which is what browsers fill.
    """
    if len(outline) < 3:
        return np.zeros((height, width), np.bool_)
    x, y = outline.T
    to_x, to_y = np.roll(x, -1), np.roll(y, -1)
    # The rows whose middle an edge crosses; one that ends on it counts at its upper end alone.
    first = np.clip(np.ceil(np.minimum(y, to_y) - 0.5), 0, height).astype(np.int64)
    behind = np.clip(np.ceil(np.maximum(y, to_y) - 0.5), 0, height).astype(np.int64)
    count = np.maximum(behind - first, 0)
    edge = np.repeat(np.arange(len(x)), count)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    slope = (to_x[edge] - x[edge]) / (to_y[edge] - y[edge])
    crossing = x[edge] + (row + 0.5 - y[edge]) * slope
    column = np.clip(np.ceil(crossing - 0.5), 0, width).astype(np.int64)
    places, downwards = row * (width + 1) + column, np.where(to_y > y, 1, -1)[edge]
    turns = np.bincount(places, downwards, height * (width + 1)).reshape(height, width + 1)
    inside: Mask = np.cumsum(turns, axis=1)[:, :width] != 0
    return inside


def outlines(mask: Mask) -> list[Points]:
    """Return the outlines of the parts of a mask, the largest first, each of MOST_POINTS points at most.

    Holes are left out, and parts of fewer than _SMALLEST pixels. No outline crosses itself.
    """
    from scipy import ndimage

    parts, _ = ndimage.label(mask)
    found = []
    for number, place in enumerate(ndimage.find_objects(parts), start=1):
        part = ndimage.binary_fill_holes(parts[place] == number)
        if part.sum() >= _SMALLEST:
            offset = np.array([place[1].start, place[0].start], np.float64)
            found.append((int(part.sum()), uncrossed(simplified(_around(part))) + offset))
    return [outline for _, outline in sorted(found, key=lambda pair: -pair[0])]


def _around(part: Mask) -> Points:
    """Return the outline of one part without holes, along the edges of its pixels, corners only."""
    padded = np.pad(part, 1)
    # Each edge of a pixel towards the outside, with the part on the right hand: from corner to corner.
    following: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for (row, column), (start, end) in (
        ((-1, 0), ((0, 0), (1, 0))), ((0, 1), ((1, 0), (1, 1))),
        ((1, 0), ((1, 1), (0, 1))), ((0, -1), ((0, 1), (0, 0))),
    ):  # fmt: skip
        border = part & ~padded[1 + row : padded.shape[0] - 1 + row, 1 + column : padded.shape[1] - 1 + column]
        for y, x in np.argwhere(border).tolist():
            following.setdefault((x + start[0], y + start[1]), []).append((x + end[0], y + end[1]))
    here = min(following, key=lambda corner: (corner[1], corner[0]))
    path, heading = [here], (1, 0)
    while True:
        choices = following[here]
        # Where two pixels touch by a corner, keep to the same one: turn right.
        right = (here[0] - heading[1], here[1] + heading[0])
        there = right if right in choices else choices[0]
        choices.remove(there)
        heading, here = (there[0] - here[0], there[1] - here[1]), there
        if here == path[0]:
            break
        path.append(here)
    points = np.array(path, np.float64)
    turns = (points - np.roll(points, 1, axis=0) != np.roll(points, -1, axis=0) - points).any(axis=1)
    corners: Points = points[turns]
    return corners


def simplified(outline: Points, most: int = MOST_POINTS) -> Points:
    """Return an outline of at most ``most`` points, by Douglas and Peucker at the first tolerance that does."""
    tolerance = _TOLERANCE
    while True:
        kept = _douglas_peucker(outline, tolerance)
        if len(kept) <= most:
            return kept if len(kept) > 2 else outline[:: max(len(outline) // 4, 1)][:most]
        tolerance *= 1.4


def _douglas_peucker(outline: Points, tolerance: float) -> Points:
    far = int(((outline - outline[0]) ** 2).sum(axis=1).argmax())
    closed = np.concatenate([outline, outline[:1]])
    keep = np.zeros(len(closed), np.bool_)
    keep[[0, far, -1]] = True
    stack = [(0, far), (far, len(closed) - 1)]
    while stack:
        start, end = stack.pop()
        if end - start < 2:
            continue
        between, along = closed[start + 1 : end] - closed[start], closed[end] - closed[start]
        length = float(np.hypot(*along))
        cross = np.abs(between[:, 0] * along[1] - between[:, 1] * along[0])
        distance = cross / length if length else np.hypot(*between.T)
        worst = int(distance.argmax())
        if distance[worst] > tolerance:
            keep[start + 1 + worst] = True
            stack += [(start, start + 1 + worst), (start + 1 + worst, end)]
    kept: Points = outline[keep[:-1]]
    return kept


def uncrossed(outline: Points) -> Points:
    """Return an outline that does not cross itself: what lies between two edges that cross is walked backwards.

    Each step makes the outline shorter, so that it ends.
    """
    outline = outline.copy()
    for _ in range(10 * len(outline)):
        pair = _crossing(outline)
        if pair is None:
            break
        first, second = pair
        outline[first + 1 : second + 1] = outline[first + 1 : second + 1][::-1].copy()
    return outline


def _crossing(outline: Points) -> tuple[int, int] | None:
    """Return two edges, by their first points, that cross each other."""
    start, end = outline, np.roll(outline, -1, axis=0)

    def side(point: Points) -> Points:
        """Return on which side of each edge (rows) each point (columns) lies."""
        along = (end - start)[:, None]
        off = point[None] - start[:, None]
        sides: Points = np.sign(along[..., 0] * off[..., 1] - along[..., 1] * off[..., 0])
        return sides

    apart = side(start) * side(end) < 0
    found = np.argwhere(np.triu(apart & apart.T, 1))
    return (int(found[0, 0]), int(found[0, 1])) if len(found) else None
