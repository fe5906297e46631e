"""Redaction of endpoints' messages: no key of a URL is shown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from coordinator.domain.plain_text import visible

_SHOWN_MAX: Final = 300
# Shorter parts of a path are names such as "rpc" or "v2".
_KEY_LENGTH_MIN: Final = 8


class Redaction:
    """Takes keys of these URLs out of text, and makes the rest safe to print and to log."""

    def __init__(self, urls: Iterable[str]) -> None:
        found = {secret for url in urls for secret in _secrets(url)}
        # The longest first: a part of a secret must not survive within it.
        self._secrets = sorted(found, key=len, reverse=True)

    def __call__(self, text: object) -> str:
        """One line of at most 300 characters."""
        plain = str(text)
        for secret in self._secrets:
            plain = plain.replace(secret, "…")
        shown = visible(plain)
        return shown if len(shown) <= _SHOWN_MAX else shown[:_SHOWN_MAX] + "…"


def _secrets(url: str) -> Iterator[str]:
    parts = urlsplit(url)
    user, _, _ = parts.netloc.rpartition("@")
    found = [*user.split(":", 1), user, parts.query, *(v for _, v in parse_qsl(parts.query))]
    found += [part for part in parts.path.split("/") if len(part) >= _KEY_LENGTH_MIN]
    for secret in found:
        if secret:
            yield secret
            yield unquote(secret)
