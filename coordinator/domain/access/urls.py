"""URLs of endpoints, and of the service itself."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


def call_urls(text: str) -> tuple[str, ...]:
    """Return the URLs to send calls to, of some that are comma separated.

    Where there are WebSocket ones alone, it is the same addresses over HTTP.
    """
    urls = split_urls(text)
    asked = tuple(url for url in urls if not is_ws(url))
    return asked or tuple("http" + url[len("ws") :] for url in urls)


def split_urls(text: str) -> tuple[str, ...]:
    """Return comma separated URLs."""
    return tuple(url.strip() for url in text.split(",") if url.strip())


def is_ws(url: str) -> bool:
    """Return whether a URL is one of a WebSocket."""
    return urlsplit(url).scheme in ("ws", "wss")


def public_origin(url: str) -> str:
    """Return the origin that a public URL names, in its normal form; ValueError otherwise.

    Keys cross the network to it, so anything but this machine must be https.
    """
    parts = urlsplit(url.strip())
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or parts.path not in ("", "/")
        or "@" in parts.netloc
        or parts.query
        or parts.fragment
    ):
        raise ValueError("must be an origin such as https://pay.example.org, without a path")
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise ValueError("must begin with https://: agents send their keys there")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    usual = {"http": 80, "https": 443}[parts.scheme]
    port = "" if parts.port in (None, usual) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"
