"""Listing a project's tasks and predictions page by page, so that nothing is lost while others write.

Pages go by key (the last id or time seen) and never by number: with numbers, a task that moves while we read pushes
another one over a page border unseen.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from backend.chunks import chunks
from backend.studio.session import SLOW_READ_S, StudioSession
from backend.studio.types import Json, StoredPrediction, TaskPage, TaskRecord, format_time, parse_time, task_record

# Tasks a request, 0.4 ms each. On SQLite, Label Studio fails at a page of 1,000 uploaded files.
PAGE = 500
PAGE_READ_S = 120.0

# Bytes that a page of tasks with their annotations or predictions should have, about: a street scene whose classes are
# brushed has 100 kB of run lengths, a choice 500 bytes. The first page tells how large the tasks of a project are.
PAGE_BYTES = 4_000_000
FIRST_PAGE, SMALLEST_PAGE = 50, 10  # tasks

# Ids in a query string, which servers cut at 4 to 8 KiB.
SELECTED = 250

FIELD_TASKS = 2000  # that get a field in one request: under half a second, in which annotators' saves wait

TICK = timedelta(microseconds=1)
# How far the cursor stays behind the server's clock.
#
# A save takes its time stamp before it waits for the database, so that a younger one can become visible first; a cursor
# at the youngest would pass the older one by. Label Studio waits for SQLite's lock for 5 s at most.
OVERLAP = timedelta(seconds=15)

# "include" picks fields, of the tasks and of the annotations in them alike: 3 times faster than all fields.
WITH_ANNOTATIONS = (
    "id,data,updated_at,annotations,result,completed_by,was_cancelled,created_at,lead_time,parent_prediction"
)
WITH_PREDICTIONS = "id,predictions"


@dataclass(frozen=True, slots=True)
class _Filter:
    column: str
    operator: str
    kind: str
    value: Json

    def as_json(self) -> Mapping[str, Json]:
        return {
            "filter": f"filter:tasks:{self.column}",
            "operator": self.operator,
            "type": self.kind,
            "value": self.value,
        }


class ProjectTasks:
    """The tasks of one project."""

    def __init__(self, session: StudioSession, project_id: int) -> None:
        """Take Label Studio's id of the project."""
        self._session, self._project_id = session, project_id
        self._nested_page = FIRST_PAGE  # tasks with their annotations or predictions that are asked for at once

    def changed(self, since: str | None) -> Iterator[TaskPage]:
        """Yield tasks changed at or after ``since``, oldest change first; recent ones come again in the next call.

        The last cursor lies behind everything that was read and is not recent: thousands of tasks may have been changed
        in one moment (a bulk action), and are not to be read again for ever.
        """
        after: list[_Filter] = [] if since is None else [_updated("greater_or_equal", since)]
        seen_at_border: set[int] = set()
        behind: str | None = None  # the cursor behind a moment of which every task was read
        while True:
            started = time.time()
            raw, total = self._page(after, order="updated_at", include=WITH_ANNOTATIONS, nested=True)
            records = [task_record(one) for one in raw]
            if not records:
                if behind is not None:
                    yield TaskPage((), behind)
                return
            last = records[-1].updated_at
            safe = self._session.server_time(started) - OVERLAP
            cursor = format_time(min(parse_time(last), safe))
            past = format_time(min(parse_time(last) + TICK, safe))
            complete = len(records) >= total
            fresh = tuple(record for record in records if record.id not in seen_at_border)
            if fresh or complete:
                yield TaskPage(fresh, past if complete else cursor)
            if complete:
                return
            if records[0].updated_at == last:
                # One time stamp fills the page (a bulk action): the rest of it by id, then on behind it.
                yield from self._same_moment(last, cursor, skip={record.id for record in records})
                after, seen_at_border, behind = [_updated("greater", last)], set(), past
            else:
                behind = None
                after = [_updated("greater_or_equal", last)]
                seen_at_border = {record.id for record in records if record.updated_at == last}

    def ids(self) -> list[int]:
        """List the ids of all tasks, ascending."""
        return [one["id"] for page in self._by_id([], include="id") for one in page]

    def by_id(self, task_ids: Sequence[int]) -> list[TaskRecord]:
        """Read the tasks of these ids; those that are gone are left out."""
        found = []
        for part in self._selections(task_ids):
            selection = {"all": False, "included": part}
            raw, _ = self._page([], include=WITH_ANNOTATIONS, nested=True, selection=selection)
            found += [task_record(one) for one in raw]
        return found

    def existing(self, task_ids: Sequence[int]) -> set[int]:
        """Tell which of these tasks are still there."""
        found: set[int] = set()
        for part in chunks(task_ids, SELECTED):
            raw, _ = self._page([], include="id", selection={"all": False, "included": part})
            found |= {one["id"] for one in raw}
        return found

    def predictions(self, version: str) -> Iterator[tuple[list[StoredPrediction], bool]]:
        """Yield for each task its predictions of exactly that version, and whether it has others too."""
        # The filter matches parts of the name too, and lists a task once for each match.
        having = [_Filter("predictions_model_versions", "contains", "List", [version])]
        last = 0
        for page in self._by_id(having, include=WITH_PREDICTIONS, nested=True):
            for task in page:
                if task["id"] <= last:
                    continue
                last = task["id"]
                yield from _of_version(task, version)

    def predictions_of(self, version: str, task_ids: Sequence[int]) -> Iterator[tuple[list[StoredPrediction], bool]]:
        """Yield the same for these tasks alone, as they are now."""
        for part in self._selections(task_ids):
            raw, _ = self._page([], include=WITH_PREDICTIONS, nested=True, selection={"all": False, "included": part})
            for task in raw:
                yield from _of_version(task, version)

    def set_field(self, task_ids: Sequence[int], name: str, value: float) -> None:
        """Set one field of these tasks' data to a number, which does not move their ``updated_at``."""
        for part in chunks(task_ids, FIELD_TASKS):
            self.action("add_data_field", part, value_name=name, value_type="Number", value=repr(value))

    def action(self, name: str, task_ids: Sequence[int], **fields: str) -> None:
        """Run a Data Manager action on these tasks."""
        if not task_ids:
            return  # Label Studio reads an empty selection as every task
        self._session.call(
            "POST",
            "/api/dm/actions/",
            params={"id": name, "project": self._project_id},
            body={
                "selectedItems": {"all": False, "included": list(task_ids)},
                "project": str(self._project_id),
                **fields,
            },
            read_s=SLOW_READ_S,
        )

    def _selections(self, task_ids: Sequence[int]) -> Iterator[Sequence[int]]:
        """Yield ids a request: with what is in them, they have to fit a page."""
        start = 0
        while start < len(task_ids):
            size = min(SELECTED, self._nested_page, PAGE)
            yield list(task_ids[start : start + size])
            start += size

    def _same_moment(self, moment: str, cursor: str, skip: set[int]) -> Iterator[TaskPage]:
        for page in self._by_id([_updated("equal", moment)], include=WITH_ANNOTATIONS, nested=True):
            fresh = tuple(task_record(one) for one in page if one["id"] not in skip)
            if fresh:
                yield TaskPage(fresh, cursor)

    def _by_id(
        self, filters: list[_Filter], *, include: str, nested: bool = False
    ) -> Iterator[list[Mapping[str, Json]]]:
        after: list[_Filter] = []
        while True:
            raw, total = self._page([*filters, *after], order="id", include=include, nested=nested)
            if raw:
                yield raw
            if len(raw) >= total or not raw:
                return
            after = [_Filter("id", "greater", "Number", raw[-1]["id"])]

    def _page(
        self,
        filters: list[_Filter],
        *,
        include: str,
        nested: bool = False,
        order: str = "id",
        selection: Mapping[str, Json] | None = None,
    ) -> tuple[list[Mapping[str, Json]], int]:
        """Return the first page of a listing, and the number of tasks on all pages."""
        query: dict[str, Json] = {"ordering": [f"tasks:{order}"]}
        if filters:
            query["filters"] = {"conjunction": "and", "items": [one.as_json() for one in filters]}
        if selection is not None:
            query["selectedItems"] = selection
        answer = self._session.call(
            "GET",
            "/api/tasks/",
            params={
                "project": self._project_id,
                "page_size": min(self._nested_page, PAGE) if nested else PAGE,
                "include": include,
                "fields": "all" if nested else "task_only",
                # Storage links as they are stored: signed ones expire, and cost a lookup a task.
                "resolve_uri": "false",
                # Without it, a project that "retrieves predictions when loading a task" would ask us for a whole page.
                "review": "true",
                "query": json.dumps(query, separators=(",", ":")),
            },
            read_s=PAGE_READ_S,
        )
        tasks = answer["tasks"]
        if nested and tasks:
            each = max(self._session.answered_bytes // len(tasks), 1)
            self._nested_page = min(max(PAGE_BYTES // each, SMALLEST_PAGE), PAGE)
        return tasks, answer["total"]


def _of_version(task: Mapping[str, Json], version: str) -> Iterator[tuple[list[StoredPrediction], bool]]:
    all_of_task = task.get("predictions") or []
    mine = [_stored(one) for one in all_of_task if one["model_version"] == version]
    if mine:
        yield mine, len(mine) < len(all_of_task)


def _updated(operator: str, moment: str) -> _Filter:
    return _Filter("updated_at", operator, "Datetime", format_time(parse_time(moment)))


def _stored(raw: Mapping[str, Json]) -> StoredPrediction:
    return StoredPrediction(id=raw["id"], task=raw["task"], score=raw["score"], model_version=raw["model_version"])
