"""The only package that knows RQ and Redis: waking projects, long jobs, locks, workers, and durations.

Redis holds nothing that cannot be found again: what has to be done follows from the store and from Label Studio.
"""
