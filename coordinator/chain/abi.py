"""ABI coding of the contracts' calls and logs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError
from eth_utils.abi import event_abi_to_log_topic, function_abi_to_4byte_selector
from web3 import Web3

from coordinator.chain.networks import packaged
from coordinator.chain.rpc.client import RpcRefusal
from coordinator.chain.words import WORD_DIGITS, Reader, encoded, hex_digits, readers, split
from coordinator.domain.errors import ChainUnavailable

_ERROR_STRING = "0x08c379a0"
_PANIC = "0x4e487b71"
_HEX_PREFIX = 2
_WORD_LENGTH = 66
_NUMBER_MAX = 2**63 - 1
# JSON-RPC's code for a reverted call, since geth 1.9.15.
REVERTED = 3


class Abi:
    """One contract's ABI: encodes calls, decodes results and logs."""

    def __init__(self, name: str) -> None:
        self.items: list[dict[str, Any]] = packaged("abi", f"{name}.json")["abi"]
        self._codec = Web3().codec
        self._topics: dict[str, str] = {}
        self._signatures: dict[str, tuple[str, list[str]]] = {}
        self._layouts: dict[str, _Layout | None] = {}
        self._structs: dict[str, tuple[Reader, ...]] = {}
        functions = [i for i in self.items if i["type"] == "function"]
        # Several of one name are known by their whole signatures alone.
        names = Counter(i["name"] for i in functions)
        self._functions = {
            i["name"] if names[i["name"]] == 1 else signature_of(i): i for i in functions
        }
        self._events = {i["name"]: i for i in self.items if i["type"] == "event"}
        self._errors = {
            "0x" + function_abi_to_4byte_selector(i).hex(): i["name"]
            for i in self.items
            if i["type"] == "error"
        }

    def call(self, function: str, *args: Any) -> str:
        """The call data, as hex; of overloaded functions ``function`` is the whole signature."""
        selector, types = self._signature(function)
        words = encoded(types, args)
        if words is not None:
            return selector + words
        return selector + self._codec.encode(types, args).hex()

    def _signature(self, function: str) -> tuple[str, list[str]]:
        # Working a function out anew for every call takes a millisecond.
        if function not in self._signatures:
            found = self._functions[function]
            selector = "0x" + function_abi_to_4byte_selector(found).hex()
            self._signatures[function] = (selector, [_type(item) for item in found["inputs"]])
        return self._signatures[function]

    def result(self, function: str, data: str) -> Any:
        """The decoded result: one value, or a tuple of several; structs are tuples."""
        types = self._outputs(function)
        values = decode(types, bytes.fromhex(data.removeprefix("0x")))
        return values[0] if len(values) == 1 else values

    def struct(self, function: str, data: str, places: Sequence[int]) -> list[Any]:
        """The fields at ``places`` of a result that is one struct of words; 32 bytes as hex."""
        if function not in self._structs:
            (kind,) = self._outputs(function)
            found = readers(kind.strip("()").split(","))
            assert found is not None
            self._structs[function] = found
        fields = self._structs[function]
        words = split(hex_digits(data), len(fields))
        return [fields[place](words[place]) for place in places]

    def _outputs(self, function: str) -> list[str]:
        return [_type(output) for output in self._functions[function]["outputs"]]

    def topic(self, event: str) -> str:
        if event not in self._topics:
            self._topics[event] = "0x" + event_abi_to_log_topic(self._events[event]).hex()
        return self._topics[event]

    def log(self, event: str, log: dict[str, Any]) -> dict[str, Any]:
        """The arguments of a log of ``event``; 32-byte values and addresses as hex."""
        if event not in self._layouts:
            self._layouts[event] = _layout(self._events[event]["inputs"])
        layout = self._layouts[event]
        return layout.read(log) if layout is not None else self._any_log(event, log)

    def _any_log(self, event: str, log: dict[str, Any]) -> dict[str, Any]:
        inputs = self._events[event]["inputs"]
        indexed = [i for i in inputs if i["indexed"]]
        plain = [i for i in inputs if not i["indexed"]]
        data = bytes.fromhex(log["data"].removeprefix("0x"))
        values = dict(
            zip((i["name"] for i in plain), decode([i["type"] for i in plain], data), strict=True)
        )
        for item, topic in zip(indexed, log["topics"][1:], strict=True):
            (values[item["name"]],) = decode([item["type"]], bytes.fromhex(topic[2:]))
        return {
            name: "0x" + value.hex() if isinstance(value, bytes) else value
            for name, value in values.items()
        }

    def error_name(self, selector: str) -> str | None:
        return self._errors.get(selector)


