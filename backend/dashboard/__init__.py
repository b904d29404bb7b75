"""The web pages: quality of the model, progress of the work, and errors."""

from typing import Any

from flask import Flask, request

from backend.dashboard import pages, routes


def register(app: Flask) -> None:
    """Add the pages; ``/`` belongs to browsers, and to everyone else it stays label-studio-ml's health JSON."""
    health = app.view_functions["health"]

    def health_or_pages() -> Any:
        if request.path == "/" and pages.is_browser():
            return pages.protect(app.make_response(routes.index()))
        return health()

    app.view_functions["health"] = health_or_pages
    app.register_blueprint(routes.blueprint)
