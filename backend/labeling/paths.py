"""Paths of choices within choices as the names of classes."""

import re
from xml.etree.ElementTree import Element

from backend.errors import ProjectError
from backend.labeling.base import Control, attribute, tags

Path = tuple[str, ...]  # from the topmost choice down to the chosen one

SEPARATOR = " / "  # as Label Studio shows paths by default
MAX_DEPTH = 64  # choices within choices: what a path costs grows with it
_LONE_SLASH = re.compile(r"(?<![^ ])(\\*/)(?![^ ])")  # what a reader could take for a separator
_ESCAPED_SLASH = re.compile(r"(?<![^ ])\\(\\*/)(?![^ ])")


def path_name(path: Path) -> str:
    r"""Return a path as the name of a class, such as ``animal / cat``; a lone slash in a part is written ``\/``.

    Different paths have different names. No part may be empty.
    """
    return SEPARATOR.join(_LONE_SLASH.sub(r"\\\1", part) for part in path)


def path_of(name: str) -> Path:
    """Return the path of a class's name."""
    return tuple(_ESCAPED_SLASH.sub(r"\1", part) for part in name.split(SEPARATOR))


def choice_paths(root: Element) -> list[tuple[Path, bool]]:
    """Return the path of each ``<Choice>`` below ``root`` and whether it is a leaf, parents before their children.

    The first of several choices with one path counts. Choices without a name are left out, with all below them.

    Raises:
        ProjectError: there are more than ``MAX_DEPTH`` levels.
    """
    paths: dict[Path, None] = {}  # in the order of the configuration
    stack: list[tuple[Element, Path]] = [(child, ()) for child in reversed(root)]
    while stack:
        tag, above = stack.pop()
        if isinstance(tag.tag, str) and tag.tag.lower() == "choice":
            above = (*above, _name(tag))
            if not above[-1] or above in paths:
                continue
            if len(above) > MAX_DEPTH:
                raise ProjectError(f"there are more than {MAX_DEPTH} levels of choices within choices: use fewer")
            paths[above] = None
        stack += [(child, above) for child in reversed(tag)]
    # In this order, a path that has children is followed by one of them.
    ordered = list(paths)
    following = [*ordered[1:], ()]
    return [(path, len(after) <= len(path)) for path, after in zip(ordered, following, strict=True)]


def check_choices(control: Control) -> None:
    """See that answers hold what a control tag's choices say.

    Raises:
        ProjectError: a choice has an empty alias, or a text of its own, which answers hold instead of its value.
    """
    for tag in tags(control.tag, "choice"):
        name = attribute(tag, "value")
        if any(key.lower() == "alias" and not value for key, value in tag.attrib.items()):
            raise ProjectError(f"{control} has a choice '{name:.40}' with an empty alias: give it a text or remove it")
        text = (tag.text or "").strip()
        if text and not len(tag) and text != name:
            raise ProjectError(
                f"{control} has a choice '{name:.40}' with the text '{text:.40}', which Label Studio saves in place of "
                "the value: write the text as its value alone"
            )


def read_only_paths(root: Element) -> set[Path]:
    """Return the paths of the choices that nobody can choose (``readonly``), with all below them."""
    locked: set[Path] = set()
    stack: list[tuple[Element, Path, bool]] = [(child, (), False) for child in root]
    while stack:
        tag, above, is_locked = stack.pop()
        if isinstance(tag.tag, str) and tag.tag.lower() == "choice":
            above = (*above, _name(tag))[: MAX_DEPTH + 1]
            is_locked = is_locked or attribute(tag, "readonly") == "true"
            if is_locked:
                locked.add(above)
        stack += [(child, above, is_locked) for child in tag]
    return locked


def is_nested(root: Element) -> bool:
    """Tell whether there are choices within choices."""
    return any(len(tags(choice, "choice")) > 1 for choice in tags(root, "choice"))


def _name(choice: Element) -> str:
    # Annotations hold a choice's alias where it has one.
    return attribute(choice, "alias") or attribute(choice, "value")
