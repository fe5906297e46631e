"""Targets of notices: URLs that hold tokens, and the part that may be shown and stored."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(\S+)")
_NAMED: Final = re.compile(r"env:([A-Za-z_][A-Za-z0-9_]*)", re.ASCII)
_HOST: Final = re.compile(r"[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]", re.ASCII)
# Elsewhere a token stands where the host would: slack://TOKEN/…, tgram://TOKEN/….
_WITH_HOST: Final = frozenset(
    f"{name}{s}" for name in ("json", "xml", "form", "http", "mailto", "gotify") for s in ("", "s")
)
_HIDDEN: Final = "…"


def notify_url(value: object) -> str:
    """Check a URL, or ``env:NAME`` of one in the environment; ValueError otherwise."""
    if isinstance(value, str) and (_URL.fullmatch(value) or _NAMED.fullmatch(value)):
        return value
    raise ValueError('write a URL such as "json://127.0.0.1:8080", or "env:NAME" of one')


def shown(url: str) -> str:
    """Return the scheme, and the host if it holds no token. Idempotent.

    ``env:NAME`` is shown as it is.
    """
    found = _URL.fullmatch(url)
    if found is None:
        return url if _NAMED.fullmatch(url) else _HIDDEN
    scheme, rest = found[1].lower(), found[2]
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    host = re.sub(r":[0-9]*$", "", authority.rpartition("@")[2])
    # An @ behind the first slash: a password with a slash, of which the host would be a part.
    plain = scheme in _WITH_HOST and "@" not in rest[len(authority) :]
    return f"{scheme}://{host if plain and _HOST.fullmatch(host) else _HIDDEN}"


def whole_urls(
    in_force: Sequence[str], known: Iterable[str], named: Callable[[str], str | None]
) -> Iterator[tuple[str, str | None]]:
    """Pair each target as it is shown with its URL; None where this process lacks it.

    The database keeps only what may be shown; ``known`` are the whole URLs of this process's own
    policy file, and ``named`` reads the environment.
    """
    left = list(known)
    for target in in_force:
        if name := _NAMED.fullmatch(target):
            yield target, named(name[1])
            continue
        url = next((url for url in left if shown(url) == shown(target)), None)
        if url is not None:
            left.remove(url)
        yield shown(target), url
