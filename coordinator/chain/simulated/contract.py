"""The base of simulated contracts: call frames, dispatch by selector, reverts and events."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from coordinator.chain.networks import packaged
from coordinator.chain.simulated.codec import Event, Function, Malformed, text_of
from coordinator.chain.simulated.state import Overlay

NOBODY: Final = "0x" + "00" * 20
_ERROR_STRING: Final = bytes.fromhex("08c379a0")


class Reverted(Exception):
    """A contract's refusal; without a reason for call data that it can't read."""

    def __init__(self, reason: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason

    @property
    def data(self) -> str:
        """The call's return data: ``Error(string)``, or nothing."""
        return "0x" + (_ERROR_STRING + text_of(self.reason)).hex() if self.reason else "0x"


def require(holds: bool, reason: str) -> None:
    if not holds:
        raise Reverted(reason)


@dataclass(slots=True)
class Log:
    address: str
    topics: list[str]
    data: str


@dataclass(slots=True)
class Frame:
    """One call: who sends, when, on which state; inner calls share state and logs.

    ``work`` names what was done, for its gas.
    """

    state: Overlay
    sender: str
    timestamp: int
    contracts: Mapping[str, Contract]
    logs: list[Log] = field(default_factory=list)
    work: str = ""

    def by(self, contract: str) -> Frame:
        """The frame of a call that ``contract`` makes."""
        return Frame(self.state, contract, self.timestamp, self.contracts, self.logs)


Handler = Callable[..., Any]


class Contract:
    """A contract at an address. Its handlers take the frame and the decoded arguments."""

    def __init__(
        self,
        address: str,
        artifact: str,
        handlers: Mapping[str, Handler],
        *,
        more_events: Mapping[str, Sequence[tuple[str, bool]]] | None = None,
    ) -> None:
        self.address = address
        items = packaged("abi", f"{artifact}.json")["abi"]
        functions = [Function(item) for item in items if item["type"] == "function"]
        self._functions = {f.selector: (f, handlers[f.name]) for f in functions}
        self._events = {i["name"]: Event.of(i) for i in items if i["type"] == "event"}
        self._events |= {name: Event(name, inputs) for name, inputs in (more_events or {}).items()}

    def call(self, frame: Frame, data: bytes) -> bytes:
        """The result's bytes; Reverted when the contract refuses."""
        found = self._functions.get(data[:4])
        if found is None:
            raise Reverted
        function, handler = found
        frame.work = function.name
        try:
            arguments = function.arguments(data[4:])
        except Malformed:
            raise Reverted from None
        return function.result(handler(frame, *arguments))

    def emit(self, frame: Frame, event: str, *values: Any) -> None:
        topics, data = self._events[event].log(values)
        frame.logs.append(Log(self.address, topics, data))


def constant(value: Any) -> Handler:
    """A handler that always answers ``value``."""
    return lambda frame: value
