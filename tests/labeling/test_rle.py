"""Run lengths of brushes: against the server's own code, and what is none."""

from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.labelstudio import server_codec

from backend.labeling.rle import SIZES, decode, decode_mask, encode, encode_mask

MASK = np.array([[1, 0, 0], [1, 1, 0]], np.bool_)


@pytest.fixture(scope="module")
def server() -> ModuleType:
    """The server's own codec."""
    return server_codec()


@pytest.mark.parametrize("seed", range(12))
def test_the_server_reads_what_we_write_and_we_read_what_it_writes(server: ModuleType, seed: int) -> None:
    generator = np.random.default_rng(seed)
    height, width = generator.integers(1, 60, 2)
    mask = generator.random((height, width)) > generator.random()
    theirs = server.mask2rle(np.where(mask, 255, 0).astype(np.uint8))
    assert np.array_equal(decode_mask(theirs, width, height), mask)
    ours = server.decode_rle(encode_mask(mask)).reshape(height, width, 4)
    assert np.array_equal(ours, np.repeat(np.where(mask, 255, 0)[..., None], 4, axis=2))


@pytest.mark.parametrize("seed", range(6))
def test_values_of_any_length_are_the_same_both_ways(server: ModuleType, seed: int) -> None:
    """Single values, which the server writes as such, and runs longer than the longest length."""
    generator = np.random.default_rng(seed)
    values = np.repeat(
        generator.integers(0, 4, 60), generator.choice([1, 2, 9, 300, 70_000], 60, p=[0.5, 0.3, 0.1, 0.08, 0.02])
    )
    values = values.astype(np.uint8)
    assert np.array_equal(decode(server.encode_rle(values), most=len(values)), values)
    assert np.array_equal(server.decode_rle(encode(values)), values)


def test_run_lengths_of_a_small_mask_are_these() -> None:
    """By hand: 24 values in words of 8 bits, lengths of 3, 4, 8 or 16 bits; runs of 4, 8, 8 and 4."""
    header = f"{24:032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in SIZES)
    groups = ("10001111111111", "10011100000000", "10011111111111", "10001100000000")
    bits = header + "".join(groups)
    bits += "0" * (-len(bits) % 8)
    assert encode_mask(MASK) == [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]
    assert np.array_equal(decode_mask(encode_mask(MASK), 3, 2), MASK)


def test_alpha_counts_from_half_of_the_strongest_on() -> None:
    rgba = np.zeros((1, 4, 4), np.uint8)
    rgba[0, :, 3] = [200, 101, 99, 0]
    assert decode_mask(encode(rgba.ravel()), 4, 1).tolist() == [[True, True, False, False]]
    rgba[0, :, 3] = [1, 0, 1, 0]  # other programs write 1 for 255
    assert decode_mask(encode(rgba.ravel()), 4, 1).tolist() == [[True, False, True, False]]
    assert not decode_mask(encode(np.zeros(16, np.uint8)), 4, 1).any()


@pytest.mark.parametrize(
    ("rle", "reason"),
    [([], "no header"), ([0, 0], "no header"), ([300] * 9, "0 to 255"), (["a"] * 9, "0 to 255"), (None, "0 to 255"),
     (encode_mask(MASK)[:-2], "end early"), (encode_mask(np.zeros((9, 9), np.bool_)), "more than the 24"),
     (encode_mask(MASK[:1]), "12 values")],
)  # fmt: skip
def test_what_is_no_mask_of_this_image_is_refused(rle, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        decode_mask(rle, 3, 2)


@given(st.lists(st.integers(0, 255), max_size=60))
def test_any_bytes_are_values_or_refused(rle: list[int]) -> None:
    try:
        values = decode(rle, most=10_000)
    except ValueError:
        return
    assert len(values) <= 10_000
