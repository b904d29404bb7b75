"""The run lengths in which Label Studio keeps a brush's mask: those of the flattened RGBA image, packed bit by bit.

Source: thi.ng/rle-pack, which the editor uses; the server has code of its own in ``label_studio_sdk.converter.brush``.
A header has the number of values (32 bits), the bits of a value less one (5), and four sizes of lengths, less one
each (4). Then come groups: a bit that tells a run from single values, which of the four sizes (2 bits), the length
less one, and the value, or the values.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from model.data.masks import nearest

CHANNELS = 4  # of a mask's image; the last one, alpha, says what is painted
SIZES = (3, 4, 8, 16)  # bits of the lengths that we write, as Label Studio does
_HEADER = 32 + 5 + 4 * 4  # bits
_WORD = 8  # bits of the values that we write

Mask = npt.NDArray[np.bool_]


def decode_mask(rle: Sequence[int], width: int, height: int, size: tuple[int, int] | None = None) -> Mask:
    """Return which pixels a brush's run lengths paint, (height, width).

    size: width and height to which the mask is brought, each pixel the nearest one. Memory follows from these and from
    the run lengths, whatever size the image claims to have.
    A pixel counts from half of the strongest alpha on: an edge is smoothed, and other programs write 1 for 255.
    Raises ValueError for run lengths that are none, or of another size.
    """
    values, ends = _runs(rle, most=CHANNELS * width * height)
    count = int(ends[-1]) if len(ends) else 0
    if count != CHANNELS * width * height:
        raise ValueError(f"the run lengths have {count} values, not those of {width} x {height} pixels")
    pixels = ends // CHANNELS  # whose alpha, the last of its values, lies before the end of a run
    last = np.diff(pixels, prepend=0) > 0  # runs that hold the alpha of some pixel
    alpha, pixels = values[last], pixels[last]
    painted = alpha > int(alpha.max(initial=0)) // 2
    mask: Mask
    if size is None or size == (width, height):
        mask = np.repeat(painted, np.diff(pixels, prepend=0)).reshape(height, width)
        return mask
    columns, rows = nearest(size[0], width), nearest(size[1], height)
    mask = np.empty((len(rows), len(columns)), np.bool_)
    for own, at in zip(mask, rows.tolist(), strict=True):
        own[:] = painted[np.searchsorted(pixels, at * width + columns, side="right")]
    return mask


def encode_mask(mask: Mask) -> list[int]:
    """Return the run lengths of a mask (height, width), with 255 in all channels where it is set."""
    return encode(np.repeat(np.where(mask, 255, 0).astype(np.uint8).ravel(), CHANNELS))


def decode(rle: Sequence[int], *, most: int) -> npt.NDArray[np.unsignedinteger]:
    """Return the values of run lengths; raise ValueError where these end early, hold no bytes or more than ``most``."""
    values, ends = _runs(rle, most=most)
    return np.repeat(values, np.diff(ends, prepend=0))


def _runs(rle: Sequence[int], *, most: int) -> tuple[npt.NDArray[np.unsignedinteger], npt.NDArray[np.int64]]:
    """Return the values of the runs, and behind which value each ends; see ``decode``. A single value is a run of 1."""
    try:
        data = bytes(rle)
    except (TypeError, ValueError) as error:
        raise ValueError("the run lengths are not whole numbers from 0 to 255") from error
    end = 8 * len(data)
    if end < _HEADER:
        raise ValueError("the run lengths have no header")
    header = int.from_bytes(data[:7], "big") >> (56 - _HEADER)
    count, word = header >> 21, ((header >> 16) & 31) + 1
    sizes = [((header >> shift) & 15) + 1 for shift in (12, 8, 4, 0)]
    if count > most:
        raise ValueError(f"the run lengths have {count} values, more than the {most} of the image")
    kind = np.uint8 if word <= 8 else np.uint32
    found, lengths = list[npt.NDArray[np.unsignedinteger]](), list[npt.NDArray[np.int64]]()
    runs, run_lengths = list[int](), list[int]()  # those that are not yet in ``found``
    at, filled = _HEADER, 0

    def settle() -> None:
        found.append(np.array(runs, kind))
        lengths.append(np.array(run_lengths, np.int64))
        runs.clear()
        run_lengths.clear()

    while filled < count:
        head = _bits(data, at, 3)
        size = sizes[head & 3]
        length = min(_bits(data, at + 3, size) + 1, count - filled)
        at += 3 + size
        values = 1 if head >> 2 else length
        if at + values * word > end:
            raise ValueError("the run lengths end early")
        if head >> 2:
            runs.append(_bits(data, at, word))
            run_lengths.append(length)
        else:
            settle()
            found.append(_words(data, at, length, word).astype(kind))
            lengths.append(np.ones(length, np.int64))
        at += values * word
        filled += length
    settle()
    return np.concatenate(found), np.cumsum(np.concatenate(lengths))


def encode(values: npt.NDArray[np.uint8]) -> list[int]:
    """Return the run lengths of values (n,)."""
    changes = np.flatnonzero(np.diff(values)) + 1
    starts = np.concatenate([[0], changes]) if len(values) else np.empty(0, np.int64)
    lengths = np.diff(np.concatenate([starts, [len(values)]])) if len(values) else starts
    longest = 1 << SIZES[-1]
    parts = -(-lengths // longest)  # of a run that is longer than any length
    lengths, runs = _split(lengths, parts, longest), values[np.repeat(starts, parts)].astype(np.uint64)
    kind = np.searchsorted([1 << size for size in SIZES], lengths)
    size = np.array(SIZES)[kind]
    bits = 3 + size + _WORD
    code = (
        ((4 + kind.astype(np.uint64)) << (size + _WORD).astype(np.uint64))
        | ((lengths - 1).astype(np.uint64) << np.uint64(_WORD))
        | runs
    )
    header = len(values)
    for field, width in ((_WORD - 1, 5), *((size - 1, 4) for size in SIZES)):
        header = header << width | field
    stream = np.zeros(_HEADER + int(bits.sum()), np.uint8)
    stream[:_HEADER] = [(header >> (_HEADER - 1 - bit)) & 1 for bit in range(_HEADER)]
    first = _HEADER + np.cumsum(bits) - bits
    for bit in range(int(bits.max(initial=0))):
        within = bits > bit
        shift = (bits[within] - 1 - bit).astype(np.uint64)
        stream[first[within] + bit] = ((code[within] >> shift) & np.uint64(1)).astype(np.uint8)
    return np.packbits(stream).tolist()


def _split(lengths: npt.NDArray[np.int64], parts: npt.NDArray[np.int64], longest: int) -> npt.NDArray[np.int64]:
    """Return each length as ``parts`` of it, none above ``longest``: the last one is what is left."""
    split = np.full(int(parts.sum()), longest, np.int64)
    split[np.cumsum(parts) - 1] = lengths - (parts - 1) * longest
    return split


def _bits(data: bytes, at: int, count: int) -> int:
    """Return ``count`` bits from bit ``at`` on as a number; those behind the end are 0."""
    first, last = at >> 3, (at + count + 7) >> 3
    return int.from_bytes(data[first:last].ljust(last - first, b"\0"), "big") >> (8 * last - at - count) & (
        (1 << count) - 1
    )


def _words(data: bytes, at: int, count: int, width: int) -> npt.NDArray[np.uint32]:
    """Return ``count`` words of ``width`` bits from bit ``at`` on."""
    last = (at + count * width + 7) >> 3
    bits = np.unpackbits(np.frombuffer(data[at >> 3 : last], np.uint8))[at & 7 :][: count * width]
    weights = np.uint32(1) << np.arange(width - 1, -1, -1, dtype=np.uint32)
    words: npt.NDArray[np.uint32] = bits.reshape(count, width).astype(np.uint32) @ weights
    return words
