"""The application's fixtures, which tests/faults uses as well."""

from support.web_pages import browser, filled, pages

__all__ = ["browser", "filled", "pages"]
