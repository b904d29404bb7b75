"""``python -m backend doctor``: finds what is wrong in an installation, and how to fix it."""

import sys
from collections.abc import Iterable, Iterator

from backend.config import Settings
from backend.doctor.encoders import check_encoders
from backend.doctor.finding import Finding
from backend.doctor.machine import check_machine, open_queueing, open_store
from backend.doctor.studio import check_projects, check_studio

__all__ = ["Finding", "doctor", "examine"]


def doctor(settings: Settings) -> int:
    """Print the findings one by one; return the exit code: 1 if something is wrong."""
    return report(examine(settings))


def examine(settings: Settings) -> Iterator[Finding]:
    """Yield all findings, those of the machine first: they may explain the others."""
    store, finding = open_store(settings)
    yield finding
    yield from check_machine(settings, store)
    yield from check_encoders(settings, store)
    yield from check_studio(settings)
    if store is None:
        return
    try:
        queueing = open_queueing(settings)
        yield from check_projects(settings, store, queueing)
    finally:
        store.close()


def report(findings: Iterable[Finding]) -> int:
    """Print findings; return the exit code."""
    wrong = 0
    for finding in findings:
        wrong += not finding.ok
        print(finding)
        sys.stdout.flush()
    print(f"\n{wrong} thing(s) to fix." if wrong else "\nNothing is wrong.")
    return 1 if wrong else 0
