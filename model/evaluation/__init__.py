"""Metrics and intervals, calibration of confidence, and the gain that more labels are expected to add."""
