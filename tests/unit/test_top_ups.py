"""How much fills a float, and which of what was signed still counts."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from coordinator.domain.audit import AuditRow
from coordinator.domain.usdc import Usdc
from coordinator.domain.x402.top_ups import WINDOW_SECONDS, Float, Headroom, missing
from coordinator.executor.checkpoint_state import CheckpointState
from coordinator.executor.signed_rules import SignedRules

TERMS = {"below": Usdc("5"), "to": Usdc("10")}


@pytest.mark.parametrize(
    ("usdc", "held", "wanted"),
    [("5", "0", None), ("4.999999", "0", "5.000001"), ("9", "4.5", "5.5"), ("1", "3", "12")],
)
def test_the_float_is_filled_from_its_mark_to_its_top(
    usdc: str, held: str, wanted: str | None
) -> None:
    found = missing(Float(Usdc(usdc), Usdc(held)), **TERMS)
    assert found == (None if wanted is None else Usdc(wanted))


def test_without_a_mark_or_a_top_people_fill_it() -> None:
    empty = Float(Usdc("0"), Usdc("0"))
    assert missing(empty, below=None, to=None) is None


@pytest.mark.parametrize(
    ("treasury", "window", "sent"),
    [
        ("100", "100", "8"),
        ("3", "100", "3"),
        ("100", "3", "3"),
        ("0.999999", "100", None),
        ("100", "0", None),
        ("0", "100", None),
    ],
)
def test_what_is_sent_is_worth_its_gas(treasury: str, window: str, sent: str | None) -> None:
    headroom = Headroom(Usdc(treasury), Usdc(window))
    assert headroom.of(Usdc("8")) == (None if sent is None else Usdc(sent))
    assert (headroom.refused(Usdc("8")) is None) is (sent == "8")


def test_a_little_that_fills_the_float_is_sent() -> None:
    assert Headroom(Usdc("100"), Usdc("100")).of(Usdc("0.20")) == Usdc("0.20")


def signed(seq: int, at: int, **body: Any) -> AuditRow:
    text = json.dumps({"nonce": 1, "signer": "0xbb", **body})
    return AuditRow(seq, at, "top_up_signed", "top_1", text, "0x", "worker", "0x")


def test_what_was_signed_counts_for_just_a_day_and_once() -> None:
    rules, at = SignedRules(cast("Any", None), wallet="0xaa"), 1_000_000
    known = CheckpointState()
    known.take(signed(1, at, usdc=8))
    # Dearer bytes of the same transaction.
    known.take(signed(2, at + 5))
    known.take(signed(3, at + 10, usdc=3))
    assert [known.seen(rules, at + WINDOW_SECONDS + after).topped for after in (-1, 0, 9, 10)] == [
        11,
        3,
        3,
        0,
    ]
    assert (known.spent, known.signed_total) == ([], 0)
    assert known.seen(rules, at).wallet == "0xaa"
