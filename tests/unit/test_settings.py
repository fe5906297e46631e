"""Settings of the service: its public origin, and settings that are read from files."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.config import load_settings
from coordinator.domain.errors import ConfigurationError


@pytest.mark.parametrize(
    ("given", "origin"),
    [
        ("https://pay.example.org", "https://pay.example.org"),
        ("https://Pay.Example.org:443/", "https://pay.example.org"),
        ("https://pay.example.org:8443", "https://pay.example.org:8443"),
        ("http://127.0.0.1:8402", "http://127.0.0.1:8402"),
        ("http://[::1]:8402", "http://[::1]:8402"),
    ],
)
def test_a_public_url_is_kept_as_its_origin(given: str, origin: str) -> None:
    assert load_settings({"COORDINATOR_PUBLIC_URL": given}).public_url == origin


@pytest.mark.parametrize(
    "given",
    [
        "pay.example.org",
        "http://pay.example.org",
        "ftp://pay.example.org",
        "https://pay.example.org/v1",
        "https://user:word@pay.example.org",
        "https://pay.example.org?x=1",
        "https://",
        "https://pay.example.org:notaport",
    ],
)
def test_what_is_no_public_origin_is_refused(given: str) -> None:
    with pytest.raises(ConfigurationError, match="COORDINATOR_PUBLIC_URL"):
        load_settings({"COORDINATOR_PUBLIC_URL": given})


def test_urls_that_hold_secrets_may_be_files(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text("postgresql://me:word@host/books\n")
    found = load_settings({"COORDINATOR_DATABASE_URL_FILE": str(file)})
    assert found.database_url == "postgresql://me:word@host/books"
    given = {"COORDINATOR_DATABASE_URL": "sqlite:///x.db"}
    assert load_settings({"COORDINATOR_DATABASE_URL_FILE": str(file), **given}).database_url == (
        "sqlite:///x.db"
    )
    with pytest.raises(ConfigurationError, match="COORDINATOR_RPC_URL_FILE can't be read"):
        load_settings({"COORDINATOR_RPC_URL_FILE": str(tmp_path / "missing")})


@pytest.mark.parametrize(
    ("text", "asked", "announcing"),
    [
        ("http://one", ("http://one",), ()),
        ("ws://one:8545/key", ("http://one:8545/key",), ("ws://one:8545/key",)),
        (
            "wss://u:p@one, WS://two",
            ("https://u:p@one", "http://two"),
            ("wss://u:p@one", "WS://two"),
        ),
        ("wss://one/ws, https://two", ("https://two",), ("wss://one/ws",)),
        ("", (), ()),
    ],
)
def test_calls_go_over_http_and_websockets_announce(
    text: str, asked: tuple[str, ...], announcing: tuple[str, ...]
) -> None:
    settings = load_settings({"COORDINATOR_RPC_URL": text})
    assert (settings.rpc_urls, settings.ws_urls) == (asked, announcing)
