"""A real Label Studio that people reach by another address than we do, and what it writes into its tasks then."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.labelstudio import LabelStudioServer, free_port, start_label_studio
from support.reverse_proxy import reverse_proxy
from support.studio_fixtures import CONFIG
from support.studio_web import Web, png

from backend.addresses import AllowedAddresses
from backend.demo.annotator import Annotator
from backend.studio.project import LabelStudio
from backend.studio.types import NamedToken

IMAGE = png(7)


@pytest.fixture(scope="module", params=["http://Labels.Example.Invalid:80/", "https://labels.example.invalid/studio"])
def named(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelStudioServer]:
    """A server that was told a name which leads nowhere from here, without a path and with one."""
    folder = tmp_path_factory.mktemp("named")
    (folder / "files").mkdir()
    server = start_label_studio(
        free_port(),
        folder,
        LABEL_STUDIO_HOST=request.param,
        LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED="true",
        LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT=str(folder / "files"),
    )
    yield server
    server.stop()


def test_every_address_that_label_studio_writes_is_fetched_at_ours(named: LabelStudioServer, backend: Web):
    person = Annotator(named.url, named.email, named.password)
    project = person.create_project("two addresses", CONFIG)
    person.connect_backend(project, backend.url)
    hostname = next(json.loads(body)["hostname"] for path, body in backend.bodies if path == "/setup")
    assert "labels.example.invalid" in hostname.lower()
    studio = LabelStudio(named.url, [NamedToken("token", named.token)], AllowedAddresses(), public=hostname)

    folder = named.data_dir / "files" / "set one"
    folder.mkdir()
    Path(folder / "a b.png").write_bytes(IMAGE)
    body = {"project": project, "path": str(folder), "use_blob_urls": True, "regex_filter": ".*png"}
    storage = person.call("POST", "/api/storages/localfiles/", body)["id"]
    person.call("POST", f"/api/storages/localfiles/{storage}/sync", {})
    person.upload_images(project, [("c.png", IMAGE)])
    tasks = studio.project(project).tasks
    written = {task.id: task.data["image"] for task in tasks.by_id(tasks.ids())}
    assert any(one.lower().startswith(hostname.lower()) for one in written.values())

    exported = person.call("GET", f"/api/projects/{project}/export", download_all_tasks="true")
    written |= {-one["id"]: one["data"]["image"] for one in exported}
    assert len(written) == 4
    for task, reference in written.items():
        assert studio.project(project).fetch(reference, abs(task)) == IMAGE, reference
    # Through a proxy that gives it a path, whether or not it was told of that.
    with reverse_proxy(named.url, "/studio", strips=True) as proxy:
        through = LabelStudio(proxy.url, [NamedToken("token", named.token)], AllowedAddresses(), public=hostname)
        assert through.project(project).settings().title == "two addresses"
        for task, reference in written.items():
            assert through.project(project).fetch(reference, abs(task)) == IMAGE, reference
    assert proxy.outside == []
    # As scripts write it that make an upload's path absolute.
    (upload,) = {one for one in written.values() if "/upload/" in one}
    path = upload[upload.index("/data/upload/") :]
    assert studio.project(project).fetch(f"{hostname.rstrip('/')}{path}", 1) == IMAGE
