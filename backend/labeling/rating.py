"""``<Rating>``: each number of stars is a class."""

from collections.abc import Sequence
from typing import Any

from backend.errors import ProjectError
from backend.labeling.base import Control
from backend.labeling.classification import Classification

DEFAULT = "5"  # stars, where maxRating is not set
MAX_STARS = 100  # more are no classes that anybody can tell apart


class Rating(Classification):
    """Stars from 1 to ``maxRating``, in their order; no star is no answer."""

    tag = "Rating"

    def __init__(self, control: Control) -> None:
        """Read the number of stars; raise ProjectError where it cannot be learned."""
        text = (control.attribute("maxRating") or DEFAULT).strip()
        stars = int(text) if text.isdecimal() and len(text) <= len(str(MAX_STARS)) else 0
        if not 2 <= stars <= MAX_STARS:
            raise ProjectError(f'{control} has maxRating="{text:.20}": give it a whole number from 2 to {MAX_STARS}')
        super().__init__(control, [str(number) for number in range(1, stars + 1)], single=True)

    def read(self, answer: Any) -> list[str] | None:
        """Return the number of stars; none for 0, which stands for no answer."""
        if isinstance(answer, float) and answer.is_integer():
            answer = int(answer)
        if not isinstance(answer, int) or isinstance(answer, bool):
            return None
        return [str(answer)] if answer else []

    def write(self, names: Sequence[str]) -> dict[str, Any]:
        """Return the number of stars."""
        return {"rating": int(names[0])}
