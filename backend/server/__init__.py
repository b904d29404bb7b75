"""The processes: supervisor, private Redis, web server and workers."""
