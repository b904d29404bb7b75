"""Proxies of the environment, with a real one: what goes through it, what does not, and what is said of it."""

import pytest
from support.labelstudio import free_port
from support.studio_web import Web, png, reply, serving

from backend.addresses import AllowedAddresses, is_loopback
from backend.config import Settings
from backend.demo import servers
from backend.demo.labeling import Labeling
from backend.doctor.machine import check_machine
from backend.errors import ImageError, ImageUnavailable, StudioRefused, StudioUnreachable
from backend.server import serve
from backend.studio import session as session_module
from backend.studio.project import LabelStudio
from backend.studio.proxies import proxy_of
from backend.studio.types import NamedToken

STUDIO = "http://studio.invalid:8080"
IMAGE = png(3)


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin without the proxies of whoever runs the tests, and without long pauses."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(session_module, "BACKOFF_S", 0.01)


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch):
    """A proxy that the environment names, with a user and a password that must not be shown."""
    with serving() as server:
        server.named = server.url.replace("http://", "http://user:s3cret@")
        monkeypatch.setenv("http_proxy", server.named)
        monkeypatch.setenv("https_proxy", server.named)
        yield server


def studio(url: str = STUDIO, allowed: str = "") -> LabelStudio:
    return LabelStudio(url, [NamedToken("token", "c0ffee" * 7)], AllowedAddresses.parse(allowed))


# What never uses one


