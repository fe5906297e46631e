"""Nothing that is printed acts on a terminal, forges a line, or tells an endpoint's key."""

from __future__ import annotations

import logging
import re

import pytest

from coordinator.chain.rpc.redaction import Redaction
from coordinator.cli.command import set_up_logging
from coordinator.config import load_settings
from coordinator.domain.errors import ConfigurationError
from coordinator.domain.plain_text import visible
from coordinator.ledger.store.opening import open_database

NASTY = {
    "escape": "\x1b]0;owned\x07",
    "clear": "\x1b[2J\x1b[H",
    "C1": "\x9b31m",
    "bidi": "\u202egnp.exe",
    "isolate": "\u2066x",
    "zero width": "a\u200bb",
    "line separator": "a\u2028b",
    "carriage return": "real\rforged",
    "bell": "\a",
    "null": "\0",
    "surrogate": "\ud800",
}


@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY)
def test_what_can_not_be_seen_is_written_out(text: str) -> None:
    shown = visible(text)
    assert shown.isprintable()
    assert visible(shown) == shown


def test_a_line_feed_stays_only_where_lines_are_meant() -> None:
    assert visible("a\nb") == "a\\x0ab"
    assert visible("a\nb", lines=True) == "a\nb"


@pytest.mark.parametrize("text", ["plain", "25.00 USDC", "Zoë – 東京", ""])
def test_what_can_be_seen_stays(text: str) -> None:
    assert visible(text) == text


def test_a_log_line_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    before = logging.getLogger().handlers[:]
    try:
        set_up_logging("INFO")
        logging.getLogger("coordinator").warning("said=%s", "x\n2026 ERROR forged\x1b[2J")
    finally:
        logging.getLogger().handlers[:] = before
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "\x1b" not in err
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}Z WARNING ", err)


URLS = {
    "https://rpc.example/v2/0123456789abcdefKEY": "0123456789abcdefKEY",
    "https://user:s3cr%2Fet@rpc.example/": "s3cr/et",
    "https://user:s3cret-pass@rpc.example/x": "s3cret-pass",
    "https://rpc.example/?apikey=AKIA0042&x=1": "AKIA0042",
}


@pytest.mark.parametrize(("url", "secret"), URLS.items())
def test_what_an_endpoint_quotes_of_its_url_is_taken_out(url: str, secret: str) -> None:
    heard = Redaction([url])
    for quoted in (url, f"{url} refused\x1b[2J\nnext", f"key {secret} is over its limit"):
        shown = heard({"message": quoted})
        assert secret not in shown
        assert shown.isprintable()


def test_very_long_words_are_cut() -> None:
    assert len(Redaction(["https://rpc.example"])("x" * 10_000)) == 301


@pytest.mark.parametrize(
    "url",
    ["http://user:p@ss@127.0.0.1:1", "http://user:pa/ss@127.0.0.1:1", "http://u:pa?ss@127.0.0.1:1"],
)
def test_a_raw_separator_in_an_endpoint_s_password_is_told_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load_settings({"COORDINATOR_RPC_URL": url})
    assert "COORDINATOR_RPC_URL" in str(refused.value)
    assert "ss" not in str(refused.value).replace("password", "")


@pytest.mark.parametrize("url", ["postgresql://u:p@ss@h/db", "postgresql://u:pa/ss@h/db"])
def test_a_raw_separator_in_the_database_s_password_is_told_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        open_database(url)
    assert "ss@" not in str(refused.value)
    assert "%40" in str(refused.value)
