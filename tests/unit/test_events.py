"""The table of public events: documented whole, and what it tells of a row."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import coordinator
from coordinator.domain.errors import InvalidRequest
from coordinator.domain.events.event import EventFilter, PublicEvent, event_types
from coordinator.domain.events.table import TABLE, TYPES

PAGE = Path(coordinator.__file__).parents[1] / "docs" / "events.md"


def test_the_page_lists_exactly_the_events_that_are_told() -> None:
    table = PAGE.read_text().partition("| event | tells | fields |")[2].partition("\n\n")[0]
    names = "".join(row.split("|")[1] for row in table.splitlines() if row)
    assert sorted(re.findall("`([^`]+)`", names)) == list(TYPES)


def test_only_types_that_there_are_can_be_asked_for() -> None:
    assert event_types(["paused", "purchase.funded"]) == {"paused", "purchase.funded"}
    with pytest.raises(InvalidRequest, match="purchase_funded"):
        event_types(["purchase_funded"])


def test_what_is_not_known_is_left_out_and_the_agent_is_the_owner() -> None:
    event = PublicEvent(7, "purchase.funded", 0, "me", "evt_1", {"tx_hash": "0x1", "reason": None})
    assert json.loads(event.json) == {
        "id": 7,
        "type": "purchase.funded",
        "at": "1970-01-01T00:00:00Z",
        "agent": "me",
        "tx_hash": "0x1",
    }


def test_a_filter_of_an_agent_passes_nothing_that_belongs_to_nobody() -> None:
    of_all = PublicEvent(7, "paused", 0, None, "evt_1", {})
    assert EventFilter().wants(of_all)
    assert not EventFilter(agent="me").wants(of_all)
    assert not EventFilter(types=frozenset({"unpaused"})).wants(of_all)


def test_what_an_emergency_takes_from_others_is_not_told_as_the_askers() -> None:
    told = TABLE["limit_granted"]
    assert told.left_out({"amount": -5})
    assert not told.left_out({"amount": 5})
    assert told.owned_by("ovl_1", {"of": "inc_1"}) == "inc_1"
