"""What an examination finds."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: what was found and, if it is wrong, how to fix it.

    down: nothing answered, so that more of the same need not be asked.
    """

    name: str
    text: str
    fix: str | None = None
    down: bool = False

    @property
    def ok(self) -> bool:
        """Whether nothing has to be done."""
        return self.fix is None

    def __str__(self) -> str:
        """Write it for a terminal."""
        line = f"{'ok   ' if self.ok else 'WRONG'} {self.name}: {self.text}"
        return line if self.ok else f"{line}\n      -> {self.fix}"
