"""What the parts of the benchmark that pay make of what they measured."""

from __future__ import annotations

import os
from collections import Counter

import pytest

from tests.benchmarks.__main__ import PARTS, parse
from tests.benchmarks.idle import idle_figures, processor_seconds
from tests.benchmarks.idle import summary_of as idle_summary
from tests.benchmarks.proxy import Counts, Requests

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
    waited = {"threads": 0.005, "asyncio": 0.02}
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
