"""Where images may come from: the policy, and the connection that keeps to it."""

import socket
from ipaddress import ip_address

import pytest
import requests
from support.studio_web import Web, png, reply

from backend.addresses import AllowedAddresses
from backend.errors import ImageError, ImageUnavailable
from backend.studio.project import LabelStudio
from backend.studio.ssrf import GuardedAdapter
from backend.studio.types import NamedToken

REFUSED = [
    "127.0.0.1", "127.8.9.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.100.100.200", "0.0.0.0",
    "224.0.0.1", "255.255.255.255", "168.63.129.16", "192.0.0.192", "::1", "::", "fe80::1", "fc00::1", "fd00:ec2::254",
    "ff02::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:7f00:1::",
    "64:ff9b:1::7f00:1", "64:ff9b:1:a9fe:a9:fe00::", "::127.0.0.1", "::ffff:0:127.0.0.1", "::ffff:0:93.184.215.14",
    "fec0::1", "5f00::1", "100::1", "100:0:0:1::1", "2001:db8::1", "3fff::1", "2001:2::1", "2001:0:7f00:1::",
    "2001:0:5db8:d70e:0:0:80ff:fffe", "192.0.2.1", "198.51.100.1", "203.0.113.1", "198.18.0.1", "192.88.99.1",
    "240.0.0.1",
]  # fmt: skip


@pytest.mark.parametrize("address", REFUSED)
def test_policy_refuses_addresses_that_are_not_public(address: str):
    assert not AllowedAddresses().allows("name.example", ip_address(address))


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f:cb07::1", "64:ff9b::5db8:d70e"])
def test_policy_allows_the_public_internet(address: str):
    assert AllowedAddresses().allows("name.example", ip_address(address))


def test_policy_allows_what_the_operator_lists_and_no_more():
    allowed = AllowedAddresses.parse("MinIO, nas.example. 10.0.0.0/8 ::1")
    assert allowed.allows("minio", ip_address("192.168.7.7"))
    assert allowed.allows("NAS.example", ip_address("127.0.0.1"))
    assert allowed.allows("any.example", ip_address("10.200.0.1"))
    assert allowed.allows("any.example", ip_address("::ffff:10.200.0.1"))
    assert allowed.allows("any.example", ip_address("::1"))
    assert not allowed.allows("sub.minio", ip_address("192.168.7.7"))
    assert not allowed.allows("any.example", ip_address("192.168.7.7"))


@pytest.mark.parametrize("text", ["10.0.0.0/33", "*.example.com", "http://minio:9000"])
def test_policy_names_an_entry_that_it_cannot_read(text: str):
    with pytest.raises(ValueError, match="neither a host name, an address nor a network"):
        AllowedAddresses.parse(text)


@pytest.fixture
def ours(web: Web) -> LabelStudio:
    """A client whose Label Studio is on a loopback address, with nothing allowed besides."""
    return LabelStudio(web.url, [NamedToken("token", "c0ffee")])


def port_of(web: Web) -> int:
    return web.server.server_address[1]


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "127.1", "0x7f000001", "2130706433", "0.0.0.0", "[::ffff:127.0.0.1]", "[::1]"]
)
def test_fetch_reaches_nobody_on_this_machine_where_label_studio_is_elsewhere(host: str, web: Web):
    elsewhere = LabelStudio("http://studio.example:8080", [NamedToken("token", "c0ffee")])
    with pytest.raises(ImageError, match="ALLOWED_IMAGE_HOSTS"):
        elsewhere.project(1).fetch(f"http://{host}:{port_of(web)}/a.png", 1)
    assert web.requests == []


@pytest.mark.parametrize("host", ["127.1", "127.0.0.2", "10.1.2.3", "169.254.169.254"])
def test_fetch_trusts_label_studios_machine_under_its_own_name_alone(host: str):
    beside = LabelStudio("http://127.0.0.1:9", [NamedToken("token", "c0ffee")])
    with pytest.raises(ImageError, match="ALLOWED_IMAGE_HOSTS"):
        beside.project(1).fetch(f"http://{host}:81/a.png", 1)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_fetch_reads_images_that_are_served_beside_label_studio(host: str, web: Web):
    web.answer = lambda handler, _: reply(handler, 200, png(), "image/png")
    beside = LabelStudio("http://127.0.0.1:9", [NamedToken("token", "c0ffee")])
    assert beside.project(1).fetch(f"http://{host}:{port_of(web)}/a.png", 1) == png()
    assert "Authorization" not in web.requests[0][2]


