"""The project's image bank, as the jobs open it."""

import logging
import shutil
from pathlib import Path

from backend.errors import Superseded
from backend.project_files import Files
from backend.store import ProjectStore
from model.data.bank import ImageBank
from model.data.ranges import Ranges
from model.errors import BankError

logger = logging.getLogger(__name__)


def bank_side(store: ProjectStore) -> int:
    """Return the side of the bank's images in pixels.

    Raises:
        Superseded: there is no bank any more.
    """
    side = store.row().image_side
    if side is None:
        raise Superseded(f"project {store.project_id} has no image bank any more")
    return side


def bank_ranges(store: ProjectStore, files: Files) -> Ranges | None:
    """Return what is black and white in the bank of pictures of more than 8 bits; None where nothing is noted."""
    side = store.row().image_side
    if side is None:
        return None
    try:
        return ImageBank.open(files.bank(side)).ranges
    except BankError:
        return None


def open_bank(store: ProjectStore, files: Files) -> ImageBank:
    """Open the project's bank.

    Raises:
        Superseded: it is missing, damaged or older than the store; the step REFETCH has its images fetched again.
    """
    expected = store.tasks.pool_size()
    try:
        bank = ImageBank.open(files.bank(bank_side(store)))
    except BankError as error:
        raise Superseded(str(error)) from error
    if len(bank) < expected:
        raise Superseded(f"the image bank in {bank.folder} holds {len(bank)} of {expected} images")
    return bank


def refetch(store: ProjectStore, files: Files) -> None:
    """Have every image fetched again, after the bank was lost; a damaged one is kept aside for inspection."""
    logger.warning("the image bank is lost or damaged: all images are fetched again")
    side = store.row().image_side
    if side is not None:
        set_aside(files.bank(side))
    # First of all what lies by the pool indices of the lost bank: a kill in between must not leave it to the new one.
    files.drop_outputs()
    files.drop_features()
    files.drop_views()
    store.tasks.refetch_all()
    store.set(image_side=None, features_key=None, pretext_key=None, split_key=None)
    store.tasks.forget_measured()


def set_aside(folder: Path) -> None:
    """Rename a folder that cannot be read, if it is there, so that somebody can look at it."""
    if folder.exists():
        aside = folder.with_name(f"{folder.name}-damaged")
        shutil.rmtree(aside, ignore_errors=True)
        folder.rename(aside)
