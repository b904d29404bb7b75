"""The processes: supervisor, private Redis, web server, workers."""