def test_fetch_reads_from_the_private_storage_that_label_studio_signs_for(web: Web):
    signed = f"http://127.0.0.2:{port_of(web)}/bucket/a.png?signature=x"
    asked = []

    def answer(handler, _):
        asked.append(handler.path)
        if "presign" in handler.path:
            reply(handler, 302, "", Location=signed)
        else:
            reply(handler, 200, png(), "image/png")

    web.answer = answer
    # It was tried, and not refused: the server listens at another address.
    with pytest.raises(ImageUnavailable, match=r"127\.0\.0\.2 did not answer"):
        LabelStudio(web.url, [NamedToken("token", "c0ffee")]).project(1).fetch("s3://bucket/a.png", 1)
    assert len(asked) == 1


def test_fetch_reads_from_label_studio_on_a_private_address(ours: LabelStudio, web: Web):
    web.answer = lambda handler, _: reply(handler, 200, png(), "image/png")
    assert ours.project(1).fetch("/data/upload/a.png", 1) == png()
    assert ours.project(1).fetch(f"{web.url}/data/upload/a.png", 1) == png()


@pytest.mark.parametrize(
    "target",
    ["http://169.254.169.254/latest/meta-data/", "http://localhost:1/", "http://[fe80::1]/", "//10.0.0.1/a.png"],
)
def test_fetch_follows_no_redirect_to_a_private_address(ours: LabelStudio, web: Web, target: str):
    web.answer = lambda handler, _: reply(handler, 302, "", Location=target)
    with pytest.raises(ImageError, match="private or local address"):
        ours.project(1).fetch("/data/upload/a.png", 1)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_fetch_says_what_localhost_is_in_a_container(host: str):
    studio = LabelStudio("http://label-studio:8080", [NamedToken("token", "c0ffee" * 7)])
    with pytest.raises(ImageError, match=r"in ALLOWED_IMAGE_HOSTS\. In a container, .* is the container itself"):
        studio.project(1).fetch(f"http://{host}:8081/1.jpg", 1)
    beside = LabelStudio(f"http://{host}:8080", [NamedToken("token", "c0ffee" * 7)])
    with pytest.raises(ImageUnavailable, match=r"did not answer \(ConnectionError\)\. In a container"):
        beside.project(1).fetch(f"http://{host}:1/1.jpg", 1)


def names(monkeypatch, *answers: str) -> list[str]:
    """Have names resolve to one address after the other; give the list of what was looked up."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def resolve(host, port, *given, **options):
        if host != "rebind.example":
            return real(host, port, *given, **options)
        asked.append(host)
        address = answers[min(len(asked), len(answers)) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in address.split()]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return asked


def test_fetch_refuses_a_public_name_of_a_private_address(ours: LabelStudio, monkeypatch):
    names(monkeypatch, "127.0.0.1")
    with pytest.raises(ImageError, match=r"rebind.example is at a private"):
        ours.project(1).fetch("http://rebind.example/a.png", 1)


def test_connection_goes_to_the_address_that_was_checked(web: Web, monkeypatch):
    # The first answer is allowed, any later one would not be: it is asked for once only.
    asked = names(monkeypatch, "127.0.0.2", "127.0.0.1")
    http = requests.Session()
    http.mount("http://", GuardedAdapter(AllowedAddresses.parse("127.0.0.2")))
    http.trust_env = False
    with pytest.raises(requests.ConnectionError):
        http.get(f"http://rebind.example:{port_of(web)}/a.png", timeout=30)  # the server listens on 127.0.0.1 alone
    assert web.requests == []
    assert asked == ["rebind.example"]
    http.close()


def test_connection_takes_the_allowed_one_of_several_addresses(web: Web, monkeypatch):
    names(monkeypatch, "10.255.255.1 127.0.0.1")
    http = requests.Session()
    http.mount("http://", GuardedAdapter(AllowedAddresses.parse("127.0.0.1")))
    http.trust_env = False
    assert http.get(f"http://rebind.example:{port_of(web)}/a.png", timeout=30).status_code == 200
    assert web.requests[0][2]["Host"] == f"rebind.example:{port_of(web)}"
    http.close()
