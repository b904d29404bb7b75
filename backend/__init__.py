"""Everything that talks: HTTP, Label Studio, Redis and SQL."""
