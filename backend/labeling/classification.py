"""What the labelings have in common whose answers are classes of the whole image."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from backend.errors import ProjectError
from backend.labeling.base import Control, Item, Refusal, Region
from model.problems.base import Prediction, Target


class Classification(ABC):
    """A control tag that gives an image one class (``single_label``) or several (``multi_label``).

    tag: the control tag's name as people write it.
    """

    tag: ClassVar[str]

    def __init__(self, control: Control, classes: Sequence[str], *, single: bool) -> None:
        """Take the classes of a control tag.

        Raises:
            ProjectError: the control tag cannot be learned; the text says why and what to do.
        """
        if control.is_set("perRegion") or control.is_set("perItem"):
            raise ProjectError(f"{control} is about regions (perRegion or perItem), not about the image")
        self.problem = "single_label" if single else "multi_label"
        self.classes = tuple(dict.fromkeys(classes))
        self.control = control.name
        self.data_key = control.data_key
        self.notice: str | None = None
        self._control = control
        self._known = frozenset(self.classes)

    def target(self, result: Sequence[Mapping[str, Any]]) -> Target | None:
        """Return what an annotation's regions say; None where they say nothing that can be learned.

        For several classes, an answer without any is the empty list; where the control tag is shown for some images
        only, or Label Studio asks for an answer (``required``), no answer is no target.
        """
        names = self._chosen(result)
        if names is None or not self._known.issuperset(names):
            return None
        if self.problem == "single_label":
            return next(iter(names)) if len(names) == 1 else None
        if not names and self._control.is_set("required"):
            return None
        return [name for name in self.classes if name in names]

    def refusal(self, result: Sequence[Mapping[str, Any]]) -> Refusal:
        """Return why an annotation's regions cannot be learned."""
        if not self._control.answers(result):
            return self._control.refusal(result)
        names = self._chosen(result)
        if names is None:
            return "unusable"
        if not self._known.issuperset(names):
            return "unknown"
        return "several" if names else "empty"

    def result(self, prediction: Prediction, item: Item) -> list[Region]:
        """Return a prediction as a region; none where one of its classes has left the configuration."""
        names = [prediction] if self.problem == "single_label" else prediction
        if not isinstance(names, list) or not names or not all(map(self._is_class, names)):
            return []
        value = self.write(names)
        if value is None:
            return []
        return [self._control.region(value)]

    @abstractmethod
    def read(self, answer: Any) -> list[str] | None:
        """Return the classes that the answer of a region names; None where it has another form.

        answer: any JSON value, since Label Studio's API accepts regions of any form.
        """

    @abstractmethod
    def write(self, names: Sequence[str]) -> dict[str, Any] | None:
        """Return the value of a region that names these classes; None where Label Studio would not show it."""

    def _chosen(self, result: Sequence[Any]) -> dict[str, None] | None:
        """Return the classes that an annotation names, in their order and each once.

        None where the annotation has another form, or may not have been asked.
        """
        answers = self._control.answers(result)
        if answers is None or (self._control.conditional and not answers):
            return None
        names: dict[str, None] = {}  # once: two <Choice> tags of one name are chosen together
        for answer in answers:
            part = self.read(answer)
            if part is None:
                return None
            names |= dict.fromkeys(part)
        return names

    def _is_class(self, name: Any) -> bool:
        return isinstance(name, str) and name in self._known
