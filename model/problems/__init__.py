"""Problems, by name: what is predicted of an image."""

from model.errors import UnknownName
from model.problems.base import Problem

PROBLEMS: dict[str, Problem] = {}


def problem(name: str) -> Problem:
    """Return the problem of that name; raise UnknownName with the choices."""
    if name not in PROBLEMS:
        raise UnknownName("problem", name, PROBLEMS)
    return PROBLEMS[name]
