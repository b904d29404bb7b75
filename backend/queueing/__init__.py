"""RQ and Redis, and nobody else's business: hints, long jobs, locks, workers, and durations.

Redis holds nothing that cannot be found again: what has to be done follows from the store and from Label Studio.
"""
