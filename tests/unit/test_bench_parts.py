"""What the parts of the benchmark that pay make of what they measured."""

from __future__ import annotations

import os
from collections import Counter

import pytest

from tests.benchmarks.__main__ import PARTS, parse
from tests.benchmarks.buyers import Bought
from tests.benchmarks.careful import Careful
from tests.benchmarks.figures import Target
from tests.benchmarks.floor import Floor
from tests.benchmarks.gas import plot as gas_plot
from tests.benchmarks.gas import summary_of as gas_summary
from tests.benchmarks.idle import idle_figures, processor_seconds
from tests.benchmarks.idle import summary_of as idle_summary
from tests.benchmarks.plots import draw
from tests.benchmarks.proxy import Counts, Requests
from tests.benchmarks.purchase import MANY, Measured, Round, Singles, of_floor, ratios_of
from tests.benchmarks.purchase import plot as purchase_plot
from tests.benchmarks.purchase import summary_of as purchase_summary
from tests.benchmarks.receipts import Paid
from tests.benchmarks.reconcile import summary_of as reconcile_summary

_SINGLE = b'{"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []}'
_BATCH = (
    b'[{"method":"eth_call","params":["0x00"]},{"method" : "eth_call"},{"method":"eth_chainId"}]'
)


def request(body: bytes, name: bytes = b"Content-Length") -> bytes:
    return b"POST / HTTP/1.1\r\nHost: x\r\n%s: %d\r\n\r\n%s" % (name, len(body), body)


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
def test_each_call_of_a_batch_counts_however_its_bytes_come(size: int) -> None:
    counts = Counts()
    sent = request(_SINGLE) + request(_BATCH, b"content-length") + request(_SINGLE)
    connection = Requests(counts)
    for start in range(0, len(sent), size):
        connection.feed(sent[start : start + size])
    assert counts == Counts(3, Counter(eth_chainId=3, eth_call=2))
    assert counts.calls == 5


def test_a_request_counts_when_it_is_whole() -> None:
    counts = Counts()
    connection = Requests(counts)
    connection.feed(request(_SINGLE)[:-1])
    assert counts.requests == counts.calls == 0
    connection.feed(b"}")
    assert counts.requests == counts.calls == 1


def test_counts_of_a_span_are_what_came_since() -> None:
    before = Counts(2, Counter(eth_call=3))
    after = Counts(7, Counter(eth_call=5, eth_getLogs=1))
    assert (after - before).as_dict() == {
        "requests": 5,
        "calls": 3,
        "calls_by_method": {"eth_call": 2, "eth_getLogs": 1},
    }


def test_a_day_of_nothing_is_as_many_spans_as_fit() -> None:
    found = idle_figures(Counts(20, Counter(eth_call=60)), 0.6, blocks=30, seconds=60)
    assert found["calls_per_day"] == 86_400
    assert found["requests_per_day"] == 28_800
    assert found["calls_per_block"] == 2
    assert found["cpu_of_a_core"] == 0.01


def test_of_two_databases_the_ratios_are_those_of_the_worse() -> None:
    figures = {"calls_per_day": 10_000, "cpu_of_a_core": 0.03, "signed_within_seconds": 0.5}
    other = {"calls_per_day": 30_000, "cpu_of_a_core": 0.01, "signed_within_seconds": 0.9}
    waited = {
        "threads": {"of_a_core": 0.005, "begin_ms_each": 1.5},
        "asyncio": {"of_a_core": 0.02, "begin_ms_each": 0.5},
    }
    summary = idle_summary({"sqlite": figures, "postgresql": other}, waited, 1_000)
    assert summary["calls_per_day"] == summary["ratios"]["calls_per_day"] == 30_000
    assert {name: found["met"] for name, found in summary["targets"].items()} == {
        "calls_per_day": False,
        "cpu_of_a_core": False,
        "signed_within_seconds": True,
        "waiters_cpu_of_a_core": True,
        "waiters_cpu_of_a_core_asyncio": False,
    }


def test_a_processs_own_processor_time_is_what_it_says_itself() -> None:
    before, told = processor_seconds(os.getpid()), sum(os.times()[:2])
    assert told - 0.5 < before <= told + 0.5


@pytest.mark.parametrize("part", PARTS)
def test_each_part_can_be_asked_for_json(part: str) -> None:
    assert parse([part, "--json"]).json is True
    assert parse([part]).json is False


def bought(seconds: float, calls: int = 400, funded: int = MANY) -> Bought:
    return Bought(MANY, funded, seconds, 1.0, 2, 10, calls)


def a_round(*, floor: float, signing: float, waiting: float, asyncio: float = 4.0) -> Round:
    ways = {
        "not_waiting": bought(4.0, 500),
        "threads": bought(waiting, 600),
        "asyncio": bought(asyncio, 900),
    }
    return Round(Floor(MANY, 9.0, signing, floor, 1), ways)


SINGLES = Singles([1.0, 2.0, 3.0], [20, 30, 90], [2, 3, 9])


def test_the_share_of_the_floor_is_of_its_signing_too_and_of_the_slower_way_to_wait() -> None:
    assert of_floor(a_round(floor=2.5, signing=0.5, waiting=4.0, asyncio=6.0)) == 0.5
    assert of_floor(a_round(floor=2.5, signing=0.5, waiting=3.0, asyncio=2.0)) == 1.0


