"""Long lists in pieces."""

from backend.chunks import chunks, weighed_chunks


def test_chunks_have_the_size_but_for_the_last() -> None:
    assert [list(part) for part in chunks(range(5), 2)] == [[0, 1], [2, 3], [4]]


def test_weighed_chunks_end_before_they_are_too_heavy_or_too_long() -> None:
    weights = [3, 3, 5, 1, 9, 1, 1, 1, 1]
    parts = [list(part) for part in weighed_chunks(weights, 3, 6, lambda weight: weight)]
    assert parts == [[3, 3], [5, 1], [9], [1, 1, 1], [1]]
    assert list(weighed_chunks([], 3, 6, len)) == []


def test_weighed_chunks_take_no_more_than_they_need() -> None:
    taken = []
    parts = weighed_chunks((taken.append(one) or one for one in range(9)), 2, 99, lambda _: 1)
    assert next(parts) == [0, 1]
    assert taken == [0, 1, 2]
