"""Our own routes, by subject."""
