"""Which network addresses images may come from besides the operator's own Label Studio."""

import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Self

from backend.errors import ImageError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

NAT64 = ip_network("64:ff9b::/96")
GLOBAL_UNICAST = ip_network("2000::/3")
"""All that is allotted to the public internet of IPv6: whatever lies outside is local, reserved or a way to IPv4."""

# IANA's registries of special addresses, and what clouds keep for their machines. ``is_global`` is asked besides, but
# differs from one patch release of Python to the next.
SPECIAL = tuple(
    ip_network(text)
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24"),
        *("192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
        *("224.0.0.0/4", "240.0.0.0/4"),
        "168.63.129.16/32",  # Azure's, at an address that looks public; Oracle's is in 192.0.0.0/24
        *("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
    )
)


@dataclass(frozen=True)
class AllowedAddresses:
    """What the operator has allowed besides the public internet."""

    names: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read host names, addresses and networks, separated by commas or spaces.

        Raises:
            ValueError: an entry is none of them; the text says which.
        """
        names, networks = set(), []
        for entry in text.replace(",", " ").split():
            try:
                networks.append(ip_network(entry.strip("[]"), strict=False))
            except ValueError:
                if "/" in entry or ":" in entry or "*" in entry:
                    raise ValueError(f"'{entry}' is neither a host name, an address nor a network") from None
                names.add(_plain(entry))
        return cls(frozenset(names), tuple(networks))

    def allows(self, host: str, address: Address) -> bool:
        """Tell whether ``host``, which resolved to ``address``, may be connected to."""
        if _plain(host) in self.names:
            return True
        inner = _embedded(address)
        if any(one in network for network in self.networks for one in (address, inner)):
            return True
        return _is_public(inner)

    def check(self, host: str, address: Address) -> None:
        """Refuse an address that is not allowed.

        Raises:
            ImageError: it is not; says how to allow it.
        """
        if not self.allows(host, address):
            hint = container_hint(host)
            raise ImageError(
                f"{host} is at a private or local address, which images may not come from unless the operator lists it "
                f"in ALLOWED_IMAGE_HOSTS{'. ' if hint else ''}{hint}"
            )


# "localhost" and what the hosts files of Linux distributions have beside it; RFC 6761 keeps all names below it here.
LOOPBACK_NAMES = frozenset({"localhost", "localhost.localdomain", "localhost4", "localhost6", "ip6-localhost"})

DOCKER_HOST = "host.docker.internal"  # Docker's name for the machine that a container runs on

ANYWHERE = AllowedAddresses(networks=(ip_network("0.0.0.0/0"), ip_network("::/0")))


def literal_address(host: str) -> Address | None:
    """Read an address in any form that a resolver takes for one, such as "127.1" or "0x7f000001"."""
    try:
        return ip_address(host)
    except ValueError:
        pass
    try:
        return ip_address(socket.inet_aton(host))
    except (OSError, ValueError):
        return None


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine by its own name for itself, which no proxy can know."""
    name = _plain(host)
    if name in LOOPBACK_NAMES or name.endswith(".localhost"):
        return True
    address = literal_address(name.strip("[]"))
    return address is not None and (_embedded(address).is_loopback or address.is_unspecified)


def container_hint(host: str) -> str:
    """Return what to know of a name that leads elsewhere from within a container, or an empty text."""
    if is_loopback(host):
        return (
            f"In a container, {host} is the container itself: give the address that the server has from there, such as "
            "http://host.docker.internal and its port"
        )
    if _plain(host) == DOCKER_HOST:
        return f"On Linux, a container has this name when it was started with --add-host={DOCKER_HOST}:host-gateway"
    return ""


def _embedded(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address stands for, else the address itself."""
    if isinstance(address, IPv4Address):
        return address
    if address in NAT64:
        return ip_address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None) or address


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and address not in GLOBAL_UNICAST:
        return False
    return address.is_global and not address.is_multicast and not any(address in one for one in SPECIAL)


def _plain(host: str) -> str:
    return host.lower().rstrip(".")
