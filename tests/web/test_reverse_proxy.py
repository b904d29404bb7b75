"""The application behind a reverse proxy with a path: what links begin with, and who may say so."""

import re
from pathlib import Path

import pytest
from flask import Flask
from support.web_pages import BROWSER, CONFIG, Reader, connect_project, fill

from backend.config import Settings
from backend.errors import ConfigError
from backend.web.app import create_app
from backend.web.reverse_proxy import prefix_of

LINK = re.compile(r'(?:href|src|action|data-figure)="([^"]*)"')
PAGES = ["/projects", "/projects/3", "/projects/3/final", "/projects/99"]
FORWARDED = {"X-Forwarded-Prefix": "/pt4al"}


@pytest.fixture
def make(tmp_path: Path):
    """Make an application with project 3 in it."""
    made = []

    def make(**settings: str) -> Flask:
        app = create_app(Settings(data_dir=tmp_path, redis_url=f"unix://{tmp_path}/none.sock", **settings))
        app.test_client_class = Reader
        made.append(app)
        store = app.extensions["pt4al"].store
        if store.projects.find(3) is None:
            fill(store, connect_project(store), tmp_path)
        return app

    yield make
    for app in made:
        app.extensions["pt4al"].store.close()


def links(app: Flask, path: str, **headers: str) -> set[str]:
    """Return what a page links to on its own host."""
    page = app.test_client().get(path, headers={**BROWSER, **headers}).text
    found = {link for link in LINK.findall(page) if not link.startswith(("http", "#", "data:"))}
    assert len(found) >= 3
    return found


def follow(app: Flask, found: set[str], prefix: str, headers: dict[str, str]) -> None:
    assert [link for link in found if not link.startswith(f"{prefix}/")] == []
    of_each_kind = {re.sub(r"[0-9]+", "", link): link for link in sorted(found)}
    for link in of_each_kind.values():
        path = link.replace("&amp;", "&").partition("#")[0]
        for asked in (path, path.removeprefix(prefix)):  # as a proxy passes it on that leaves the path, or takes it off
            answer = app.test_client().get(asked, headers=headers)
            assert answer.status_code in (200, 404, 405), asked
            if "/static/" in path or "plotly" in path or "/images/" in path or "/figures/" in path:
                assert answer.status_code == 200, asked


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize(
    "url",
    ["https://host/pt4al", "https://host/pt4al/", "http://host:8443/deep/er", "https://host/dashboard", "https://host/projects"],
)  # fmt: skip
def test_links_begin_with_the_path_of_dashboard_url(make, page: str, url: str) -> None:
    app, prefix = make(dashboard_url=url), "/" + url.rstrip("/").split("/", 3)[3]
    follow(app, links(app, page), prefix, {})
    assert links(app, prefix + page) == links(app, page)


@pytest.mark.parametrize("page", PAGES)
def test_links_begin_with_what_a_trusted_proxy_says(make, page: str) -> None:
    app = make(dashboard_url="https://host/other")
    found = links(app, page, **FORWARDED)
    follow(app, found, "/pt4al", FORWARDED)
    assert links(app, f"/pt4al{page}", **FORWARDED) == found
    assert links(make(), page, **{"X-Forwarded-Prefix": "/outer, /pt4al/"}) == found


def test_without_either_links_begin_at_the_root(make) -> None:
    for app in (make(), make(dashboard_url="https://host"), make(dashboard_url="https://host/")):
        assert {link.split("/")[1] for link in links(app, "/projects/3")} == {"dashboard", "projects", "api", "metrics"}


@pytest.mark.parametrize("path", ["/pt4al", "/pt4al/", "/"])
def test_the_first_page_is_found_with_and_without_a_slash(make, path: str) -> None:
    answer = make(dashboard_url="https://host/pt4al").test_client().get(path, headers=BROWSER)
    assert answer.status_code == 200
    assert 'href="/pt4al/projects/3"' in answer.text


@pytest.mark.parametrize("asked", ["/projects/3/retry", "/pt4al/projects/3/retry"])
def test_a_form_leads_back_below_the_path(make, asked: str) -> None:
    headers = {"Origin": "https://host", "Host": "backend:9090"}
    answer = make(dashboard_url="https://Host:443/pt4al").test_client().post(asked, headers=headers)
    assert (answer.status_code, answer.location) == (303, "/pt4al/projects/3")


