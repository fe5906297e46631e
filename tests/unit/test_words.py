"""What is decoded by hand is what the ABI's own decoder makes of it."""

from __future__ import annotations

from typing import Any

import pytest
from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError
from hypothesis import given
from hypothesis import strategies as st
from web3 import Web3

from coordinator.chain.abi import Abi, token_abi
from coordinator.chain.actp.abi import kernel_abi, vault_abi
from coordinator.chain.words import encoded, hex_digits, readers, split

TYPES = ("address", "bool", "bytes32", "uint8", "uint16", "uint64", "uint128", "uint256")
EVENTS = [
    (kernel_abi(), "TransactionCreated"),
    (kernel_abi(), "EscrowLinked"),
    (kernel_abi(), "StateTransitioned"),
    (kernel_abi(), "DisputeResolved"),
    (vault_abi(), "EscrowCreated"),
    (vault_abi(), "EscrowPayout"),
    (token_abi(), "Transfer"),
]
# Mostly small numbers, which fit narrow types, and any word beside them.
numbers = st.one_of(st.integers(0, 3), st.integers(0, 2**160 - 1), st.integers(0, 2**256 - 1))
words = numbers.map(lambda value: f"{value:064x}")


def by_the_abi(kind: str, word: str) -> Any:
    try:
        (value,) = decode([kind], bytes.fromhex(word))
    except DecodingError:
        return ValueError
    return "0x" + value.hex() if isinstance(value, bytes) else value


@given(kind=st.sampled_from(TYPES), word=words)
def test_a_word_is_read_or_refused_as_by_the_abi(kind: str, word: str) -> None:
    found = readers([kind])
    assert found is not None
    try:
        value = found[0](word)
    except ValueError:
        value = ValueError
    assert value == by_the_abi(kind, word)


@pytest.mark.parametrize("kind", ["bytes", "string", "uint256[]", "int256", "bytes4", "(uint8)"])
def test_other_types_are_left_to_the_abi(kind: str) -> None:
    assert readers(["uint256", kind]) is None


@pytest.mark.parametrize(("abi", "event"), EVENTS, ids=[event for _, event in EVENTS])
@given(data=st.data())
def test_a_log_is_read_or_refused_as_by_the_abi(abi: Abi, event: str, data: Any) -> None:
    (item,) = (i for i in abi.items if i["type"] == "event" and i["name"] == event)
    indexed = [i for i in item["inputs"] if i["indexed"]]
    told = {i["name"]: data.draw(words) for i in item["inputs"]}
    rest = [i for i in item["inputs"] if not i["indexed"]]
    log = {
        "topics": [abi.topic(event), *("0x" + told[i["name"]].upper() for i in indexed)],
        "data": "0x" + "".join(told[i["name"]] for i in rest),
    }
    want = {i["name"]: by_the_abi(i["type"], told[i["name"]]) for i in item["inputs"]}
    if ValueError in want.values():
        with pytest.raises(ValueError, match="0x"):
            abi.log(event, log)
    else:
        assert abi.log(event, log) == want


def test_a_struct_of_words_is_what_the_abi_makes_of_it() -> None:
    kernel = kernel_abi()
    (item,) = (i for i in kernel.items if i.get("name") == "getTransaction")
    kinds = [field["type"] for field in item["outputs"][0]["components"]]
    samples = {"address": "0x" + "ab" * 20, "bytes32": b"\x1f" * 32}
    values = [samples.get(kind, number) for number, kind in enumerate(kinds)]
    answer = "0x" + encode(kinds, values).hex()
    told = [
        "0x" + v.hex() if isinstance(v, bytes) else v
        for v in kernel.result("getTransaction", answer)
    ]
    assert kernel.struct("getTransaction", answer, range(len(told))) == told
    with pytest.raises(ValueError, match="words are due"):
        kernel.struct("getTransaction", answer[:-64], [0])


@given(word=words)
def test_a_call_with_one_word_is_encoded_as_by_the_abi(word: str) -> None:
    kernel, text = kernel_abi(), "0x" + word
    assert kernel.call("getTransaction", text) == kernel.call("getTransaction", bytes.fromhex(word))


@pytest.mark.parametrize("text", ["0x1", "0xgg", "0x_1", "0x+1"])
def test_what_is_not_hex_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="hex"):
        hex_digits(text)


def test_too_few_words_are_refused() -> None:
    assert split("ab" * 96, 3) == ["ab" * 32] * 3
    with pytest.raises(ValueError, match="3 words are due, and 2 came"):
        split("ab" * 95, 3)


@pytest.mark.parametrize("topics", [[], ["0x" + "00" * 31], ["0x" + "00" * 32] * 3])
def test_a_log_without_its_topics_is_refused(topics: list[str]) -> None:
    log = {"topics": [token_abi().topic("Transfer"), *topics], "data": "0x" + "00" * 32}
    with pytest.raises(Exception, match="due"):
        token_abi().log("Transfer", log)


CODEC = Web3().codec
ADDRESS = "0x71C7656EC7ab88b098defB751B7401B5f6d8976F"
values = st.one_of(
    words.map(lambda word: "0x" + word),
    words.map(lambda word: ("0x" + word).upper()),
    numbers,
    st.integers(-2, 2**257),
    st.booleans(),
    st.sampled_from(
        [ADDRESS, ADDRESS.lower(), ADDRESS.swapcase(), ADDRESS[:-1], "0x" + "0" * 40, b"", "", None]
    ),
)


@given(kind=st.sampled_from(TYPES), value=values)
def test_a_value_is_written_as_by_the_abi_or_left_to_it(kind: str, value: Any) -> None:
    found = encoded([kind], [value])
    if found is not None:
        assert found == CODEC.encode([kind], [value]).hex()


@given(number=numbers, word=words)
def test_the_values_of_a_purchase_are_written_here(number: int, word: str) -> None:
    kinds, given_ones = ("address", "uint256", "bytes32"), (ADDRESS, number, "0x" + word)
    assert encoded(kinds, given_ones) == encode(kinds, (ADDRESS, number, bytes.fromhex(word))).hex()


def test_a_mistyped_address_or_too_few_values_are_not_written() -> None:
    assert encoded(["address"], [ADDRESS.swapcase().replace("X", "x")]) is None
    assert encoded(["address", "uint256"], [ADDRESS]) is None
    assert encoded(["uint8"], [256]) is None
