import base64
import json
import socket
import threading
import time
from types import SimpleNamespace

import pytest
from requests.adapters import HTTPAdapter
from support.studio_web import Web, reply

from backend.demo.annotator import Annotator
from backend.errors import StudioError, StudioMissing, StudioRefused, StudioUnreachable
from backend.studio import availability as availability_module
from backend.studio import session as session_module
from backend.studio.availability import availability
from backend.studio.project import LabelStudio
from backend.studio.session import StudioSession
from backend.studio.types import NamedToken

GOOD, BAD = "c0ffee" * 7, "badbad" * 7


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(session_module, "BACKOFF_S", 0.01)


def stopped_clock(monkeypatch):
    """Have time stand still for pauses between calls; ``slept`` says how long was waited."""
    clock = SimpleNamespace(now=1000.0, slept=[], time=time.time)
    clock.monotonic, clock.sleep = lambda: clock.now, clock.slept.append
    monkeypatch.setattr(availability_module, "time", clock)
    monkeypatch.setattr(session_module, "time", clock)
    return clock


def session(server, *tokens):
    return StudioSession(
        server, [NamedToken(f"token {number}", token) for number, token in enumerate(tokens or [GOOD])]
    )


def jwt(**claims):
    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{part({'alg': 'none'})}.{part(claims)}.sig"


def authorizations(web):
    return [headers.get("Authorization") for _, _, headers in web.requests]


def test_session_tries_tokens_in_order_and_remembers_the_one_that_works(web: Web):
    web.answer = lambda handler, _: reply(handler, 200 if GOOD in handler.headers["Authorization"] else 401)
    studio = session(web.url, BAD, GOOD)
    studio.get("/api/one")
    studio.get("/api/two")
    assert authorizations(web) == [f"Token {BAD}", f"Token {GOOD}", f"Token {GOOD}"]


def test_session_exchanges_a_personal_token_and_renews_it_in_time(web: Web):
    def answer(handler, number):
        # 61 s of life: due for renewal after one.
        reply(handler, 200, json.dumps({"access": jwt(iat=1000, exp=1061, n=number)}))

    web.answer = answer
    studio = session(web.url, jwt(token_type="refresh"))
    studio.get("/api/one")
    studio.get("/api/two")
    time.sleep(1.1)
    studio.get("/api/three")
    paths = [path for _, path, _ in web.requests]
    assert paths == ["/api/token/refresh/", "/api/one", "/api/two", "/api/token/refresh/", "/api/three"]
    assert authorizations(web)[1].startswith("Bearer ")
    assert authorizations(web)[0] is None
    assert authorizations(web)[1] == authorizations(web)[2] != authorizations(web)[4]


def test_session_renews_a_personal_token_once_when_its_access_token_is_refused(web: Web):
    def answer(handler, number):
        if "refresh" in handler.path:
            reply(handler, 200, json.dumps({"access": jwt(iat=0, exp=300, n=number)}))
        else:
            reply(handler, 401 if number == 2 else 200)

    web.answer = answer
    session(web.url, jwt(token_type="refresh")).get("/api/one")
    assert [path for _, path, _ in web.requests] == ["/api/token/refresh/", "/api/one"] * 2


