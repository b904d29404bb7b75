from pathlib import Path

import pytest
from sqlalchemy import select

from backend.errors import ConfigError
from backend.store import ProjectRow, Store
from backend.store.siblings import Place

GIVEN = {
    "studio_project_id": 1,
    "created_ts": "1700000000",
    "server": "http://studio",
    "token": "t0ken",
    "backend_url": "http://backend:9090",
    "label_config": "<View/>",
    "extra_params": {},
}


def test_connect_again_changes_nothing(store: Store, project: ProjectRow) -> None:
    again, changed = store.projects.connect(**GIVEN)
    assert (again.id, changed) == (project.id, False)


def test_connect_with_another_configuration_says_that_it_changed(store: Store, project: ProjectRow) -> None:
    again, changed = store.projects.connect(**{**GIVEN, "extra_params": {"rounds": 5}})
    assert (again.id, changed, again.extra_params) == (project.id, True, {"rounds": 5})


def test_connect_with_a_new_creation_time_is_another_project(store: Store, project: ProjectRow) -> None:
    new, changed = store.projects.connect(**{**GIVEN, "created_ts": "1800000000"})
    assert changed
    assert new.id != project.id
    assert store.projects.find(1).id == new.id
    assert store.projects.find(1, "1700000000").id == project.id


def test_a_project_takes_the_place_of_another_once_label_studio_has_confirmed_it(
    store: Store, project: ProjectRow
) -> None:
    new, _ = store.projects.connect(**{**GIVEN, "created_ts": "1800000000"})
    other, _ = store.projects.connect(**{**GIVEN, "studio_project_id": 2, "created_ts": "1800000000"})
    assert len(store.projects.all(active=True)) == 3, "that it is there is only what a caller says"
    store.projects.deactivate_replaced(project.id)
    assert len(store.projects.all(active=True)) == 3, "an older one takes no place"
    store.projects.deactivate_replaced(new.id)
    assert {row.id for row in store.projects.all(active=True)} == {new.id, other.id}


def test_the_same_project_on_another_server_puts_none_to_rest_by_itself(store: Store, project: ProjectRow) -> None:
    copy, _ = store.projects.connect(**{**GIVEN, "server": "http://copy"})
    store.projects.deactivate_replaced(copy.id)
    assert [row.id for row in store.projects.all(active=True)] == [project.id, copy.id]
    assert (copy.place, [row.id for row in store.projects.siblings(copy)]) == (Place.NEW, [project.id])


def test_each_of_two_projects_of_one_id_has_a_name_of_its_own(store: Store, project: ProjectRow) -> None:
    other, _ = store.projects.connect(**{**GIVEN, "server": "http://other", "created_ts": "1700000001"})
    assert (store.projects.name_of(project), store.projects.name_of(other)) == ("1", f"1-{other.id}")
    for row in (project, other):
        assert store.projects.named(store.projects.name_of(row)).id == row.id
        assert store.projects.named(f"1-{row.id}").id == row.id
    store.projects.set(project.id, active=False)
    assert (store.projects.named("1").id, store.projects.name_of(project)) == (other.id, f"1-{project.id}")
    assert store.projects.named(f"2-{project.id}") is None
    assert store.projects.named("9" * 18) is None


def test_who_calls_is_who_has_set_up_last(store: Store, project: ProjectRow) -> None:
    copy, _ = store.projects.connect(**{**GIVEN, "server": "http://copy"})
    assert store.projects.caller(1, "1700000000") is None, "both have just called"
    for caller in (project, copy):
        for row in (project, copy):
            store.projects.set(row.id, called_at=100.0 + 10.0 * (row.id == caller.id))
        assert store.projects.caller(1, "1700000000").id == caller.id
    store.projects.set(copy.id, active=False)
    assert store.projects.caller(1, "1700000000").id == project.id


def test_addresses_are_exchanged_and_what_was_learned_stays(store: Store, project: ProjectRow) -> None:
    copy, _ = store.projects.connect(**{**GIVEN, "server": "http://copy", "token": "other"})
    secrets = store.projects.webhook_secret(project), store.projects.webhook_secret(copy)
    store.projects.set(project.id, cursor="one", pretext_key="p")
    store.projects.exchange(project.id, copy.id)
    first, second = store.projects.get(project.id), store.projects.get(copy.id)
    assert (first.server, second.server) == ("http://copy", "http://studio")
    assert (store.projects.token(first), store.projects.token(second)) == ("other", "t0ken")
    assert (store.projects.webhook_secret(second), store.projects.webhook_secret(first)) == secrets
    assert (first.pretext_key, first.cursor, second.pretext_key) == ("p", None, None)


