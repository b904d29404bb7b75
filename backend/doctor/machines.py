"""Checks of all machines of an installation: what works on each, and whether they agree."""

import socket
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from backend.config import Settings
from backend.doctor.finding import Finding
from backend.errors import BackendError
from backend.queueing.presence import WEB, Process, is_served, of_earlier_releases, present, release
from backend.queueing.queues import QUEUES, Queueing
from backend.store import Store

MOST_AHEAD_S = 5.0  # by which clocks may differ: a schedule of minutes does not notice
START = "start everything with 'python -m backend serve' (or 'docker compose up')"


def check_machines(settings: Settings, store: Store | None) -> Iterator[Finding]:
    """Yield what all processes of the installation say of themselves."""
    if store is not None:
        yield from _folder(store)
    try:
        queueing = Queueing.from_settings(settings)
        processes, earlier = present(queueing), of_earlier_releases(queueing)
    except BackendError:  # said of Redis
        processes, earlier = [], []
    yield _workers(processes)
    if processes:
        yield Finding("machines", about(processes))
    database = _id_of_database(store)
    yield from _clocks(processes)
    yield from _releases(processes, earlier)
    web = next((one for one in processes if one.part == WEB), None)
    yield from _databases(processes, database or (web.database if web else None))
    yield from _folders(processes, web)


def about(processes: Sequence[Process]) -> str:
    """Return each machine with what works on it, the code of that, and how its clock goes against Redis'."""
    machines = []
    for host, group in groupby(processes, lambda one: one.host):
        there = list(group)
        number = Counter("+".join(one.queues) or one.part for one in there)
        what = ", ".join(_times(name, times) for name, times in number.items())
        releases = ", ".join(sorted({one.release for one in there}))
        machines.append(f"{host} ({what}; code {releases}; clock {there[-1].ahead_s:+.1f} s)")
    return f"{len(machines)}: {'; '.join(machines)}"


def _times(name: str, times: int) -> str:
    return name if times == 1 or name == WEB else f"{times} x {name}"  # a web server is several processes


def _id_of_database(store: Store | None) -> str | None:
    place = None if store is None else store.installation.place()
    return None if place is None else place.database


def _folder(store: Store) -> Iterator[Finding]:
    try:
        problem = store.installation.problem()
    except BackendError as error:
        problem = str(error)
    if problem:
        yield Finding("data folder", problem, f"look at DATA_DIR and its mount on {socket.gethostname()}")


def _workers(processes: Sequence[Process]) -> Finding:
    idle = [queue for queue in QUEUES if not is_served(processes, queue)]
    if not idle:
        return Finding("workers", f"at least one for each of {', '.join(QUEUES)}")
    fix = f"{START}; 'python -m backend worker' starts the workers alone, on any machine"
    return Finding("workers", f"none for {', '.join(idle)}: nothing will be done", fix)


def _clocks(processes: Sequence[Process]) -> Iterator[Finding]:
    for one in _one_a_machine(processes):
        if abs(one.ahead_s) > MOST_AHEAD_S:
            way = "ahead of" if one.ahead_s > 0 else "behind"
            text = f"that of {one.host} is {abs(one.ahead_s):.0f} s {way} that of Redis' machine"
            yield Finding(
                "clock", text, "set both by NTP: times in logs and of retries are wrong, though no work is lost"
            )


def _releases(processes: Sequence[Process], earlier: Sequence[str]) -> Iterator[Finding]:
    fix = "start it again with the code of this one: the others may not read what it writes"
    for one in processes:
        if one.release != release():
            yield Finding("release", f"the {_name(one)} has other code ({one.release}) than this ({release()})", fix)
    for host in dict.fromkeys(earlier):
        yield Finding("release", f"a worker on {host} is of an earlier release, or was until minutes ago", fix)


def _databases(processes: Sequence[Process], database: str | None) -> Iterator[Finding]:
    for one in processes:
        if database is not None and one.database != database:
            fix = "give all the same DATABASE_URL, and another installation a Redis of its own (REDIS_URL)"
            yield Finding("database", f"the {_name(one)} works with another database", fix)


def _folders(processes: Sequence[Process], web: Process | None) -> Iterator[Finding]:
    if web is None:
        return
    for one in processes:
        if one.folder != web.folder and one.database == web.database:
            text = (
                f"that of the {_name(one)} ({one.data_dir}) is another than that of the {_name(web)} ({web.data_dir})"
            )
            yield Finding("data folder", text, "have all machines see the same one, by a shared file system (DATA_DIR)")


def _name(process: Process) -> str:
    what = f"worker for {', '.join(process.queues)}" if process.queues else process.part
    return f"{what} on {process.host}"


def _one_a_machine(processes: Iterable[Process]) -> list[Process]:
    return list({one.machine: one for one in processes}.values())
