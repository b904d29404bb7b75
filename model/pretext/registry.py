"""The one list of pretext tasks."""

from model.errors import UnknownName
from model.pretext.barlow_twins import BarlowTwins
from model.pretext.base import PretextTask
from model.pretext.colorization import Colorization
from model.pretext.inpainting import Inpainting
from model.pretext.jigsaw import Jigsaw
from model.pretext.rotation import Rotation
from model.pretext.simclr import SimClr
from model.pretext.simsiam import SimSiam
from model.pretext.vae import Vae

PRETEXT_TASKS: dict[str, PretextTask] = {
    "rotation": Rotation(),
    "colorization": Colorization(),
    "jigsaw": Jigsaw(),
    "simsiam": SimSiam(),
    "simclr": SimClr(),
    "barlow_twins": BarlowTwins(),
    "inpainting": Inpainting(),
    "vae": Vae(),
}


def pretext_task(name: str) -> PretextTask:
    """Return the pretext task of that name; raise UnknownName with the choices."""
    if name not in PRETEXT_TASKS:
        raise UnknownName("pretext task", name, PRETEXT_TASKS)
    return PRETEXT_TASKS[name]
