import pytest

from backend.status.image_ranges import ranges_text


@pytest.mark.parametrize(
    ("ranges", "parts"),
    [
        ({"integer": (0, 4095)}, ["0 to 4,095 in pictures of 16 or 32 bits:"]),
        ({"integer": (-1024, 3071)}, ["-1,024 to 3,071"]),
        ({"float": (-0.25, 1.5)}, ["-0.25 to 1.5 in pictures of decimal numbers"]),
        ({"colour": (0, 15)}, ["0 to 4,095 in 16-bit colours", "only the upper 8 bits"]),
        ({"float": (0, 1), "integer": (0, 9)}, ["0 to 9 in pictures of 16 or 32 bits and 0 to 1 in pictures of"]),
    ],
)
def test_ranges_are_said_in_the_numbers_of_the_pictures(ranges, parts):
    text = ranges_text(ranges)
    for part in parts:
        assert part in text


def test_nothing_is_said_without_such_pictures():
    assert ranges_text({}) is None
