"""What strangers try: code in files and in the queue, paths out of our folders, addresses inside the network."""

import ast
import pickle
import sys
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import requests
from rq import Queue
from rq.job import Job
from rq.serializers import DefaultSerializer, JSONSerializer
from support.studio_web import Web, png, reply, serving

from backend.errors import ImageError
from backend.queueing.queues import ADVANCE, PREFIX, Queueing
from backend.queueing.worker import FUNCTIONS, AllowedJob, Worker
from backend.studio.project import LabelStudio
from backend.studio.tokens import HeaderAuth
from backend.studio.types import NamedToken

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*ROOT.glob("backend/**/*.py"), *ROOT.glob("model/**/*.py"), *ROOT.glob("docker/*.py")])


def calls() -> Iterator[tuple[str, str, ast.Call]]:
    """Every call in our sources: file, dotted name, and the call itself."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                yield str(path.relative_to(ROOT)), ast.unparse(node.func), node


def argument(call: ast.Call, name: str) -> str | None:
    return next((ast.unparse(given.value) for given in call.keywords if given.arg == name), None)


# Code in what we read


def test_weights_are_read_as_data_never_as_code() -> None:
    loads = [(path, argument(call, "weights_only")) for path, name, call in calls() if name == "torch.load"]
    assert len(loads) >= 1
    assert [path for path, given in loads if given != "True"] == []


def test_nothing_else_turns_data_into_code() -> None:
    dangerous = {
        "pickle.load", "pickle.loads", "pickle.Unpickler", "marshal.loads", "shelve.open", "eval", "exec", "compile",
        "yaml.load", "yaml.unsafe_load", "joblib.load", "torch.jit.load", "torch.hub.load", "os.system", "os.popen",
    }  # fmt: skip
    found = [(path, name) for path, name, call in calls() if name in dangerous]
    found += [(path, name) for path, name, call in calls() if argument(call, "allow_pickle") not in (None, "False")]
    found += [(path, name) for path, name, call in calls() if argument(call, "shell") not in (None, "False")]
    assert found == []


def test_every_queue_worker_and_job_speaks_json() -> None:
    kinds = {"Queue", "Worker", "SimpleWorker", "Job.fetch", "Job.create"}
    found = [(name, argument(call, "serializer")) for path, name, call in calls() if name in kinds]
    assert len(found) >= 3
    assert {given for _, given in found} == {"JSONSerializer"}


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> object:
        return Path.touch, (self.mark,)


def work_off(queueing: Queueing) -> None:
    """Run a worker as ``run_worker`` makes it until its queue is empty."""
    queue = Queue(PREFIX + ADVANCE, connection=queueing.connection, serializer=JSONSerializer)
    worker = Worker([queue], connection=queueing.connection, job_class=AllowedJob, serializer=JSONSerializer)
    worker.work(burst=True, logging_level="CRITICAL")


def test_a_pickle_in_redis_is_never_loaded(queueing: Queueing, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    pickle.loads(pickle.dumps(Payload(mark)))
    assert mark.exists(), "the payload works"
    mark.unlink()
    queue = Queue(PREFIX + ADVANCE, connection=queueing.connection, serializer=DefaultSerializer)
    queue.enqueue("backend.loop.jobs.advance", Payload(mark))
    work_off(queueing)
    assert not mark.exists()
    assert queueing.depth(ADVANCE) == 0


def test_a_foreign_function_in_redis_is_never_run(queueing: Queueing, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    queue = Queue(PREFIX + ADVANCE, connection=queueing.connection, serializer=JSONSerializer)
    job = queue.enqueue("os.mkdir", str(mark))
    queueing.connection.hset(f"rq:job:{job.id}", "failure_callback_name", "os.getcwd")
    work_off(queueing)
    assert not mark.exists()
    assert Job.fetch(job.id, connection=queueing.connection, serializer=JSONSerializer).is_failed
    assert queueing.depth(ADVANCE) == 0


def test_every_function_that_workers_may_run_is_there() -> None:
    from backend.loop import jobs

    assert {name.rpartition(".")[2] for name in FUNCTIONS if hasattr(jobs, name.rpartition(".")[2])} == {
        "advance", "run", "score_tasks", "shard",
    }  # fmt: skip


# Paths and addresses in task data

REFERENCES = [
    "{secret}", "file://{secret}", "FILE://localhost{secret}", "../../../../../../../../..{secret}", "/..{secret}",
    "..\\..{secret}", "/%2e%2e/%2e%2e{secret}", "/data/local-files/?d=../../..{secret}", "\x00{secret}", "//{secret}",
    "local:{secret}", "netdoc:{secret}", "jar:file://{secret}!/", "data:image/png,{secret}", "C:{secret}", " {secret}",
]  # fmt: skip


@pytest.mark.parametrize("reference", REFERENCES)
def test_task_data_name_no_file_of_this_machine(web: Web, tmp_path: Path, reference: str) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(png(99))
    web.answer = lambda handler, _: reply(handler, 404, "", "text/plain")
    opened: list[str] = []
    watching = [True]

    def watch(event: str, given: tuple[object, ...]) -> None:
        if watching and event == "open":
            opened.append(str(given[0]))

    sys.addaudithook(watch)
    try:
        studio = LabelStudio(web.url, [NamedToken("token", "c0ffee")])
        with suppress(ImageError):
            assert studio.project(1).fetch(reference.format(secret=secret), 1) != png(99)
    finally:
        watching.clear()
    assert str(secret) not in opened


@pytest.fixture
def stranger() -> Iterator[Web]:
    """Somebody else's server, on the machine of Label Studio so that nothing but its port tells the two apart."""
    with serving() as server:
        yield server


