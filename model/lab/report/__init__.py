"""Charts of the results of simulations and of loss correlations: ``python -m model.report results.json``."""
