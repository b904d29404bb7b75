"""How long work reports how far it is."""

from collections.abc import Callable

Progress = Callable[[float], None]  # takes the share of the work that is done, 0 to 1; may raise to stop it


def ignore_progress(share: float) -> None:
    """Take a share of the work done, and do nothing with it."""
