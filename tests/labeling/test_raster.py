"""Outlines to pixels and back."""

import numpy as np
import pytest
from matplotlib.path import Path as Outline

from backend.labeling.raster import MOST_POINTS, covered, outlines, simplified, uncrossed

SQUARE = np.array([[1, 1], [4, 1], [4, 3], [1, 3]], np.float64)


def test_a_square_covers_the_pixels_whose_centre_it_holds() -> None:
    assert covered(SQUARE, 6, 4).astype(int).tolist() == [
        [0, 0, 0, 0, 0, 0], [0, 1, 1, 1, 0, 0], [0, 1, 1, 1, 0, 0], [0, 0, 0, 0, 0, 0],
    ]  # fmt: skip
    assert covered(SQUARE - 10, 6, 4).sum() == 0
    assert covered(np.array([[-9, -9], [99, -9], [99, 99], [-9, 99]], np.float64), 6, 4).all()
    assert not covered(SQUARE[:2], 6, 4).any()


@pytest.mark.parametrize("seed", range(20))
def test_simple_outlines_cover_what_matplotlib_says(seed: int) -> None:
    generator = np.random.default_rng(seed)
    angles = np.sort(generator.uniform(0, 2 * np.pi, 9))
    points = 25 + np.stack([np.cos(angles), np.sin(angles)], 1) * generator.uniform(5, 40, (9, 1))
    rows, columns = np.mgrid[:44, :51]
    centres = np.stack([columns + 0.5, rows + 0.5], -1).reshape(-1, 2)
    inside = Outline(np.concatenate([points, points[:1]]), closed=True).contains_points(centres)
    assert np.array_equal(covered(points, 51, 44).ravel(), inside)


def test_an_outline_that_crosses_itself_holds_what_it_winds_around() -> None:
    """As browsers fill it: a five-pointed star is full, the two halves of a bow are."""
    angles = np.arange(5) * 4 * np.pi / 5
    star = 20 + 18 * np.stack([np.sin(angles), -np.cos(angles)], 1)
    assert covered(star, 40, 40)[20, 20]
    bow = covered(np.array([[0, 0], [8, 8], [8, 0], [0, 8]], np.float64), 8, 8)
    assert [bow[4, 0], bow[4, 7], bow[0, 4], bow[7, 4]] == [True, True, False, False]


def test_outlines_give_the_parts_back_the_largest_first() -> None:
    mask = np.zeros((40, 60), np.bool_)
    mask[5:20, 5:50] = True
    mask[9:12, 20:30] = False  # a hole: it is filled
    mask[25:31, 10:14] = True
    mask[38, 0:3] = True  # too small
    first, second = outlines(mask)
    wanted = np.zeros_like(mask)
    wanted[5:20, 5:50] = True
    assert np.array_equal(covered(first, 60, 40), wanted)
    wanted[:] = False
    wanted[25:31, 10:14] = True
    assert np.array_equal(covered(second, 60, 40), wanted)


@pytest.mark.parametrize("seed", range(8))
def test_outlines_of_rough_parts_have_few_points_cross_nowhere_and_fit(seed: int) -> None:
    generator = np.random.default_rng(seed)
    coarse = generator.random((14, 14)) > 0.4
    mask = np.kron(coarse, np.ones((20, 20), np.bool_)).astype(np.bool_)
    found = outlines(mask)
    area = np.zeros_like(mask)
    for points in found:
        assert 3 <= len(points) <= MOST_POINTS
        assert not crosses(points)
        area |= covered(points, *mask.shape[::-1])
    assert (area & mask).sum() / mask.sum() > 0.97


def test_simplified_keeps_corners_and_drops_what_lies_between() -> None:
    line = [[x, 0] for x in range(10)] + [[9, y] for y in range(1, 10)] + [[0, 9]]
    assert simplified(np.array(line, np.float64)).tolist() == [[0, 0], [9, 0], [9, 9], [0, 9]]


def test_uncrossed_ends_and_keeps_the_points() -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        points = generator.uniform(0, 50, (30, 2))
        free = uncrossed(points)
        assert not crosses(free)
        assert sorted(map(tuple, free)) == sorted(map(tuple, points))


def crosses(points: np.ndarray) -> bool:
    """Tell whether two edges that are not neighbours cross, one pair after the other."""

    def side(a, b, c) -> float:
        return np.sign((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]))

    n = len(points)
    for i in range(n):
        a, b = points[i], points[(i + 1) % n]
        for j in range(i + 1, n):
            c, d = points[j], points[(j + 1) % n]
            if side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0:
                return True
    return False
