"""A small web server in the place of Label Studio."""

from support.studio_web import web

__all__ = ["web"]