@pytest.mark.parametrize(
    ("origin", "host", "code"),
    [
        ("https://host", "backend:9090", 303),
        ("https://host", "upstream.example.com", 303),  # the proxy's own name for us
        ("http://host", "backend:9090", 403),
        ("https://host:8443", "backend:9090", 403),
        ("https://evil.example", "backend:9090", 403),
        ("https://evil.example", "evil.example", 403),
        ("null", "backend:9090", 403),
    ],
)
def test_a_form_is_ours_where_the_page_has_the_dashboards_origin(make, origin: str, host: str, code: int) -> None:
    client = make(dashboard_url="https://host/pt4al").test_client()
    assert client.post("/projects/3/retry", headers={"Origin": origin, "Host": host}).status_code == code


@pytest.mark.parametrize(
    ("trusted", "address", "believed"),
    [
        (None, "127.0.0.1", True),
        (None, "::1", True),
        (None, "172.18.0.1", False),
        (None, "", False),
        ("172.16.0.0/12", "172.18.0.1", True),
        ("172.16.0.0/12", "::ffff:172.18.0.1", True),
        ("172.16.0.0/12", "127.0.0.1", False),
        ("10.0.0.1, fd00::/8", "fd00::7", True),
        ("none", "127.0.0.1", False),
    ],
)
def test_the_header_is_believed_from_trusted_addresses_alone(make, trusted, address: str, believed: bool) -> None:
    app = make(**({"trusted_proxies": trusted} if trusted else {}))
    page = app.test_client().get("/projects", headers={**BROWSER, **FORWARDED}, environ_base={"REMOTE_ADDR": address})
    assert ('href="/pt4al/projects/3"' in page.text) == believed
    assert ('href="/projects/3"' in page.text) != believed


@pytest.mark.parametrize(
    "value", ["//evil.example", "/a//evil.example", "https://evil.example", "/../x", "/a b", '/"', "", "/"]
)
def test_a_header_that_leads_elsewhere_is_no_prefix(make, value: str) -> None:
    assert prefix_of(value) == ""
    assert (
        'href="/projects/3"'
        in make().test_client().get("/projects", headers={**BROWSER, "X-Forwarded-Prefix": value}).text
    )


def test_a_wrong_setting_is_refused() -> None:
    with pytest.raises(ConfigError, match="TRUSTED_PROXIES: 'proxy' is neither an address nor a network"):
        Settings.from_env({"TRUSTED_PROXIES": "10.0.0.1, proxy"})


@pytest.mark.parametrize(
    ("path", "host", "headers", "noted"),
    [
        ("/setup", "backend:9090", {}, "http://backend:9090"),  # Label Studio calls past the proxy
        ("/pt4al/setup", "backend:9090", {}, "http://backend:9090/pt4al"),
        ("/setup", "host", {}, "http://host/pt4al"),  # the proxy took it off, and left the host
        ("/setup", "backend:9090", {"X-Forwarded-Prefix": "/x"}, "http://backend:9090/x"),
        ("/setup", "host", {"X-Forwarded-Proto": "https"}, "https://host/pt4al"),
        ("/setup", "host", {"X-Forwarded-Proto": "javascript"}, "http://host/pt4al"),
    ],
)
def test_setup_notes_the_address_that_label_studio_has_called(make, path, host, headers, noted) -> None:
    app = make(dashboard_url="https://host/pt4al")
    body = {"project": "5.1700000000", "schema": CONFIG, "hostname": "http://studio", "access_token": "t"}
    assert app.test_client().post(path, json=body, headers={"Host": host, **headers}).status_code == 200
    assert app.extensions["pt4al"].store.projects.find(5).backend_url == noted


def test_checks_look_at_the_path_below_the_prefix(make) -> None:
    client = make(dashboard_url="https://host/pt4al", basic_auth_user="me", basic_auth_pass="s3cret").test_client()
    assert client.get("/pt4al/health").status_code == 200
    for path in (
        "/pt4al/projects",
        "/pt4al/health/../projects",
        "/pt4al/pt4al/health",
        "/pt4al/metrics",
        "/health/pt4al",
    ):
        assert client.get(path).status_code == 401, path
    assert client.post("/pt4al/webhook", json={}).status_code == 401