# To one reader of addresses the host of these is the first, to another the second.
TWO_HOSTS = [
    r"http://{stranger}\@{studio}/data/upload/x.png", r"http://{stranger}\@localhost/data/upload/x.png",
    r"http://{studio}\@{stranger}/data/upload/x.png", "http://{studio}@{stranger}/data/upload/x.png",
    r"http:\\{stranger}\@{studio}/data/upload/x.png", r"//{stranger}\@{studio}/data/upload/x.png",
    "http://{stranger}\t@{studio}/data/upload/x.png", "http://{stranger}\x0b@{studio}/data/upload/x.png",
    "http://{stranger} @{studio}/data/upload/x.png", "http://{stranger}\u3000@{studio}/data/upload/x.png",
    "http://{stranger};@{studio}/data/upload/x.png", "http://{stranger}%5c@{studio}/data/upload/x.png",
    "http://{stranger}#@{studio}/data/upload/x.png", "http://{stranger}?@{studio}/data/upload/x.png",
    "http://{studio}:@{stranger}/data/upload/x.png", "http://{stranger}%2f@{studio}/data/upload/x.png",
]  # fmt: skip


def addressed(web: Web) -> str:
    return web.url.removeprefix("http://").replace("127.0.0.1", "localhost")


@pytest.mark.parametrize("address", TWO_HOSTS)
@pytest.mark.parametrize("redirected", [False, True])
def test_no_address_sends_our_token_to_another_host(web: Web, stranger: Web, address: str, redirected: bool) -> None:
    reference = address.format(stranger=addressed(stranger), studio=addressed(web))

    def answer(handler: BaseHTTPRequestHandler, _: int) -> None:
        reply(handler, 302, "", Location=reference.encode().decode("latin-1"))

    stranger.answer = answer if redirected else lambda handler, _: reply(handler, 404, "", "text/plain")
    studio = LabelStudio(f"http://{addressed(web)}", [NamedToken("token", "c0ffee")])
    with suppress(ImageError):
        studio.project(1).fetch(f"{stranger.url}/x.png" if redirected else reference, 1)
    assert [headers for _, _, headers in stranger.requests if "Authorization" in headers] == []
    assert len(stranger.requests) <= 1, "it was sent on to itself, unguarded"


@pytest.mark.parametrize(
    ("address", "says"),
    [
        (r"http://169.254.169.254\@localhost/x.png", "a backslash"),
        ("http://169.254.169.254 @localhost/x.png", "a space"),
        ("http://169.254.169.254\t@localhost/x.png", "control characters"),
        ("http://localhost@169.254.169.254/x.png", "a user name"),
        ("http://169.254.169.254#@localhost/x.png", "private or local"),
    ],
)
def test_an_address_of_two_hosts_is_refused_in_words(address: str, says: str) -> None:
    # Nothing is listening: what is connected to would be told by another reason.
    studio = LabelStudio("http://localhost:9", [NamedToken("token", "c0ffee")])
    with pytest.raises(ImageError, match=says):
        studio.project(1).fetch(address, 1)


