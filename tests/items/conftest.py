from support.studio_fixtures import forgetful, person, project, studio
from support.studio_web import web

__all__ = ["forgetful", "person", "project", "studio", "web"]
