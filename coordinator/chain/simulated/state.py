"""The state of all accounts and contracts, at every block."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Hashable, Mapping
from typing import Any, Protocol

Key = tuple[Hashable, ...]
"""(holder, name, argument…): ``(token, "balance", account)``."""


class Readable(Protocol):
    def get(self, key: Key, default: Any = 0) -> Any: ...


class Store:
    """The newest value of every key, and every older one by the block that wrote it.

    Values are never changed in place. Undoing a block costs what the block wrote.
    """

    def __init__(self) -> None:
        self._newest: dict[Key, Any] = {}
        self._history: dict[Key, tuple[list[int], list[Any]]] = {}

    def get(self, key: Key, default: Any = 0) -> Any:
        return self._newest.get(key, default)

    def at(self, number: int) -> History:
        """The state as block ``number`` left it."""
        return History(self._history, number)

    def commit(self, number: int, writes: Mapping[Key, Any]) -> None:
        """Add what block ``number`` wrote, the newest one or a part of it that came later."""
        self._newest.update(writes)
        for key, value in writes.items():
            numbers, values = self._history.setdefault(key, ([], []))
            if numbers and numbers[-1] == number:
                values[-1] = value
            else:
                numbers.append(number)
                values.append(value)

    def undo(self, writes: Mapping[Key, Any]) -> None:
        """Take back the newest block, which wrote ``writes``."""
        for key in writes:
            numbers, values = self._history[key]
            numbers.pop()
            values.pop()
            if values:
                self._newest[key] = values[-1]
            else:
                del self._newest[key], self._history[key]


class History:
    """One older block's state."""

    def __init__(self, history: Mapping[Key, tuple[list[int], list[Any]]], number: int) -> None:
        self._history = history
        self._number = number

    def get(self, key: Key, default: Any = 0) -> Any:
        found = self._history.get(key)
        if found is None:
            return default
        numbers, values = found
        index = bisect_right(numbers, self._number)
        return values[index - 1] if index else default


class Overlay:
    """Writes over a state that stays as it is: a block that is being made, or one call."""

    __slots__ = ("_below", "writes")

    def __init__(self, below: Readable) -> None:
        self._below = below
        self.writes: dict[Key, Any] = {}

    def get(self, key: Key, default: Any = 0) -> Any:
        if key in self.writes:
            return self.writes[key]
        return self._below.get(key, default)

    def set(self, key: Key, value: Any) -> None:
        self.writes[key] = value

    def add(self, key: Key, amount: int) -> None:
        self.writes[key] = self.get(key) + amount
