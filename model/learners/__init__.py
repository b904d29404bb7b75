"""Fitting the main model to targets, and its predictions."""
