"""The digest of steps whose calls change no more, which a worker seals."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from sqlalchemy import Connection, delete, insert, select

from coordinator.domain.canonical import canonical_json
from coordinator.domain.chain.steps import IN_FLIGHT
from coordinator.ledger.audit.export import GENESIS
from coordinator.ledger.audit.row_codes import Prove, RowCodes
from coordinator.ledger.store import schema as t

_PAGE: Final = 500
_s = t.steps.c
# What a step's code authenticates: all that its transaction is made from.
STEP: Final = (
    *("chain_id", "signer", "nonce", "position", "kind", "recipient", "data", "gas_limit"),
    *("purchase_id", "escrow_id", "usdc", "reference"),
)


@dataclass(slots=True)
class StepDigest:
    """Digest of steps in the order of their ids, up to ``step_id``."""

    step_id: int = 0
    hash: str = GENESIS

    def take(self, step: Any) -> None:
        """Go on with the next step, a row of the table."""
        try:
            values = canonical_json([self.hash, step.id, *values_of(step)])
        except (TypeError, ValueError):
            # SQLite keeps any type in any column: it differs from whatever was sealed.
            values = b""
        self.step_id, self.hash = step.id, sha256(values).hexdigest()


def values_of(step: Any) -> list[Any]:
    """Return what the code of a step's row is made over."""
    return [getattr(step, name) for name in STEP]


def sealed(connection: Connection, codes: RowCodes) -> StepDigest:
    """Return the newest digest that a worker has sealed; an empty one without any."""
    proves, c = codes.prover(connection), t.step_seals.c
    for row in connection.execute(select(t.step_seals).order_by(c.step_id.desc())):
        if proves(row.mac, "step_seals", [row.step_id, row.digest]):
            return StepDigest(row.step_id, row.digest)
    return StepDigest()


def seal(connection: Connection, codes: RowCodes) -> None:
    """Check the steps since the last seal, and seal them, in the caller's transaction."""
    before = sealed(connection, codes)
    after = extended(connection, before, codes.prover(connection, revoked_too=True))
    if after.step_id > before.step_id:
        mac = codes.make("step_seals", [after.step_id, after.hash])
        connection.execute(delete(t.step_seals))
        values = {"step_id": after.step_id, "digest": after.hash, "mac": mac}
        connection.execute(insert(t.step_seals).values(values))


def extended(connection: Connection, digest: StepDigest, proves: Prove) -> StepDigest:
    """Return the digest with the steps after it, up to one that may change or has no proof."""
    found = StepDigest(digest.step_id, digest.hash)
    while True:
        query = select(t.steps).where(_s.id > found.step_id).order_by(_s.id).limit(_PAGE)
        rows = connection.execute(query).all()
        for row in rows:
            if row.status in _CHANGING or not proves(row.mac, "steps", values_of(row)):
                return found
            found.take(row)
        if len(rows) < _PAGE:
            return found


_CHANGING: Final = frozenset(status.value for status in IN_FLIGHT)
