from support.studio_fixtures import forgetful, person, project, studio

__all__ = ["forgetful", "person", "project", "studio"]
