"""One database, one data folder: whoever sees another folder is told so, and writes nothing."""

import threading
from pathlib import Path

import pytest

from backend.errors import ConfigError
from backend.store import Store, installation
from backend.store.jobs import is_alive
from model.data.atomic_files import write_once


@pytest.fixture
def elsewhere(store: Store, tmp_path: Path):
    """The same database, seen by a machine that has another folder."""
    other = Store(store.engine.url.render_as_string(hide_password=False), tmp_path / "elsewhere")
    yield other
    other.close()


def is_server(store: Store) -> bool:
    return store.engine.dialect.name == "postgresql"


def test_all_that_see_the_folder_get_the_same_ids(store: Store, tmp_path: Path) -> None:
    assert store.installation.place() is None
    place = store.installation.claim()
    assert store.installation.claim() == place == store.installation.place()
    assert (tmp_path / "installation").read_text() == place.folder
    assert (tmp_path / "installation").stat().st_mode & 0o777 == 0o600
    assert store.installation.problem() is None


def test_another_folder_is_refused_while_somebody_works_with_the_first(store: Store, elsewhere: Store) -> None:
    place = store.installation.claim()
    if not is_server(store):  # nobody is on another machine: the folder was copied, or lost
        assert elsewhere.installation.claim().database == place.database
        return
    said = r"the others on this database work in another data folder than .*elsewhere: give all machines the same one"
    with pytest.raises(ConfigError, match=said):
        elsewhere.installation.claim()
    assert "stop them, wait 60 s" in (elsewhere.installation.problem() or "")
    assert store.installation.place() == place
    assert store.installation.claim() == place


def test_a_folder_that_is_lost_is_replaced_once_nobody_works_with_it(
    store: Store, elsewhere: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = store.installation.claim()
    monkeypatch.setattr(installation, "GONE_S", -1.0)
    moved = elsewhere.installation.claim()
    assert (moved.database, moved.folder == place.folder) == (place.database, False)
    monkeypatch.setattr(installation, "GONE_S", 60.0)
    if is_server(store):
        with pytest.raises(ConfigError, match="another data folder"):
            store.installation.claim()


def test_a_damaged_mark_is_an_error_in_words(store: Store, tmp_path: Path) -> None:
    (tmp_path / "installation").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match=r"DATA_DIR: the data folder .* takes no files"):
        store.installation.claim()


def test_of_many_that_write_a_file_once_all_read_the_same(tmp_path: Path) -> None:
    found: list[bytes] = []
    together = threading.Barrier(8)

    def write(number: int) -> None:
        together.wait(60)
        found.append(write_once(tmp_path / "mark", b"%d" % number))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert set(found) == {(tmp_path / "mark").read_bytes()}
    assert [path.name for path in tmp_path.iterdir()] == ["mark"]


def test_a_file_is_written_once_where_there_are_no_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    assert write_once(tmp_path / "mark", b"a") == b"a"
    assert write_once(tmp_path / "mark", b"b") == b"a"


@pytest.mark.parametrize("wrong_s", [-120.0, 120.0])
def test_a_job_of_a_machine_with_a_wrong_clock_lives_on(
    store: Store, project, monkeypatch: pytest.MonkeyPatch, wrong_s: float, tmp_path: Path
) -> None:
    if not is_server(store):
        pytest.skip("SQLite has one machine")
    import time as real

    class Wrong:
        monotonic = staticmethod(real.monotonic)
        time = staticmethod(lambda: real.time() + wrong_s)

    jobs = store.of(project.id).jobs
    token = jobs.start("embed")
    store.clock.now()
    other = Store(store.engine.url.render_as_string(hide_password=False), tmp_path)
    with monkeypatch.context() as there:
        there.setattr("backend.store.engine.time", Wrong)
        assert other.clock.ahead_s == pytest.approx(-wrong_s, abs=5)
        assert other.of(project.id).jobs.take("embed", token, "beta")
        assert other.of(project.id).jobs.beat("embed", token, 0.5)
        assert is_alive(other.of(project.id).jobs.all()[0], Wrong.time())
    other.close()
    (row,) = jobs.all()
    assert is_alive(row, real.time())
    assert row.heartbeat_at == pytest.approx(real.time(), abs=10)
    assert jobs.start("embed") is None