def test_the_session_that_signs_connects_to_label_studio_alone(web: Web, stranger: Web) -> None:
    """Whatever a reader of addresses got wrong before."""
    session = LabelStudio(web.url, [NamedToken("token", "c0ffee")]).session
    for url in (stranger.url, rf"{stranger.url}\@{web.url.removeprefix('http://')}/x"):
        with pytest.raises(requests.exceptions.InvalidURL):
            session.stream(url, HeaderAuth("Token c0ffee"), 5, trusted=True)
    assert stranger.requests == []


ACTING = ["/api/projects/1/export", "/api/projects/1/next", "/api/projects/1/file-proxy/?url=aHR0cDovL2EvYg==",
          "/user/account", "/data/../api/projects/1/next", "/data/%2e%2e/api/projects/1/next",
          "/data/..%2fapi/projects/1/next", r"/data/..%5capi/projects/1/next", "/tasks/1/resolve/../../../api/x",
          "/data%2f..%2fapi/projects", "/database", "//data/../api/x"]  # fmt: skip


@pytest.mark.parametrize("path", ACTING)
@pytest.mark.parametrize("prefix", ["", "/label-studio"])
def test_task_data_have_our_token_sent_with_files_alone(web: Web, path: str, prefix: str) -> None:
    web.answer = lambda handler, _: reply(handler, 401, "", "text/plain")
    studio = LabelStudio(web.url + prefix, [NamedToken("token", "c0ffee")])
    for reference in (path, web.url + prefix + path):
        with suppress(ImageError):
            studio.project(1).fetch(reference, 1)
    assert [headers for _, _, headers in web.requests if "Authorization" in headers] == []


def test_a_path_that_wants_a_token_and_gets_none_says_why(web: Web) -> None:
    web.answer = lambda handler, _: reply(handler, 401, "", "text/plain")
    with pytest.raises(ImageError, match=r"^Label Studio answered 401 .*without our token, which goes with /data/"):
        LabelStudio(web.url, [NamedToken("token", "c0ffee")]).project(1).fetch("/api/projects/1/export", 1)


@pytest.mark.parametrize(
    "path",
    [
        "/data/upload/1/a%20b.png", "/data/local-files/?d=a/b.png", "/storage-data/uploaded/?filepath=upload/1/a.png",
        "/tasks/12/resolve/?fileuri=czM6", "/tasks/12/presign?fileuri=czM6", "/projects/3/resolve/?fileuri=czM6",
        "/projects/3/presign/?fileuri=czM6",
    ],
)  # fmt: skip
@pytest.mark.parametrize("prefix", ["", "/label-studio"])
def test_files_of_label_studio_are_asked_for_with_our_token(web: Web, path: str, prefix: str) -> None:
    web.answer = lambda handler, _: reply(handler, 200, png(), "image/png")
    studio = LabelStudio(web.url + prefix, [NamedToken("token", "c0ffee")])
    for reference in (path, prefix + path, web.url + prefix + path):
        assert studio.project(1).fetch(reference, 1) == png()
    assert [asked for _, asked, _ in web.requests] == [prefix + path] * 3
    assert {headers.get("Authorization") for _, _, headers in web.requests} == {"Token c0ffee"}


@pytest.mark.parametrize(
    "path",
    [
        "/projects/../../../../etc/passwd", "/projects/3/images/..%2f..%2fsecret.key.png", "/projects/3/images/-1.png",
        "/projects/3/figures/..%2f..%2f..%2fsecret.json", "/dashboard/plotly-../../../secret.js",
        "/dashboard/static/..%2f..%2f..%2f..%2fbackend/config.py", "/dashboard/static//etc/passwd", "/secret.key",
        "/static/../secret.key", "/dashboard/static/....//....//config.py", "/api/projects/..%2f1", "/projects/%00",
        f"/projects/{10**30}", f"/api/projects/{10**30}", f"/projects/3/images/{10**30}.png",
    ],
)  # fmt: skip
def test_routes_give_no_file_of_this_machine(browser, filled, path: str) -> None:
    answer = browser.get(path)
    assert answer.status_code in (308, 400, 404), answer.text
    assert "Traceback" not in answer.text
    assert "class Settings" not in answer.text
