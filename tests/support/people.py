"""What people do at Label Studio besides labeling, for tests: change, delete, disconnect."""

from collections.abc import Sequence
from typing import Any

from backend.demo.annotator import Annotator


class Person(Annotator):
    """An annotator who also manages the project."""

    def make_tasks(self, project: int, number: int) -> None:
        """Import this many tasks, each with an image of its own."""
        self.import_tasks(project, [{"data": {"image": f"/data/none/{one}.png"}} for one in range(number)])

    def change_project(self, project: int, **fields: Any) -> None:
        """Save fields on the settings pages."""
        self.call("PATCH", f"/api/projects/{project}/", fields)

    def delete_project(self, project: int) -> None:
        """Delete the project."""
        self.call("DELETE", f"/api/projects/{project}/")

    def change_task(self, task: int, data: Any) -> None:
        """Replace a task's data."""
        self.call("PATCH", f"/api/tasks/{task}/", {"data": data})

    def delete_task(self, task: int) -> None:
        """Delete one task."""
        self.call("DELETE", f"/api/tasks/{task}/")

    def change_annotation(self, annotation: int, **fields: Any) -> None:
        """Change an answer."""
        self.call("PATCH", f"/api/annotations/{annotation}/", fields)

    def delete_annotation(self, annotation: int) -> None:
        """Delete an answer."""
        self.call("DELETE", f"/api/annotations/{annotation}/")

    def act(self, project: int, action: str, tasks: Sequence[int], **fields: Any) -> None:
        """Run a Data Manager action on these tasks."""
        body = {"selectedItems": {"all": False, "included": list(tasks)}, "project": str(project), **fields}
        self.call("POST", "/api/dm/actions/", body, id=action, project=project)

    def delete_version(self, project: int, version: str) -> None:
        """Delete all predictions of a version, as the page of predictions does."""
        self.call("DELETE", f"/api/projects/{project}/model-versions/", {"model_version": version})

    def delete_prediction(self, prediction: int) -> None:
        """Delete one prediction."""
        self.call("DELETE", f"/api/predictions/{prediction}/")

    def disconnect_backend(self, backend: int) -> None:
        """Delete a model's entry on the Model page."""
        self.call("DELETE", f"/api/ml/{backend}")
