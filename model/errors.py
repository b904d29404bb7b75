"""The exceptions of the model package.

ModelError
├── UnknownName      a name that is in no registry; the message lists the names that are
├── BadInput         an array, folder or number that the method cannot work on
│   └── BadImage     bytes that are not a usable image
├── BankError        the image bank on disk is missing, damaged, or of another format
└── WeightsMissing   the weights of an encoder are missing, damaged, or of another network
"""

from collections.abc import Iterable


class ModelError(Exception):
    """Any error that this package raises on purpose."""


class UnknownName(ModelError):  # noqa: N818 - reads as the state it reports
    """A name that is not in the registry of its kind."""

    def __init__(self, kind: str, name: str, choices: Iterable[str]) -> None:
        """Make the message from the kind of the name, the name, and the names that exist."""
        super().__init__(f"unknown {kind} '{name}': choose one of {', '.join(sorted(choices))}")


class BadInput(ModelError):  # noqa: N818
    """An array, folder or number that the method cannot work on."""


class BadImage(BadInput):
    """Bytes that are not a usable image."""


class BankError(ModelError):
    """The image bank on disk is missing, damaged, or of another format."""


class WeightsMissing(ModelError):  # noqa: N818
    """The weights of an encoder are missing, damaged, or of another network; the message says what to do."""
