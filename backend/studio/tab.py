"""Our tab in the Data Manager: batch, loss and score as numbers."""

from __future__ import annotations

from backend.studio.session import StudioSession
from backend.studio.types import Json

NUMBERS = ("tasks:data.pretext_batch", "tasks:data.pretext_loss", "tasks:predictions_score")


def ensure(session: StudioSession, project: int, title: str, model_version: str | None) -> int:
    """Create the tab, or bring it to the current version; one of that title is enough."""
    data: dict[str, Json] = {
        "title": title,
        "type": "list",
        "target": "tasks",
        "columnsDisplayType": dict.fromkeys(NUMBERS, "Number"),
    }
    for view in session.get("/api/dm/views/", project=project):
        if view["data"].get("title") == title:
            return int(view["id"])
    made = session.call("POST", "/api/dm/views/", body={"project": project, "data": data}, repeatable=False)
    return int(made["id"])
