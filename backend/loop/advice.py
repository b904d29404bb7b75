"""What a project's numbers advise: whether another round is worth its labels, and whether choosing images pays."""

from collections.abc import Iterable
from typing import Literal

from backend.loop.evidence import Hardness
from backend.store import RoundRow
from model.stopping import Measured, Outlook, outlook

ENOUGH_RANDOM = 50  # random images after which "still no sign" deserves a warning

Verdict = Literal["harder", "no better", "worse", "unknown"]


def outlook_of(rounds: Iterable[RoundRow], labels: int) -> Outlook | None:
    """Give what ``labels`` more labels would add to the newest model; None while nothing can be said."""
    return outlook([_measured(row) for row in rounds if row.has_model], labels)


def what_comes(found: Outlook) -> str:
    """Say what another round would add, and what follows from it."""
    gain, low, high = (_points(share) for share in (found.gain, found.low, found.high))
    unit = "point" if gain == "1.0" else "points"
    labels = "label" if found.labels == 1 else "labels"
    adds = f"Another {found.labels:,} {labels} would add about {gain} {unit} ({low} to {high})."
    ends = {"continue": "Go on.", "stop": "You can stop.", "unknown": "Too little is measured to say whether to stop."}
    return f"{adds} {ends[found.advice]}"


def verdict(found: Hardness | None) -> Verdict:
    """Tell whether the images that were asked are harder for the model than random ones."""
    if found is None:
        return "unknown"
    low, high = found.interval
    if low > 0:
        return "harder"
    if high < 0:
        return "worse"
    return "no better" if found.random.images >= ENOUGH_RANDOM else "unknown"


def _measured(row: RoundRow) -> Measured:
    return Measured(
        labels=row.labels or 0,
        size=row.holdout_size or 0,
        correct=row.holdout_correct or 0,
        gained=row.holdout_gained,
        lost=row.holdout_lost,
        agreement=row.agreement,
    )


def _points(share: float) -> str:
    """Write a share in percentage points, without a minus before 0.0."""
    text = f"{100 * share:.1f}"
    return "0.0" if text == "-0.0" else text.replace("-", "\N{MINUS SIGN}")
