"""Hosts of the URLs that are paid for."""

from __future__ import annotations

from typing import Final
from urllib.parse import SplitResult, urlsplit

_PORTS: Final = {"http": 80, "https": 443}
_URL_LENGTH_MAX: Final = 2000


def host_of(url: str) -> str | None:
    """Return the host in lower case, with its port unless it is the scheme's; None for no URL."""
    parts = _parts(url)
    if parts is None or parts.hostname is None:
        return None
    port = parts.port
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return name if port in (None, _PORTS[parts.scheme]) else f"{name}:{port}"


def shown_url(url: str) -> str:
    """Return the URL without what may be secret: user, password, query and fragment."""
    parts, host = _parts(url), host_of(url)
    assert parts is not None and host is not None
    return f"{parts.scheme}://{host}{parts.path}"


def _parts(url: str) -> SplitResult | None:
    if len(url) > _URL_LENGTH_MAX or not url.isascii() or not url.isprintable():
        return None
    if " " in url or "\\" in url:
        # Some clients read a backslash as a slash, and go to another host.
        return None
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises for a port that is none
    except ValueError:
        return None
    return parts if parts.scheme in _PORTS and parts.hostname else None
