"""The fixtures of the end-to-end tests, which tests/faults uses as well."""

from support.e2e_fixtures import backend, digits, make_backend, make_project

__all__ = ["backend", "digits", "make_backend", "make_project"]