def test_ratios_of_purchases_are_medians_of_those_within_a_round() -> None:
    rounds = [
        a_round(floor=2.0, signing=0.2, waiting=4.4),
        a_round(floor=2.0, signing=2.0, waiting=8.0),
        a_round(floor=2.0, signing=0.2, waiting=44.0),
    ]
    assert ratios_of(Measured(SINGLES, {MANY: rounds})) == {
        "waiting_over_not_waiting": 2.0,
        "waiting_over_not_waiting_asyncio": 1.0,
        "of_floor_200": 0.5,
        "calls_per_purchase_200": 4.5,
        "calls_single": 30.0,
        "p50_over_block": 1.0,
        "p50_minus_block_seconds": 0.0,
    }


def test_what_only_a_full_run_measures_has_ratios_of_its_own() -> None:
    one = a_round(floor=2.0, signing=0.0, waiting=4.0)
    one.careful = Careful("a peer", MANY, 10.0, 5.0)
    found = ratios_of(Measured(SINGLES, {MANY: [one], 1_000: [one]}))
    assert found["of_floor_1000"] == 0.5
    assert found["careful_over_ours_200"] == 2.5


def test_purchases_that_were_not_funded_in_time_are_told() -> None:
    late = a_round(floor=2.0, signing=0.0, waiting=45.0)
    late.ways["threads"] = bought(45.0, funded=MANY - 7)
    summary = purchase_summary(Measured(SINGLES, {MANY: [late]}), public=False)
    assert summary["unfunded"] == 7
    assert not summary["targets"]["of_floor_200"]["met"]
    assert summary["targets"]["p50_minus_block_seconds"]["met"]


def test_a_share_that_should_be_reached_is_met_by_the_bound_itself() -> None:
    assert Target(0.7, least=True).met(0.7)
    assert not Target(0.7, least=True).met(0.699)
    assert str(Target(0.7, least=True)) == ">= 0.7"


def test_gas_of_a_purchase_is_all_that_the_account_paid_for() -> None:
    ours = [
        Paid("approve", 50, 500),
        Paid("create", 300, 3000),
        Paid("link", 250, 0),
    ]
    floor = [Paid("create", 280, 0), Paid("link", 220, 0)]
    summary = gas_summary({1: (ours, floor), 2: (ours, floor * 2)}, {})
    assert summary["ratios"] == {"gas_over_floor_1": 1.2, "gas_over_floor_2": 0.6}
    assert summary["purchases"]["2"]["gas_each"] == 300
    assert summary["purchases"]["1"]["eth_each"] == 3500 / 10**18
    assert summary["gas_by_step"]["approve"] == {"transactions": 2, "mean": 50, "most": 50}


def test_gas_of_a_safes_batch_is_beside_the_wallets_and_the_floors_of_as_many() -> None:
    def of(safe: int) -> dict[str, list[Paid]]:
        return {
            "wallet": [Paid("create", 2_600_000, 0), Paid("link", 2_400_000, 0)],
            "safe": [Paid("batch", safe, 0)],
            "floor": [Paid("create", 4_000_000, 0)],
        }

    summary = gas_summary({}, {10: of(5_200_000), 25: of(13_000_025)})
    assert summary["ratios"] == {
        "safe_gas_each_10": 520_000,
        "safe_over_wallet_10": 1.04,
        "safe_over_floor_10": 1.3,
        "safe_gas_each_25": 520_001,
        "safe_over_wallet_25": 2.6,
        "safe_over_floor_25": 3.25,
    }
    targets = summary["targets"]
    assert {name: found["met"] for name, found in targets.items()} == {
        "safe_gas_each_10": True,
        "safe_gas_each_25": False,
    }
    assert summary["steady"]["10"]["wallet"] == {"gas_each": 500_000, "transactions": 2}
    assert gas_plot(summary).values["safe"] == {"10, later": 520_000, "25, later": 520_001}


def test_reconciling_is_compared_with_the_bare_loop_of_the_same_run() -> None:
    def reading(seconds: float, **more: float) -> dict[str, float]:
        known = {"seconds": seconds, "processor": seconds / 2, "memory_mb": 120.5}
        return {**known, "calls": 5_000, **more}

    more = reading(0.5, from_block=101, to_block=105)
    readings = {
        "bare": reading(2.0),
        "rebuild": reading(8.0),
        "full": reading(4.0),
        "incremental": more,
    }
    summary = reconcile_summary(10_000, readings)
    assert summary["ratios"] == {
        "full_of_bare": 0.5,
        "processor_full_of_bare": 0.5,
        "rebuild_of_bare": 0.25,
        "memory_mb": 120.5,
        "incremental_over_full": 0.125,
        "incremental_calls_over_full": 1.0,
        "new_blocks_over_incremental_blocks": 1.0,
        "calls_per_escrow": 0.5,
    }
    assert all(found["met"] for found in summary["targets"].values())
    more["from_block"] = 1
    again = reconcile_summary(10_000, readings)
    assert not again["targets"]["new_blocks_over_incremental_blocks"]["met"]


def test_every_part_that_is_drawn_has_its_bars_and_no_script() -> None:
    rounds = {MANY: [a_round(floor=2.0, signing=0.5, waiting=4.0)]}
    summary = purchase_summary(Measured(SINGLES, rounds), public=False)
    chart = purchase_plot(summary)
    assert chart.labels == ["200"]
    assert chart.values["floor, signing"] == {"200": 2.5}
    assert chart.values["agirails, careful"] == {"200": None}
    drawn = draw(chart)
    assert drawn == draw(chart)
    assert "script" not in drawn and "not waiting" in drawn
