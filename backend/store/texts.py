"""Texts that every database takes."""

REPLACEMENT = "\ufffd"


def without_nul(text: str) -> str:
    """Return a text without the character 0, which no text of PostgreSQL may have."""
    return text.replace("\0", REPLACEMENT)
