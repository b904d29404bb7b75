"""Problems, by name: what is predicted of an image."""

from model.errors import UnknownName
from model.problems.base import Problem
from model.problems.detection import Detection
from model.problems.multi_label import MultiLabel
from model.problems.segmentation import Segmentation
from model.problems.single_label import SingleLabel

__all__ = ["PROBLEMS", "Problem", "problem"]

PROBLEMS: dict[str, Problem] = {of.name: of for of in (SingleLabel(), MultiLabel(), Segmentation(), Detection())}


def problem(name: str) -> Problem:
    """Return the problem of that name; raise UnknownName with the choices."""
    if name not in PROBLEMS:
        raise UnknownName("problem", name, PROBLEMS)
    return PROBLEMS[name]