def test_the_cursor_stays_where_a_changed_labeling_interface_has_put_it(store: Store, project: ProjectRow) -> None:
    assert store.projects.read_to(project.id, "one", "<View/>")
    store.projects.connect(**{**GIVEN, "label_config": "<View></View>"})
    assert not store.projects.read_to(project.id, "two", "<View/>")
    assert store.projects.get(project.id).cursor is None


@pytest.mark.parametrize("setting", ["control", "problem", "background"])
def test_another_way_of_reading_has_all_answers_read_again(store: Store, project: ProjectRow, setting: str) -> None:
    assert store.projects.read_to(project.id, "one", "<View/>")
    store.projects.connect(**{**GIVEN, "extra_params": {"rounds": 5}})
    assert store.projects.get(project.id).cursor == "one"
    store.projects.connect(**{**GIVEN, "extra_params": {"rounds": 5, setting: "other"}})
    assert store.projects.get(project.id).cursor is None
    assert not store.projects.read_to(project.id, "two", "<View/>"), "it was read before the setting was changed"
    assert store.projects.read_to(project.id, "three", "<View/>", {setting: "other"})
    store.projects.connect(**GIVEN)
    assert store.projects.get(project.id).cursor is None


def test_a_damaged_key_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "secret.key").write_bytes(b"")
    store = Store(f"sqlite:///{tmp_path / 'test.sqlite3'}", tmp_path)
    row, _ = store.projects.connect(**GIVEN)
    assert store.projects.token(row) == "t0ken"
    assert (tmp_path / "secret.damaged").exists()
    assert (tmp_path / "secret.key").stat().st_mode & 0o777 == 0o600
    store.close()


@pytest.mark.parametrize("url", ["foo", "mysql+nodriver://x/y", "postgresql+nodriver://x/y"])
def test_a_database_address_that_sqlalchemy_does_not_know_is_named(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match=r"^DATABASE_URL: .* write sqlite:////path/to/file"):
        Store(url, tmp_path)


def test_a_data_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"^DATA_DIR: the data folder .*/file takes no files"):
        Store("sqlite://", tmp_path / "file")


def test_a_changed_labeling_interface_has_all_answers_read_again(store: Store, project: ProjectRow) -> None:
    store.projects.set(project.id, cursor="2026-01-01T00:00:00Z")
    assert store.projects.connect(**GIVEN)[0].cursor is not None
    assert store.projects.connect(**{**GIVEN, "label_config": "<View></View>"})[0].cursor is None


def test_another_address_for_the_same_label_studio_is_the_same_project(store: Store) -> None:
    named = {**GIVEN, "studio_project_id": 5, "hostname": "http://localhost:8080"}
    first, _ = store.projects.connect(**{**named, "server": "http://localhost:8080"})
    again, changed = store.projects.connect(**{**named, "server": "http://label-studio:8080"})
    assert (again.id, again.server, changed) == (first.id, "http://label-studio:8080", True)


def test_connect_from_another_server_is_another_project_beside_it(store: Store, project: ProjectRow) -> None:
    new, _ = store.projects.connect(**{**GIVEN, "server": "http://other", "created_ts": "1700000001"})
    assert new.id != project.id
    assert {row.id for row in store.projects.all(active=True, studio_project_id=1)} == {project.id, new.id}


def test_tokens_are_not_in_the_database_in_clear(store: Store, project: ProjectRow, tmp_path: Path) -> None:
    assert store.projects.token(project) == "t0ken"
    with store.read() as session:
        dump = str([tuple(row) for row in session.execute(select(ProjectRow.__table__))])
    assert "http://studio" in dump
    assert "t0ken" not in dump
    assert store.projects.webhook_secret(project) not in dump
    assert (tmp_path / "secret.key").stat().st_mode & 0o077 == 0


def test_a_second_store_reads_the_tokens_of_the_first(store: Store, project: ProjectRow, tmp_path: Path) -> None:
    second = Store(store.engine.url.render_as_string(hide_password=False), tmp_path)
    assert second.projects.token(second.projects.get(project.id)) == "t0ken"
    second.close()


def test_a_webhook_secret_that_nobody_can_read_any_more_is_made_anew(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'test.sqlite3'}"
    first = Store(url, tmp_path)
    row, _ = first.projects.connect(**GIVEN)
    secret = first.projects.webhook_secret(row)
    first.close()
    (tmp_path / "secret.key").unlink()
    again = Store(url, tmp_path)
    assert again.projects.webhook_secret(again.projects.get(row.id)) is None
    row, changed = again.projects.connect(**GIVEN)
    assert changed
    assert again.projects.webhook_secret(row) not in (None, secret)
    assert again.projects.token(row) == "t0ken"
    again.close()
