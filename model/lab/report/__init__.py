"""Pictures of what simulations and measurements found: ``python -m model.report results.json``."""