@pytest.mark.parametrize(
    "host",
    ["localhost", "LocalHost.", "studio.localhost", "localhost.localdomain", "ip6-localhost", "127.0.0.1", "127.8.9.1",
     "127.1", "0x7f.1", "::1", "[::1]", "::ffff:127.0.0.1", "0.0.0.0"],
)  # fmt: skip
def test_this_machine_is_known_by_all_its_names(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["", "studio", "localhost.example.com", "notlocalhost", "10.0.0.1", "128.0.0.1", "fe80::1"]
)
def test_others_are_not_this_machine(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
def test_calls_to_this_machine_use_no_proxy(web: Web, monkeypatch, variable: str) -> None:
    monkeypatch.setenv(variable, f"http://127.0.0.1:{free_port()}")  # where nobody listens
    web.answer = lambda handler, _: reply(handler, 200, '{"count": 3}')
    port = web.url.rpartition(":")[2]
    for url in (web.url, f"http://localhost:{port}"):
        assert studio(url).session.get("/api/projects/") == {"count": 3}
    web.answer = lambda handler, _: reply(handler, 200, IMAGE, "image/png")
    assert studio(web.url).project(1).fetch("/data/upload/1/a.png", 1) == IMAGE
    assert studio(web.url).project(1).fetch(f"{web.url}/static/a.png", 1) == IMAGE


@pytest.mark.parametrize("variable", ["http_proxy", "all_proxy"])
def test_own_processes_are_asked_without_a_proxy(web: Web, monkeypatch, tmp_path, variable: str) -> None:
    port = int(web.url.rpartition(":")[2])
    monkeypatch.setenv(variable, f"http://127.0.0.1:{free_port()}")
    assert serve._healthy("127.0.0.1", port)
    assert serve._healthy("0.0.0.0", port)
    settings = Settings(data_dir=tmp_path, port=port, redis_url=f"unix://{tmp_path}/none", device="cpu")
    assert {finding.name: finding.ok for finding in check_machine(settings, None)}["web"]
    web.answer = lambda handler, _: reply(handler, 503)
    assert not serve._healthy("127.0.0.1", port)
    assert not serve._healthy("127.0.0.1", free_port())


def test_the_demo_asks_its_servers_without_a_proxy(web: Web, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    assert servers.Server("it", web.url, tmp_path / "log", None)._healthy()
    web.answer = lambda handler, _: reply(handler, 200, '{"stage": "labeling"}')
    assert Labeling(None, 7, web.url, None).status() == {"stage": "labeling"}
    assert web.requests[-1][1] == "/api/projects/7"
    web.answer = lambda handler, _: reply(handler, 404)
    assert Labeling(None, 7, web.url, None).status() == {}


# What does


def test_others_are_asked_as_the_environment_says(proxy: Web, monkeypatch) -> None:
    proxy.answer = lambda handler, _: reply(handler, 200, '{"count": 3}')
    assert studio().session.get("/api/projects/") == {"count": 3}
    assert proxy.requests[0][1] == f"{STUDIO}/api/projects/"
    assert proxy_of(STUDIO) == proxy.url
    for exception in ("studio.invalid", ".invalid", "*"):
        monkeypatch.setenv("no_proxy", exception)
        assert proxy_of(STUDIO) is None
        with pytest.raises(StudioUnreachable, match=r"/[0-9]+ cannot be reached \("):
            studio(f"{STUDIO}/{len(exception)}").session.get("/api/projects/")
    assert len(proxy.requests) == 1


def test_images_come_through_it_and_private_addresses_still_do_not(proxy: Web) -> None:
    proxy.answer = lambda handler, _: reply(handler, 200, IMAGE, "image/png")
    assert studio().project(1).fetch("http://images.invalid/a.png", 1) == IMAGE
    for refused in (
        "http://127.0.0.1:1/a.png",
        "http://localhost:1/a.png",
        "http://10.0.0.1/a.png",
        "http://127.1/a.png",
    ):
        with pytest.raises(ImageError, match="private or local"):
            studio().project(1).fetch(refused, 1)
    assert [path for _, path, _ in proxy.requests] == ["http://images.invalid/a.png"]


# What is said


@pytest.mark.parametrize(
    ("status", "says"), [(403, "let us through"), (401, "let us through"), (407, "user and a password")]
)
@pytest.mark.parametrize("kind", ["text/html", "application/json"])
def test_a_refusal_of_the_proxy_is_not_taken_for_one_of_our_token(
    proxy: Web, status: int, says: str, kind: str
) -> None:
    body = "<title>Access denied</title>" if kind == "text/html" else '{"error": "Access denied"}'
    proxy.answer = lambda handler, _: reply(handler, status, body, kind)
    with pytest.raises(StudioUnreachable, match=says) as caught:
        studio().session.get("/api/projects/")
    assert f"the proxy {proxy.url}" in str(caught.value)
    assert "Access denied" in str(caught.value)
    assert "token" not in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_refusal_of_label_studio_through_the_proxy_is_one_of_our_token(proxy: Web) -> None:
    proxy.answer = lambda handler, _: reply(handler, 401, '{"detail": "Invalid token."}')
    with pytest.raises(StudioRefused, match="Invalid token"):
        studio().session.get("/api/projects/")


@pytest.mark.parametrize("status", [401, 403])
def test_a_page_of_a_gatekeeper_is_not_taken_for_a_refusal_of_our_token(web: Web, status: int) -> None:
    web.answer = lambda handler, _: reply(handler, status, "<title>Single sign-on</title>", "text/html")
    with pytest.raises(StudioUnreachable, match=r"not Label Studio's \(40\d: Single sign-on\)"):
        studio(web.url).session.get("/api/projects/")


def test_an_exchange_of_a_personal_token_names_the_proxy_too(proxy: Web) -> None:
    proxy.answer = lambda handler, _: reply(handler, 403, "<title>Access denied</title>", "text/html")
    personal = LabelStudio(STUDIO, [NamedToken("token", "a.b.c")], AllowedAddresses())
    with pytest.raises(StudioUnreachable, match=f"the proxy {proxy.url} answered"):
        personal.session.get("/api/projects/")


@pytest.mark.parametrize(
    ("server", "setting"),
    [
        ("http://studio.invalid", "http://127.0.0.1:{port}"),  # nobody listens
        ("https://studio.invalid", "http://127.0.0.1:{port}"),
        ("http://studio.invalid", "127.0.0.1:{port}"),
        ("http://studio.invalid", "http://proxy.invalid:3128"),  # a name that leads nowhere
        ("http://studio.invalid", "http://:3128"),
    ],
)
def test_a_proxy_that_is_not_there_is_named(monkeypatch, server: str, setting: str) -> None:
    setting = setting.format(port=free_port())
    monkeypatch.setenv("all_proxy", setting)
    named = setting if "://" in setting else f"http://{setting}"
    with pytest.raises(StudioUnreachable) as caught:
        studio(server).session.get("/api/projects/")
    assert f"through the proxy {named}" in str(caught.value)
    with pytest.raises(StudioUnreachable, match="through the proxy"):
        studio(server).project(1).fetch("/data/upload/1/a.png", 1)
    with pytest.raises(ImageUnavailable, match=f"through the proxy {named}"):
        studio("http://localhost:1").project(1).fetch("http://images.invalid/a.png", 1)


def test_a_tunnel_that_the_proxy_refuses_is_named(proxy: Web) -> None:
    proxy.answer = lambda handler, _: reply(handler, 403, "")
    with pytest.raises(StudioUnreachable, match=f"through the proxy {proxy.url} .*403"):
        studio("https://studio.invalid").session.get("/api/projects/")
    assert {method for method, _, _ in proxy.requests} == {"CONNECT"}


@pytest.mark.parametrize("status", [403, 407, 502])
def test_an_image_that_the_proxy_refuses_names_it(proxy: Web, status: int) -> None:
    proxy.answer = lambda handler, _: reply(handler, status, "<html>", "text/html")
    with pytest.raises(ImageError, match=f"images.invalid answered {status}.*, through the proxy {proxy.url}$"):
        studio().project(1).fetch("http://images.invalid/a.png", 1)


@pytest.mark.parametrize("status", [502, 503])
def test_a_failure_behind_the_proxy_names_it(proxy: Web, status: int) -> None:
    proxy.answer = lambda handler, _: reply(handler, status, "<title>Host unknown</title>", "text/html")
    with pytest.raises(StudioUnreachable, match=f"Host unknown, through the proxy {proxy.url}"):
        studio().session.get("/api/projects/")
