"""What a line of the log says, in both forms."""

import io
import json
import logging

import pytest

from backend import logs
from backend.config import Settings
from backend.logs import log_context

logger = logging.getLogger("backend.somewhere")


@pytest.fixture(params=["text", "json"])
def form(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def written(form: str, monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    logs.configure("train", Settings(log_format=form))
    yield stream
    root.handlers[:] = before
    root.setLevel(level)


def test_a_line_says_what_it_is_about(written: io.StringIO, form: str) -> None:
    with log_context(project=3, step="retrain", round=None):
        with log_context(round=2):
            logger.info("done in %.1f s", 1.25)
        logger.debug("too fine")
    logger.warning("of nothing special")
    first, second = written.getvalue().splitlines()
    if form == "text":
        assert first.endswith(" train   project=3 round=2 step=retrain: done in 1.2 s")
        assert second.endswith(" train   of nothing special")
        return
    one, two = json.loads(first), json.loads(second)
    time = one.pop("time")
    assert one == {
        "level": "INFO", "process": "train", "logger": "backend.somewhere", "message": "done in 1.2 s",
        "project": 3, "round": 2, "step": "retrain",
    }  # fmt: skip
    assert len(time) == len("2025-01-31T14:03:22.123Z")
    assert "project" not in two


def test_a_traceback_stays_in_its_line_of_json(written: io.StringIO, form: str) -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logger.exception("failed")
    lines = written.getvalue().splitlines()
    if form == "json":
        assert len(lines) == 1
        assert "ValueError: two\nlines" in json.loads(lines[0])["traceback"]
    else:
        assert lines[0].endswith("failed")
        assert "ValueError: two" in lines[-2]


@pytest.mark.parametrize(
    "secret",
    ["Token 0123456789abcdef0123456789abcdef01234567", "Bearer abc.def.ghi", "eyJhbGciOiJI.eyJ0b2tlbl90.AbC-d_Ef"],
)
def test_whatever_looks_like_a_token_is_taken_out(written: io.StringIO, form: str, secret: str) -> None:
    logger.warning("header %s refused", secret)
    try:
        raise ValueError(secret)
    except ValueError:
        logger.exception("failed")
    assert secret.split()[-1] not in written.getvalue()
    assert "refused" in written.getvalue()


def test_others_are_heard_from_warnings_on(written: io.StringIO) -> None:
    logging.getLogger("urllib3").info("connection")
    logging.getLogger("urllib3").warning("retrying")
    assert "connection" not in written.getvalue()
    assert "retrying" in written.getvalue()
