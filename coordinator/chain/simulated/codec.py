"""ABI coding for contracts that answer calls: compiled once from the shipped ABIs.

It knows the types that are used: words, ``bytes`` and ``string``, structs of words, and a list of
addresses as the only result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from coordinator.domain.address import keccak256

WORD: Final = 32
_DYNAMIC: Final = ("bytes", "string")


class Malformed(Exception):
    """Call data that Solidity's decoder refuses; the call reverts without a reason."""


Encoder = Callable[[Any], bytes]
Decoder = Callable[[bytes], Any]


def selector_of(signature: str) -> bytes:
    return keccak256(signature.encode())[:4]


def word_of_address(address: str) -> bytes:
    return bytes(12) + bytes.fromhex(address[2:])


def _word_of_number(value: int) -> bytes:
    return value.to_bytes(WORD, "big")


def _left_aligned(value: bytes) -> bytes:
    return value.ljust(WORD, b"\0")


def _encoder(kind: str) -> Encoder:
    if kind == "address":
        return word_of_address
    if kind == "bytes32":
        return bytes
    if kind == "bytes4":
        return _left_aligned
    return _word_of_number


def _decoder(kind: str) -> Decoder:
    if kind == "bytes32":
        return bytes
    bits = {"address": 160, "bool": 1}.get(kind) or int(kind.removeprefix("uint") or 256)

    def decode(word: bytes) -> Any:
        number = int.from_bytes(word, "big")
        if number >> bits:
            raise Malformed(kind)
        if kind == "address":
            return f"0x{number:040x}"
        return bool(number) if kind == "bool" else number

    return decode


def _flat(item: dict[str, Any]) -> str:
    if item["type"] != "tuple":
        return str(item["type"])
    return "(" + ",".join(_flat(part) for part in item["components"]) + ")"


def signature_of(item: dict[str, Any]) -> str:
    return f"{item['name']}({','.join(_flat(i) for i in item['inputs'])})"


class Function:
    """One function of a contract: takes its arguments out of call data, and puts its result in."""

    def __init__(self, item: dict[str, Any]) -> None:
        self.name: str = item["name"]
        self.selector = selector_of(signature_of(item))
        kinds = [_flat(i) for i in item["inputs"]]
        self._decoders = [None if kind in _DYNAMIC else _decoder(kind) for kind in kinds]
        outputs = item["outputs"]
        self._text = bool(outputs) and outputs[0]["type"] in _DYNAMIC
        self._addresses = bool(outputs) and outputs[0]["type"] == "address[]"
        self._many = len(outputs) > 1 or (bool(outputs) and outputs[0]["type"] == "tuple")
        parts = outputs[0]["components"] if outputs and outputs[0]["type"] == "tuple" else outputs
        self._encoders = [_encoder(part["type"]) for part in parts]

    def arguments(self, data: bytes) -> list[Any]:
        """The arguments in call data after the selector."""
        values: list[Any] = []
        for index, decode in enumerate(self._decoders):
            word = data[index * WORD : (index + 1) * WORD]
            if len(word) < WORD:
                raise Malformed(self.name)
            values.append(_tail(data, word) if decode is None else decode(word))
        return values

    def result(self, value: Any) -> bytes:
        if not self._encoders:
            return b""
        if self._text:
            return text_of(value)
        if self._addresses:
            listed = b"".join(word_of_address(address) for address in value)
            return _word_of_number(WORD) + _word_of_number(len(value)) + listed
        values = value if self._many else (value,)
        return b"".join(encode(part) for encode, part in zip(self._encoders, values, strict=True))


def _tail(data: bytes, word: bytes) -> bytes:
    start = int.from_bytes(word, "big")
    size = int.from_bytes(data[start : start + WORD], "big")
    tail = data[start + WORD : start + WORD + size]
    if start + WORD > len(data) or len(tail) < size:
        raise Malformed("bytes")
    return tail


def text_of(text: str) -> bytes:
    """A string as the only dynamic value of a result or an error."""
    raw = text.encode()
    padded = raw + bytes(-len(raw) % WORD)
    return _word_of_number(WORD) + _word_of_number(len(raw)) + padded


class Event:
    """One event: its topics and data from its arguments, in the order of the declaration."""

    def __init__(self, name: str, inputs: Sequence[tuple[str, bool]]) -> None:
        kinds = ",".join(kind for kind, _ in inputs)
        self._topic = "0x" + keccak256(f"{name}({kinds})".encode()).hex()
        self._inputs = [(_encoder(kind), indexed) for kind, indexed in inputs]

    @classmethod
    def of(cls, item: dict[str, Any]) -> Event:
        return cls(item["name"], [(i["type"], i["indexed"]) for i in item["inputs"]])

    def log(self, values: Sequence[Any]) -> tuple[list[str], str]:
        topics, data = [self._topic], []
        for (encode, indexed), value in zip(self._inputs, values, strict=True):
            word = encode(value).hex()
            if indexed:
                topics.append("0x" + word)
            else:
                data.append(word)
        return topics, "0x" + "".join(data)
