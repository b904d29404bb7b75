"""Answers that are not learned: how many, why, and what to do."""

from collections.abc import Mapping

from backend.store.tables import Answer, Refused
from backend.store.task_answers import Reason

# In the order in which they are said; those that are a mistake of somebody's go on with what to do.
_WHY: dict[Reason, str] = {
    Answer.SKIPPED: "skipped",
    Answer.TIE: "with a tie between annotators",
    Refused.UNKNOWN: "with a class that the labeling interface does not have (put it back there, or answer again)",
    Refused.SEVERAL: (
        "with several answers, of which one can be learned (correct them, or let people choose several: "
        'choice="multiple", for a taxonomy no maxUsages="1")'
    ),
    Refused.OTHER: 'with answers to other questions alone ("control" in the extra params names the question to learn)',
    Refused.EMPTY: 'without an answer to the question (answer it; with required="true" nobody leaves it out)',
    Refused.HUGE: (
        "with a region that claims an image of 200 megapixels or more, which is not read (look at its original_width "
        "and original_height)"
    ),
    Refused.UNUSABLE: "in a form that is not Label Studio's own (look at how they were imported)",
    Answer.MODEL: "made from predictions by Label Studio, which no person has answered",
}


def left_out(answers: Mapping[Reason, int]) -> str | None:
    """Return the numbers of answers that are not learned, each with the cause and what to do; None without any."""
    parts = [f"{answers[reason]:,} {why}" for reason, why in _WHY.items() if answers.get(reason)]
    return ", ".join(parts) or None
