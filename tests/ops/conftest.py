"""A small web server, which tests/studio uses as well."""

from support.studio_web import web

__all__ = ["web"]
