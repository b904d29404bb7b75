"""Certificates that are not trusted, on real connections."""

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from support.studio_web import Web, png, reply, serving

from backend.addresses import AllowedAddresses
from backend.config import Settings
from backend.errors import ConfigError, ImageUnavailable, StudioUnreachable
from backend.studio import session as session_module
from backend.studio.availability import availability
from backend.studio.project import LabelStudio
from backend.studio.types import NamedToken

IMAGE = png(5)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "BACKOFF_S", 0.01)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[tuple[Web, Path]]:
    """A server of images and JSON with a certificate of its own, and that certificate."""
    with serving() as web:
        yield web, encrypt(web, tmp_path)


def encrypt(web: Web, folder: Path, ends_in_days: int = 2, address: str = "127.0.0.1") -> Path:
    """Have a server speak https; return its certificate, which it has issued itself for ``address``."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=3))
        .not_valid_after(now + timedelta(days=ends_in_days))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate, private = folder / "certificate.pem", folder / "key.pem"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, *plain))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, private)
    # A client that goes away at once must not hold up the thread that accepts the next one.
    web.server.socket.settimeout(1.0)
    web.server.socket = context.wrap_socket(web.server.socket, server_side=True, do_handshake_on_connect=False)
    web.url = web.url.replace("http://", "https://")
    web.answer = lambda handler, _: reply(handler, 200, IMAGE if "png" in handler.path else b'{"a": 1}')
    return certificate


def client(url: str) -> LabelStudio:
    availability.cache_clear()
    return LabelStudio(url, [NamedToken("token", "c0ffee" * 7)], AllowedAddresses.parse("127.0.0.1"))


def refusal_of(url: str) -> str:
    with pytest.raises(StudioUnreachable) as caught:
        client(url).session.get("/api/x")
    return str(caught.value)


def test_a_certificate_of_ones_own_is_trusted_once_it_is_named(
    secure: tuple[Web, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    web, certificate = secure
    said = refusal_of(web.url)
    assert said.startswith(f"the certificate of {web.url} is not accepted (self-signed certificate): set REQUESTS_CA_")
    with pytest.raises(ImageUnavailable, match=r"of 127\.0\.0\.1 is not accepted \(self-signed.*REQUESTS_CA_BUNDLE"):
        client("http://studio.invalid").project(1).fetch(f"{web.url}/1.png", 1)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    assert client(web.url).session.get("/api/x") == {"a": 1}
    assert client(web.url).project(1).fetch("/data/upload/1/1.png", 1) == IMAGE
    assert client("http://studio.invalid").project(1).fetch(f"{web.url}/1.png", 1) == IMAGE


@pytest.mark.parametrize(
    ("made", "says"),
    [
        ({"ends_in_days": -1}, "(certificate has expired): have it renewed"),
        ({"address": "127.0.0.2"}, "use the name that it was issued for"),
    ],
)
def test_a_certificate_that_is_wrong_is_not_to_be_trusted(
    made: dict[str, str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving() as web:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(encrypt(web, tmp_path, **made)))
        assert says in refusal_of(web.url)


def test_a_port_without_https_is_told_from_a_wrong_certificate(web: Web) -> None:
    said = refusal_of(web.url.replace("http://", "https://"))
    assert "does not speak https at this port: write http://" in said
    assert "certificate" not in said


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_a_process_does_not_start_on_certificates_that_cannot_be_read(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"^{name}: .*nowhere.pem has to be a file of certificates.*not there"):
        Settings.from_env({name: str(tmp_path / "nowhere.pem")})
    (tmp_path / "text.pem").write_text("no certificate")
    with pytest.raises(ConfigError, match=f"^{name}: .*text.pem .* holds no certificates"):
        Settings.from_env({name: str(tmp_path / "text.pem")})
    Settings.from_env({name: str(tmp_path)})  # a folder of them
