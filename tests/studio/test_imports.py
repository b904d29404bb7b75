"""Predictions in requests that are bounded by bytes."""

import json
from typing import Any

import pytest

from backend.studio import predictions
from backend.studio.predictions import ProjectPredictions
from backend.studio.types import Prediction


class Session:
    """Takes every request, and notes how large it was and what was still to come."""

    def __init__(self) -> None:
        self.made, self.requests = 0, list[tuple[int, int, int]]()

    def call(self, method: str, path: str, *, body: list[Any], **_: Any) -> dict[str, int]:
        self.requests.append((len(body), len(json.dumps(body)), self.made))
        return {"created": len(body)}


def test_imports_of_masks_are_bounded_by_bytes_and_made_as_they_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Masks of 8 kB, of which 100 kB are sent at once; hardly more are in memory at a time."""
    monkeypatch.setattr(predictions, "IMPORTED_BYTES", 100_000)
    session = Session()

    def masks():
        for task in range(100):
            session.made += 1
            value = {"format": "rle", "rle": [255] * 2_000, "brushlabels": ["road"]}
            yield Prediction(
                task, 0.5, "v", [{"from_name": "c", "to_name": "i", "type": "brushlabels", "value": value}]
            )

    assert ProjectPredictions(session, 1, None).write(masks()) == []  # type: ignore[arg-type]
    assert sum(count for count, _, _ in session.requests) == 100
    assert all(size < 1.3 * predictions.IMPORTED_BYTES for _, size, _ in session.requests)
    sent = 0
    for count, _, made in session.requests:
        sent += count
        assert made <= sent + 1
