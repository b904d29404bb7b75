"""The training loop, recipes and objectives."""
