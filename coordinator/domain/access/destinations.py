"""Addresses that may be told of events: public ones, and those that the settings allow."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, urlsplit

from coordinator.domain.errors import InvalidRequest

URL_LENGTH_MAX: Final = 2000
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Networks = tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")


class RefusedError(Exception):
    """A destination that nothing is sent to; the message says why."""


@dataclass(frozen=True, slots=True)
class Destination:
    """A checked URL, in parts."""

    secure: bool
    host: str
    port: int
    target: str

    @property
    def host_header(self) -> str:
        """Return the value of Host: the name, and the port where it is not the scheme's."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"


def networks(text: str) -> Networks:
    """Parse networks such as ``10.1.0.0/16, ::1``; ValueError names the first that is none."""
    found = []
    for one in filter(None, (part.strip() for part in text.split(","))):
        try:
            found.append(ipaddress.ip_network(one))
        except ValueError as fault:
            raise ValueError(f"must be networks such as 10.1.0.0/16: {fault}") from None
    return tuple(found)


def destination(url: str, allowed: Networks) -> Destination:
    """Return the parts of a target's URL; InvalidRequest when it can never be one.

    https, or http where loopback is allowed. No user, no fragment, no control characters.
    """
    parts = _split(url)
    host = (parts.hostname or "").rstrip(".")
    if parts.scheme not in ("https", "http") or not host:
        raise InvalidRequest("the url must be https://HOST/…")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise InvalidRequest("the url must have no user, password or fragment")
    secure = parts.scheme == "https"
    if not secure and not any(network.is_loopback for network in allowed):
        raise InvalidRequest("the url must be https")
    try:
        port, name = parts.port, _ascii(host)
    except ValueError:
        raise InvalidRequest("the url's host or port is none") from None
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    found = Destination(secure, name, port or (443 if secure else 80), target)
    try:
        check_addresses(found, [str(ipaddress.ip_address(name))], allowed)
    except ValueError:
        pass  # a name: it is resolved at each delivery
    except RefusedError as refused:
        raise InvalidRequest(f"the url's address is refused: {refused}") from None
    return found


def check_addresses(to: Destination, resolved: Iterable[str], allowed: Networks) -> list[str]:
    """Return the addresses to connect to; RefusedError unless all of them may be."""
    addresses = [ipaddress.ip_address(one.partition("%")[0]) for one in resolved]
    if not addresses:
        raise RefusedError(f"{to.host} has no address")
    for address in addresses:
        if not _may_be(address, allowed):
            raise RefusedError(f"{address} is not public")
        if not to.secure and not _plain(address).is_loopback:
            raise RefusedError(f"{address} is not loopback: http is for that alone")
    return [str(address) for address in addresses]


def _split(url: str) -> SplitResult:
    if len(url) > URL_LENGTH_MAX or not url.isascii() or not url.isprintable() or " " in url:
        raise InvalidRequest(f"the url must be at most {URL_LENGTH_MAX} printable ASCII characters")
    try:
        return urlsplit(url)
    except ValueError:
        raise InvalidRequest("the url is none") from None


def _ascii(host: str) -> str:
    if len(host) > 253 or any(not 0 < len(label) < 64 for label in host.split(".")):
        raise ValueError(host)
    if "%" in host:
        raise ValueError(host)
    return host


def _may_be(address: Address, allowed: Networks) -> bool:
    plain = _plain(address)
    if any(plain in network or address in network for network in allowed):
        return True
    odd = plain.is_multicast or plain.is_reserved or plain.is_unspecified or plain.is_link_local
    tunnel = isinstance(plain, ipaddress.IPv6Address) and (
        plain.sixtofour is not None
        or plain.teredo is not None
        or plain in _NAT64
        or plain.is_site_local
    )
    return plain.is_global and not odd and not tunnel


def _plain(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address stands for, or itself."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
