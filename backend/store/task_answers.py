"""Answers by kind, those that cannot be learned by the reason."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from backend.store.tables import Answer, Refused

Reason = Answer | Refused


def reasons(rows: Iterable[Any]) -> Counter[Reason]:
    """Return the number of tasks by kind of answer, from rows of answer, refusal and number; none without an answer."""
    found: Counter[Reason] = Counter()
    for answer, refusal, number in rows:
        if answer == Answer.UNUSABLE:
            found[Refused(refusal) if refusal else Refused.UNUSABLE] += number
        elif answer != Answer.NONE:
            found[Answer(answer)] += number
    return found
