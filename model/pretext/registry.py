"""The one list of pretext tasks."""

from model.errors import UnknownName
from model.pretext.base import PretextTask
from model.pretext.rotation import Rotation

PRETEXT_TASKS: dict[str, PretextTask] = {
    "rotation": Rotation(),
}


def pretext_task(name: str) -> PretextTask:
    """Return the pretext task of that name; raise UnknownName with the choices."""
    if name not in PRETEXT_TASKS:
        raise UnknownName("pretext task", name, PRETEXT_TASKS)
    return PRETEXT_TASKS[name]
