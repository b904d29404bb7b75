"""Labeling the rest of the pool with the newest model: preview, order, predictions."""