def test_session_exchanges_a_personal_token_once_for_many_threads(web: Web):
    web.answer = lambda handler, _: (time.sleep(0.05), reply(handler, 200, json.dumps({"access": jwt(iat=0, exp=300)})))
    studio = session(web.url, jwt(token_type="refresh"))
    threads = [threading.Thread(target=studio.get, args=("/api/one",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path for _, path, _ in web.requests].count("/api/token/refresh/") == 1
    assert len(web.requests) == 9


def test_label_studio_with_legacy_tokens_switched_off_takes_a_personal_one(
    label_studio, person: Annotator, personal_token: str
):
    legacy = NamedToken("the token that Label Studio sent to /setup", label_studio.token)
    person.allow_legacy_tokens(False)
    try:
        both = LabelStudio(label_studio.url, [legacy, NamedToken("LABEL_STUDIO_API_KEY", personal_token)])
        assert isinstance(both.project(person.create_project("tokens", "<View></View>")).webhooks(), list)
        false = NamedToken("LABEL_STUDIO_API_KEY", personal_token[:-8] + "AAAAAAAA")
        with pytest.raises(StudioRefused) as caught:
            LabelStudio(label_studio.url, [legacy, false]).project(1).settings()
    finally:
        person.allow_legacy_tokens(True)
    text = str(caught.value)
    assert "sent to /setup (legacy token): Authentication token no longer valid" in text
    assert "LABEL_STUDIO_API_KEY (personal access token): Token is invalid" in text
    assert "Personal Access Token and set LABEL_STUDIO_API_KEY" in text
    assert label_studio.token not in text
    assert personal_token[-20:-8] not in text


def test_session_without_tokens_says_what_to_create(web: Web):
    with pytest.raises(StudioRefused, match=r"we have none.*LABEL_STUDIO_API_KEY"):
        StudioSession(web.url, [NamedToken("LABEL_STUDIO_API_KEY", " ")]).get("/api/one")
    assert web.requests == []


def test_tokens_never_show_in_reprs(web: Web):
    studio = LabelStudio(web.url, [NamedToken("a", GOOD), NamedToken("b", jwt(secret="hush"))])
    assert GOOD not in repr(studio) + repr(studio.session) + repr(NamedToken("a", GOOD))


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_session_repeats_what_may_be_repeated(web: Web, status):
    web.answer = lambda handler, number: reply(handler, status if number < 3 else 200, '{"n": 1}')
    assert session(web.url).get("/api/one") == {"n": 1}
    assert len(web.requests) == 3


@pytest.mark.parametrize("status", [429, 502, 503, 504, None])
def test_session_leaves_a_server_alone_that_has_just_failed_and_then_asks_it_once(web: Web, monkeypatch, status):
    def hang_up(handler, _):
        if status is None:
            handler.connection.shutdown(socket.SHUT_RDWR)
            handler.close_connection = True
        else:
            reply(handler, status)

    web.answer = hang_up
    clock = stopped_clock(monkeypatch)
    with pytest.raises(StudioUnreachable) as first:
        session(web.url).get("/api/one")
    asked = len(web.requests)
    assert asked == session_module.ATTEMPTS
    with pytest.raises(StudioUnreachable) as second:
        session(web.url).get("/api/two")  # of another project there, too
    assert len(web.requests) == asked
    assert str(second.value) == str(first.value)
    clock.now += availability_module.PAUSE_S + 0.1
    with pytest.raises(StudioUnreachable):
        session(web.url).get("/api/three")
    assert len(web.requests) == asked + 1
    clock.now += availability_module.PAUSE_S + 0.1
    web.answer = lambda handler, _: reply(handler, 200)
    session(web.url).get("/api/four")
    session(web.url).get("/api/five")
    assert len(web.requests) == asked + 3


def test_session_spends_little_time_on_an_address_where_nothing_answers(monkeypatch):
    # A listener whose backlog is full takes no connection and refuses none, as a host that is switched off.
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        others = [socket.socket() for _ in range(4)]
        for other in others:
            other.setblocking(False)
            other.connect_ex(address)
        monkeypatch.setattr(session_module, "CONNECT_S", 0.3)
        stopped_clock(monkeypatch)
        tried, send = [], HTTPAdapter.send

        def note(self, request, **options):
            tried.append(options["timeout"][0])
            return send(self, request, **options)

        monkeypatch.setattr(HTTPAdapter, "send", note)
        for _ in range(20):
            with pytest.raises(StudioUnreachable, match="did not answer in time"):
                session(f"http://127.0.0.1:{address[1]}").get("/api/one")
        assert tried == [0.3] * session_module.CONNECT_ATTEMPTS
        for other in others:
            other.close()


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_session_sends_once_what_must_not_happen_twice(web: Web, status):
    web.answer = lambda handler, _: reply(handler, status)
    with pytest.raises(StudioUnreachable):
        session(web.url).call("POST", "/api/one", body={}, repeatable=False)
    assert len(web.requests) == 1


def test_session_sends_once_what_a_dropped_connection_may_have_done(web: Web):
    web.answer = lambda handler, _: handler.connection.shutdown(socket.SHUT_RDWR)
    with pytest.raises(StudioUnreachable):
        session(web.url).call("POST", "/api/one", body={}, repeatable=False)
    assert len(web.requests) == 1
    availability.cache_clear()
    with pytest.raises(StudioUnreachable):
        session(web.url).get("/api/one")
    assert len(web.requests) == 1 + session_module.ATTEMPTS


def test_session_waits_as_long_as_it_is_told_before_any_repetition(web: Web, monkeypatch):
    clock = stopped_clock(monkeypatch)
    web.answer = lambda handler, number: reply(handler, 429 if number == 1 else 200, Retry_After="1")
    session(web.url).call("POST", "/api/one", body={}, repeatable=False)
    assert clock.slept == [1.0]
    assert len(web.requests) == 2


def test_session_understands_a_date_to_wait_for_and_bounds_it(web: Web, monkeypatch):
    clock = stopped_clock(monkeypatch)
    far = "Fri, 31 Dec 2100 23:59:59 GMT"
    web.answer = lambda handler, number: reply(handler, 503 if number == 1 else 200, Retry_After=far)
    session(web.url).get("/api/one")
    assert clock.slept == [session_module.RETRY_AFTER_MAX_S]


def test_session_gives_up_on_a_server_that_does_not_answer_in_time(web: Web):
    done = threading.Event()
    web.answer = lambda handler, _: (done.wait(60), reply(handler, 200))
    with pytest.raises(StudioUnreachable, match="did not answer in time"):
        session(web.url).call("GET", "/api/one", read_s=0.1)
    done.set()
    assert len(web.requests) == 1


def test_session_says_that_a_server_knows_no_personal_tokens(web: Web):
    web.answer = lambda handler, _: reply(handler, 404, "<title>Not Found</title>", "text/html")
    with pytest.raises(StudioRefused, match=r"personal access token\): this Label Studio does not know such tokens"):
        session(web.url, jwt(token_type="refresh")).get("/api/one")


@pytest.mark.parametrize(
    ("token", "says"),
    [
        (jwt(token_type="access", exp=4e9), "this is an access token, which lives for minutes"),
        (jwt(token_type="refresh", exp=1e9), "it ended on 2001-09-09"),
        ("c0ffee" * 6, "it has 36 characters, one of Label Studio's has 40"),
        (GOOD, "it has 42 characters"),
    ],
)
def test_session_says_what_can_be_seen_to_be_wrong_with_a_refused_token(web: Web, token: str, says: str):
    web.answer = lambda handler, _: reply(handler, 401, '{"detail": "Token has wrong type"}')
    with pytest.raises(StudioRefused) as caught:
        session(web.url, token).get("/api/one")
    assert f"Token has wrong type ({says}" in str(caught.value)
    assert token not in str(caught.value)


@pytest.mark.parametrize("token", [jwt(token_type="refresh", exp=4e9), jwt(), "a.b.c", "..", "c0ffeec0ff" * 4])
def test_session_adds_nothing_about_a_refused_token_that_looks_right(web: Web, token: str):
    web.answer = lambda handler, _: reply(handler, 401, '{"detail": "Token is blacklisted"}')
    with pytest.raises(StudioRefused, match=r"Token is blacklisted\. In Label Studio create a token"):
        session(web.url, token).get("/api/one")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_session_says_what_localhost_is_in_a_container(host: str):
    said = f"LABEL_STUDIO_URL right? In a container, {host.strip('[]')} is the container itself"
    with pytest.raises(StudioUnreachable) as caught:
        session(f"http://{host}:1").get("/api/one")
    assert said in str(caught.value)


def test_session_says_when_a_container_knows_its_hosts_name(monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(StudioUnreachable, match=r"not known\)\): .*--add-host=host\.docker\.internal:host-gateway"):
        session("http://host.docker.internal:8080").get("/api/one")


@pytest.mark.parametrize(
    "body", ['{"projects": []}', "[]", "null", '"text"', '{"id": 1}', '{"id": 1, "title": "", "created_at": "soon"}']
)
def test_another_program_that_speaks_json_is_not_taken_for_label_studio(web: Web, body: str):
    web.answer = lambda handler, _: reply(handler, 200, body)
    with pytest.raises(StudioUnreachable, match=r"of another form than Label Studio's: is LABEL_STUDIO_URL its addr"):
        LabelStudio(web.url, [NamedToken("token", GOOD)]).project(1).settings()


def test_session_says_that_nobody_listens(web: Web):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    with pytest.raises(StudioUnreachable, match=f"{url} cannot be reached .*Connection refused.*LABEL_STUDIO_URL"):
        session(url).get("/api/one")


def test_session_says_that_a_connection_was_closed_without_an_answer(web: Web):
    web.answer = lambda handler, _: setattr(handler, "close_connection", True)
    with pytest.raises(StudioUnreachable) as caught:
        session(web.url).get("/api/one")
    said = f"{web.url} cannot be reached (Remote end closed connection without response): is Label Studio up"
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (200, "answered GET /api/one with a page instead of data .*Sign in"),
        (404, "answered GET /api/one with a page instead of data .*Sign in"),
        (502, r"failed at GET /api/one \(502: Sign in"),
    ],
)
def test_session_recognises_a_page_that_is_not_an_answer(web: Web, status, says):
    page = "<!doctype html><html><head><title>\n Sign in</title></head></html>"
    web.answer = lambda handler, _: reply(handler, status, page, "text/html; charset=utf-8")
    with pytest.raises(StudioUnreachable, match=says) as caught:
        session(web.url).get("/api/one")
    assert "\n" not in str(caught.value)


def test_session_says_where_it_is_sent_on_to_and_sends_no_token_there(web: Web):
    web.answer = lambda handler, _: reply(handler, 301, "", Location=f"{web.url}/elsewhere/?secret=1")
    with pytest.raises(StudioUnreachable, match=r"/elsewhere/ \(301\): set LABEL_STUDIO_URL") as caught:
        session(web.url).get("/api/one")
    assert "secret" not in str(caught.value)
    assert len(web.requests) == 1


def test_session_keeps_the_path_of_the_servers_address(web: Web):
    session(f"{web.url}/label-studio/").get("/api/one", a="b c")
    assert [path for _, path, _ in web.requests] == ["/label-studio/api/one?a=b+c"]


def test_session_sends_no_cookie_back(web: Web):
    web.answer = lambda handler, _: reply(handler, 200, Set_Cookie="sessionid=1; Path=/")
    studio = session(web.url)
    studio.get("/api/one")
    studio.get("/api/two")
    assert "Cookie" not in web.requests[1][2]


def test_session_tells_refusals_apart(studio: LabelStudio, project: int):
    with pytest.raises(StudioMissing, match=r"/api/projects/999999/ .No Project matches"):
        studio.project(999999).settings()
    with pytest.raises(StudioError, match="Model version doesn't exist") as caught:
        studio.project(project).update(model_version="never seen")
    assert type(caught.value) is StudioError


def test_a_404_of_something_else_is_not_taken_for_a_missing_project(web: Web):
    web.answer = lambda handler, _: reply(handler, 404, '{"message": "no Route matched"}')
    with pytest.raises(StudioUnreachable, match=r"404 that is not Label Studio's .*no Route matched"):
        session(web.url).get("/api/projects/1/")


def test_wrong_path_of_label_studio_is_not_taken_for_a_missing_project(label_studio):
    with pytest.raises(StudioUnreachable, match="LABEL_STUDIO_URL is not Label Studio's address"):
        session(f"{label_studio.url}/label-studio", label_studio.token).get("/api/projects/1/")
