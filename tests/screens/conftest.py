"""One Label Studio and one backend for all screens, as in the end-to-end tests."""

from support.e2e_fixtures import backend, digits

__all__ = ["backend", "digits"]
