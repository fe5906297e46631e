"""What is encoded and decoded by hand for Multicall3 is what its ABI says."""

from __future__ import annotations

from typing import Any

import pytest
from eth_abi.abi import encode
from hypothesis import given
from hypothesis import strategies as st

from coordinator.chain.abi import Abi
from coordinator.chain.evm.aggregator import aggregate, results_of
from coordinator.chain.networks import AGGREGATOR
from coordinator.chain.rpc.client import RpcRefusal

addresses = st.binary(min_size=20, max_size=20).map(lambda raw: "0x" + raw.hex())
data = st.binary(max_size=100)
results = st.lists(st.tuples(st.booleans(), data), max_size=5)


@given(calls=st.lists(st.tuples(addresses, data), max_size=5))
def test_the_calls_are_encoded_as_by_the_abi(calls: list[tuple[str, bytes]]) -> None:
    method, (request, at) = aggregate([(to, "0x" + raw.hex()) for to, raw in calls], "0x10")
    want = Abi("Aggregator").call("aggregate3", [(to, True, raw) for to, raw in calls])
    assert (method, request, at) == ("eth_call", {"to": AGGREGATOR, "data": want}, "0x10")


@given(told=results)
def test_results_are_read_as_by_the_abi(told: list[tuple[bool, bytes]]) -> None:
    answer = "0x" + encode(["(bool,bytes)[]"], [told]).hex()
    assert results_of(answer) == [_result(*one) for one in told]


def _result(succeeded: bool, raw: bytes) -> Any:
    text = "0x" + raw.hex()
    return text if succeeded else RpcRefusal(3, "execution reverted", text)


@given(told=results.filter(bool), cut=st.integers(1, 10_000))
def test_results_that_are_cut_off_are_refused(told: list[tuple[bool, bytes]], cut: int) -> None:
    digits = encode(["(bool,bytes)[]"], [[(ok, raw + b"\x01" * 32) for ok, raw in told]]).hex()
    # To the end of a value, its padding may be missing.
    with pytest.raises(ValueError, match=r"cut off|fit"):
        results_of("0x" + digits[: 2 * (cut % (len(digits) // 2 - 32))])


@pytest.mark.parametrize(
    "answer",
    [
        "0x",
        "0x" + "ff" * 96,
        f"0x{32:064x}{2**255:064x}",
        f"0x{32:064x}{1:064x}{2**200:064x}",
        f"0x{32:064x}{1:064x}{32:064x}{2:064x}{64:064x}{0:064x}",
    ],
    ids=["nothing", "places far away", "many", "a result far away", "neither true nor false"],
)
def test_what_is_no_list_of_results_is_refused(answer: str) -> None:
    with pytest.raises(ValueError, match=r"cut off|fit"):
        results_of(answer)
