"""``<Choices>``: one class an image, or several with ``choice="multiple"``."""

from collections.abc import Sequence
from typing import Any

from backend.errors import ProjectError
from backend.items.reference import VARIABLE
from backend.labeling.base import Control, attribute, tags
from backend.labeling.classification import Classification
from backend.labeling.paths import check_choices, choice_paths, is_nested, path_name, path_of, read_only_paths

# Keys of a region's value that have a meaning in Label Studio's interface (1.23.2). What else stands there is ignored.
RESERVED = frozenset(
    """
    id pid ouid object type value results score origin dynamic filtered readonly fromSuggestion parentID item_index
    from_name to_name name meta selected hidden
    start end startOffset endOffset globalOffsets ranges sequence channel instant isText
    x y width height rotation radiusX radiusY points closed shape vertices
    format rle imageDataURL touches maskDataURL selection states classification
    choices text number rating datetime ranker taxonomy labels label group view
    """.split()  # noqa: SIM905 (the list would take 70 lines)
)
# With another value, Label Studio's interface (1.23.2) does not open at all.
ALLOWED = {"choice": ("single", "single-radio", "multiple"), "layout": ("select", "inline", "vertical")}


class Choices(Classification):
    """Choices as a list, or as a tree with ``allowNested="true"``.

    In a tree only the leaves are classes: Label Studio shows a choice that has others below it as chosen exactly when
    all of these are. Answers in a tree are paths, ``{"choices": [["animal", "cat"]]}``; both forms are read, because
    ``allowNested`` may have been switched on or off after the first answers.
    """

    tag = "Choices"

    def __init__(self, control: Control) -> None:
        """Read the choices; raise ProjectError where they cannot be learned."""
        if "$" in control.attribute("value"):
            raise ProjectError(f"{control} takes its choices from each task: write them as <Choice> tags")
        for name, allowed in ALLOWED.items():
            value = control.attribute(name)
            if value and value not in allowed:
                raise ProjectError(
                    f'{control} has {name}="{value:.20}", with which Label Studio shows nothing: '
                    f"write {', '.join(allowed[:-1])} or {allowed[-1]}"
                )
        check_choices(control)
        varying = [tag for tag in tags(control.tag, "choice") if VARIABLE.search(attribute(tag, "value"))]
        if any(not attribute(tag, "alias") for tag in varying):
            text = next(attribute(tag, "value") for tag in varying if not attribute(tag, "alias"))
            raise ProjectError(
                f"{control} takes the text of the choice '{text:.40}' from each task: give the choice an alias"
            )
        self._nested = control.is_set("allowNested")
        if not self._nested and is_nested(control.tag):
            raise ProjectError(
                f'{control} has choices within choices, which Label Studio shows only with allowNested="true": '
                "add that, or write them as one list"
            )
        paths = choice_paths(control.tag)
        self._parents = frozenset(path_name(path) for path, is_leaf in paths if not is_leaf)
        leaves = [path_name(path) if self._nested else path[0] for path, is_leaf in paths if is_leaf]
        super().__init__(control, leaves, single=control.attribute("choice") != "multiple")
        locked = {path_name(path) if self._nested else path[0] for path in read_only_paths(control.tag)}
        if len(self._known - locked) < 2:
            raise ProjectError(f"{control} needs at least two <Choice> tags with different values that can be chosen")
        if self._nested and not self._is_shown():
            self.notice = (
                f"Label Studio shows no prediction for {control}, because it reads this name in another way: "
                "give the control tag another name for pre-annotated images."
            )

    def read(self, answer: Any) -> list[str] | None:
        """Return the classes that were chosen; a choice with others below it only repeats what these say."""
        if not isinstance(answer, list):
            return None
        names = [self._name(entry) for entry in answer]
        leaves = [name for name in names if name is not None and name not in self._parents]
        # Without a leaf it is an answer of before the choice had others below it, which is no class any more.
        return None if None in names else leaves or [name for name in names if name is not None]

    def write(self, names: Sequence[str]) -> dict[str, Any] | None:
        """Return the names, or their paths in a tree."""
        if not self._nested:
            return {"choices": list(names)}
        if not self._is_shown():
            return None
        paths = [path_of(name) for name in names]
        return {"choices": [list(path) for path in paths], self.control: {"choices": [path[-1] for path in paths]}}

    def _is_shown(self) -> bool:
        """Tell whether Label Studio shows predictions of paths.

        Its interface wants paths, but its check of predictions (1.23.2) fails on lists in a list. That check looks at
        what is stored under the control's name, where there is something; the interface does not, unless the name is
        one of its own keys.
        """
        return self.control not in RESERVED and not self.control.endswith("labels")

    def _name(self, entry: Any) -> str | None:
        """Return the class that a text or a path names, None where it is something else."""
        path = (entry,) if isinstance(entry, str) else tuple(entry) if isinstance(entry, list) else ()
        if not path or not all(isinstance(part, str) for part in path):
            return None
        return path_name(path) if self._nested or len(path) > 1 else path[0]
