"""``<Taxonomy>``: a path of nested choices is a class."""

from collections.abc import Sequence
from math import inf, isnan
from typing import Any

from backend.errors import ProjectError
from backend.labeling.base import Control
from backend.labeling.classification import Classification
from backend.labeling.paths import check_choices, choice_paths, path_name, path_of


class Taxonomy(Classification):
    """A tree of which every node can be chosen, or with ``leafsOnly="true"`` every leaf; one with ``maxUsages="1"``.

    Answers hold whole paths, ``{"taxonomy": [["animal", "cat"]]}``, whatever ``showFullPath`` and ``pathSeparator``
    say: these change only what is shown. A choice stands in a path by its alias where it has one.
    """

    tag = "Taxonomy"

    def __init__(self, control: Control) -> None:
        """Read the tree; raise ProjectError where it cannot be learned."""
        if control.attribute("apiUrl"):
            raise ProjectError(f"{control} loads its choices from apiUrl: write them as <Choice> tags")
        if "$" in control.attribute("value"):
            raise ProjectError(f"{control} takes its choices from each task: write them as <Choice> tags")
        if control.is_set("labeling"):
            raise ProjectError(f'{control} labels regions (labeling="true"), not the image')
        check_choices(control)
        leaves_only = control.is_set("leafsOnly")
        paths = [path for path, is_leaf in choice_paths(control.tag) if is_leaf or not leaves_only]
        super().__init__(control, [path_name(path) for path in paths], single=_most_usages(control) < 2)
        if len(self.classes) < 2:
            raise ProjectError(f"{control} needs at least two <Choice> tags that can be chosen")

    def read(self, answer: Any) -> list[str] | None:
        """Return the names of the paths that were chosen."""
        if not isinstance(answer, list) or not all(map(_is_path, answer)):
            return None
        return [path_name(tuple(path)) for path in answer]

    def write(self, names: Sequence[str]) -> dict[str, Any]:
        """Return the paths."""
        return {"taxonomy": [list(path_of(name)) for name in names]}


def _most_usages(control: Control) -> float:
    """Return how many nodes may be chosen; as Label Studio reads it, what is no number is no limit."""
    text = control.attribute("maxUsages").strip()
    try:
        most = float(text) if text else inf
    except ValueError:
        return inf
    if most < 1:
        raise ProjectError(f'{control} has maxUsages="{text:.20}", so that nothing can be chosen: write 1 or more')
    return inf if isnan(most) else most


def _is_path(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(isinstance(part, str) for part in value)
