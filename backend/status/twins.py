"""How many images of a pool are equal to others or look nearly like others, as the job ``twins`` has noted it."""

import json
from dataclasses import asdict, dataclass

from backend.project_files import Files
from model.data.atomic_files import write_atomically

CHANGED = 1000  # of a pool, the part of so many that may change before its equal images are counted again
GROWN = 10  # the same of those that look nearly alike, which takes longer


@dataclass(frozen=True)
class TwinCounts:
    """Numbers of images that are not the only ones of their kind.

    images, rows: of the pool and of its bank when the equal ones were counted. equal: images that equal another one.
    compared: size of the pool when some of its images were compared with all of it by the features of ``features``;
    alike: the number that looks nearly like another one without being equal, estimated from those; None where there are
    no features.
    """

    images: int
    rows: int
    equal: int
    features: str | None = None
    compared: int = 0
    alike: int | None = None

    def is_of(self, images: int, rows: int) -> bool:
        """Tell whether the equal ones of this pool are counted, but for a few images."""
        return abs(self.images - images) <= images // CHANGED and abs(self.rows - rows) <= images // CHANGED

    def is_compared(self, images: int, features: str | None) -> bool:
        """Tell whether the images of this pool that look alike are counted, but for some."""
        compared = features is None or abs(self.compared - images) <= images // GROWN
        return self.features == features and compared


def read_twins(files: Files) -> TwinCounts | None:
    """Return what was counted last; None where nothing is noted that can be read."""
    try:
        return TwinCounts(**json.loads(files.twins().read_text()))
    except (OSError, ValueError, TypeError):
        return None


def note_twins(files: Files, counts: TwinCounts) -> None:
    """Note what was counted."""
    write_atomically(files.twins(), json.dumps(asdict(counts)).encode())


def twins_text(counts: TwinCounts) -> str | None:
    """Return a sentence on them; None where every image is the only one of its kind."""
    parts = []
    if counts.equal:
        are = "equals" if counts.equal == 1 else "equal"
        parts.append(f"{counts.equal:,} {are} another one pixel by pixel")
    if counts.alike:
        look = "looks" if counts.alike == 1 else "look"
        parts.append(f"about {counts.alike:,} {look} nearly like another one")
    if not parts:
        return None
    return (
        f"Of {counts.images:,} images, {' and '.join(parts)}. Of each kind one is asked while others are left, "
        "and no two that are equal are in both training and holdout."
    )
