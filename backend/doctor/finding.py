"""The result of one check."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """The result of one check: what was found and, if it is wrong, how to fix it.

    down: the server did not answer, so that further checks of it are left out.
    """

    name: str
    text: str
    fix: str | None = None
    down: bool = False

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return self.fix is None

    def __str__(self) -> str:
        """Return the lines for a terminal."""
        line = f"{'ok   ' if self.ok else 'WRONG'} {self.name}: {self.text}"
        return line if self.ok else f"{line}\n      -> {self.fix}"
