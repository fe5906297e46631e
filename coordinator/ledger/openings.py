"""Tasks and sessions that were opened by name."""

from __future__ import annotations

import json
from typing import Any, Final

from sqlalchemy import Connection, bindparam, select

from coordinator.domain.rules import Opening
from coordinator.domain.usdc import Usdc
from coordinator.domain.windows import Window
from coordinator.ledger import schema as t
from coordinator.ledger.prepared import Prepared

_o = t.openings.c
_OPENING: Final = Prepared(
    select(_o.agent, _o.limits, _o.status).where(
        _o.kind == bindparam("kind_"), _o.id == bindparam("id_")
    )
)


def read_opening(connection: Connection, kind: str, name: str) -> Opening | None:
    """The task or session, open or closed; None when nobody opened it by name."""
    row = _OPENING.one(connection, {"kind_": kind, "id_": name})
    if row is None:
        return None
    agent, limits, status = row
    stored = json.loads(limits)
    return Opening(
        kind=kind,
        id=name,
        agent=agent,
        limits=_amounts(stored["limits"]),
        categories={name: _amounts(said) for name, said in stored["categories"].items()},
        closed=status == "closed",
    )


def _amounts(stored: dict[str, Any]) -> dict[Window, Usdc]:
    return {Window(window): Usdc.from_base_units(amount) for window, amount in stored.items()}