@dataclass(frozen=True, slots=True)
class _Layout:
    """The arguments of an event that are a word each: those of its topics, then its data's.

    ``fields`` has name, reader, and where the word begins and ends; ``lengths`` those of topics.
    """

    fields: tuple[tuple[str, Reader, int, int], ...]
    lengths: tuple[int, ...]

    def read(self, log: dict[str, Any]) -> dict[str, Any]:
        topics = log["topics"]
        if (*map(len, topics),) != self.lengths:
            raise ValueError(f"{len(self.lengths)} topics of a word are due: {topics!r}"[:200])
        text = "".join([topic[_HEX_PREFIX:] for topic in topics[1:]]) + log["data"][_HEX_PREFIX:]
        digits = hex_digits(text)
        if len(digits) < self.fields[-1][3]:
            raise ValueError(f"{len(self.fields)} words are due, and fewer came")
        return {name: read(digits[first:end]) for name, read, first, end in self.fields}


def _layout(inputs: Sequence[dict[str, Any]]) -> _Layout | None:
    ordered = sorted(inputs, key=lambda item: not item["indexed"])
    found = readers([item["type"] for item in ordered])
    if found is None:
        return None
    fields = tuple(
        (item["name"], reader, WORD_DIGITS * place, WORD_DIGITS * (place + 1))
        for place, (item, reader) in enumerate(zip(ordered, found, strict=True))
    )
    topics = 1 + sum(item["indexed"] for item in inputs)
    return _Layout(fields, (_WORD_LENGTH,) * topics)


@cache
def token_abi() -> Abi:
    return Abi("FiatToken")


def quantity(answer: Any) -> int:
    """A number from a node's hex text; ChainUnavailable for anything else it may have said."""
    if isinstance(answer, str) and answer.startswith("0x") and len(answer) > _HEX_PREFIX:
        try:
            return int(answer, 16)
        except ValueError:
            pass
    raise ChainUnavailable(f"the endpoint answered {str(answer)[:60]!r} where a number was due")


def uint(answer: Any) -> int:
    """A call's only result; ChainUnavailable for anything but one word: half of it is another."""
    return int(word(answer), 16)


def number(answer: Any) -> int:
    """As ``quantity``, for what SQL keeps as a number: blocks, times, places."""
    found = quantity(answer)
    if found > _NUMBER_MAX:
        raise ChainUnavailable(f"the endpoint answered the number {str(answer)[:40]!r}")
    return found


def word(answer: Any) -> str:
    """A hash from a node's answer; ChainUnavailable for anything else it may have said."""
    if isinstance(answer, str) and len(answer) == _WORD_LENGTH and answer.startswith("0x"):
        return answer
    raise ChainUnavailable(f"the endpoint answered {str(answer)[:80]!r} where a hash was due")


def refused_by_contract(refusal: RpcRefusal) -> bool:
    """Whether a contract said no, rather than the node having had a fault of its own."""
    return (
        refusal.code == REVERTED
        or (isinstance(refusal.data, (str, dict)) and bool(refusal.data))
        or "revert" in refusal.message.lower()
    )


def revert_reason(refusal: RpcRefusal, abis: Sequence[Abi]) -> str:
    """Decode the reason that a contract gave for a revert, as text; ``abis`` name its errors."""
    data = refusal.data
    if isinstance(data, dict):
        data = data.get("data")
    if isinstance(data, str) and data.startswith(_ERROR_STRING):
        return _error_text(data)
    if isinstance(data, str) and data.startswith(_PANIC):
        return "arithmetic or assertion fault"
    if isinstance(data, str) and len(data) >= 10:
        for abi in abis:
            if name := abi.error_name(data[:10]):
                return name
        return f"error {data[:10]}"
    return refusal.message.removeprefix("execution reverted: ") or "execution reverted"


def _error_text(data: str) -> str:
    try:
        (text,) = decode(["string"], bytes.fromhex(data[10:]))
    except (DecodingError, ValueError):
        return f"error {data[:10]}"
    return str(text)


def signature_of(item: dict[str, Any]) -> str:
    """The signature of a function or event, such as ``transfer(address,uint256)``."""
    return f"{item['name']}({','.join(_type(i) for i in item['inputs'])})"


def _type(item: dict[str, Any]) -> str:
    if not item["type"].startswith("tuple"):
        return str(item["type"])
    inner = ",".join(_type(component) for component in item["components"])
    return f"({inner}){item['type'].removeprefix('tuple')}"
