"""One public event, and the choice of those that somebody wants."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from coordinator.domain.canonical import canonical_json
from coordinator.domain.errors import InvalidRequest
from coordinator.domain.events.table import TYPES
from coordinator.domain.times import rfc3339


@dataclass(frozen=True, slots=True)
class PublicEvent:
    """One event at a unix second; ``seq`` is its row's number in the audit log.

    ``agent`` is the one that it belongs to; None: to nobody but the people who run the treasury.
    ``key`` names it in every process and on every try, and in no other treasury.
    """

    seq: int
    type: str
    at: int
    agent: str | None
    key: str
    fields: Mapping[str, Any] = field(hash=False)

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON object that programs get; what is not known is left out."""
        known = {name: value for name, value in self.fields.items() if value is not None}
        agent = {} if self.agent is None else {"agent": self.agent}
        return {"id": self.seq, "type": self.type, "at": rfc3339(self.at), **agent, **known}

    @property
    def json(self) -> bytes:
        return canonical_json(self.as_dict())


@dataclass(frozen=True, slots=True)
class EventFilter:
    """The events of these types (without any, of all) and of this agent (None: of everybody)."""

    types: frozenset[str] = frozenset()
    agent: str | None = None

    def wants(self, event: PublicEvent) -> bool:
        of_type = not self.types or event.type in self.types
        return of_type and (self.agent is None or event.agent == self.agent)


def event_types(given: Iterable[str]) -> frozenset[str]:
    """Return the types, each checked; InvalidRequest names the first that is none."""
    listed = [given] if isinstance(given, str) or not isinstance(given, Iterable) else [*given]
    for one in listed:
        if not isinstance(one, str):
            raise InvalidRequest(f"types must be texts, not {type(one).__name__}")
    found = frozenset(listed)
    for one in sorted(found - set(TYPES)):
        raise InvalidRequest(f"{one[:60]!r} is not an event type: docs/events.md lists them")
    return found
