"""Our tab in the Data Manager: every task to be done with its batch, its loss and its score, the queue on top.

The tab orders by the prediction score, which Label Studio takes from the project's current version alone: the tasks
that are asked now stand first, most wanted first, and the tab needs no change between rounds. "Label All Tasks" ignores
a tab's order and filters; "Label Tasks As Displayed" follows them, and here that is the queue's order.
"""

from collections.abc import Mapping, Sequence

from backend.studio.session import StudioSession
from backend.studio.types import Json

BATCH, LOSS, SCORE = "tasks:data.pretext_batch", "tasks:data.pretext_loss", "tasks:predictions_score"
# Without a type, Label Studio orders fields of task data as text.
NUMBERS = {BATCH: "Number", LOSS: "Number", SCORE: "Number"}
# Answered tasks keep their score, and would stay on top.
TO_DO = {
    "conjunction": "and",
    # Set once a task has as many annotations as the project wants, so that overlap is heeded.
    "items": [{"filter": "filter:tasks:completed_at", "operator": "empty", "type": "Datetime", "value": True}],
}
# Columns beside those of the task data, all of which stay.
SHOWN = {"tasks:inner_id", "tasks:total_annotations", SCORE}


def ensure(session: StudioSession, project: int, title: str) -> int:
    """Create the tab if there is none of that title, or make its columns numbers again; return its id.

    What a person has changed in it otherwise stays.
    """
    views = session.get("/api/dm/views/", project=project)
    for view in views:
        data = view["data"] or {}
        if data.get("title") == title:
            _keep_numbers(session, project, view["id"], data)
            return int(view["id"])
    columns = session.get("/api/dm/columns/", project=project)["columns"]
    if not views:
        # Label Studio makes its own first tab only where there is none at all.
        default = {"explore": _unless_visible(columns, "explore"), "labeling": _unless_visible(columns, "labeling")}
        _create(session, project, {"title": "Default", "hiddenColumns": default})
    data = {
        "title": title,
        "type": "list",
        "target": "tasks",
        "ordering": [SCORE],
        "filters": TO_DO,
        "columnsDisplayType": NUMBERS,
        "hiddenColumns": _hidden(columns),
    }
    return _create(session, project, data)


def _create(session: StudioSession, project: int, data: Mapping[str, Json]) -> int:
    made = session.call("POST", "/api/dm/views/", body={"project": project, "data": data}, repeatable=False)
    return int(made["id"])


def _keep_numbers(session: StudioSession, project: int, view: int, data: Mapping[str, Json]) -> None:
    types = data.get("columnsDisplayType") or {}
    if not NUMBERS.items() <= types.items():
        body = {"project": project, "data": {**data, "columnsDisplayType": {**types, **NUMBERS}}}
        session.call("PATCH", f"/api/dm/views/{view}/", body=body)


def _hidden(columns: Sequence[Mapping[str, Json]]) -> dict[str, list[str]]:
    """List what is not shown in the table (explore) and beside an open task (labeling)."""
    table = [_name(one) for one in columns if one.get("parent") != "data" and _name(one) not in SHOWN]
    return {
        "explore": [name for name in table if name != "tasks:data"],
        "labeling": _unless_visible(columns, "labeling"),
    }


def _unless_visible(columns: Sequence[Mapping[str, Json]], where: str) -> list[str]:
    """List the columns that Label Studio itself does not show there."""
    return [_name(one) for one in columns if not one.get("visibility_defaults", {where: True}).get(where)]


def _name(column: Mapping[str, Json]) -> str:
    return "tasks:" + ("data." if column.get("parent") == "data" else "") + str(column["id"])
