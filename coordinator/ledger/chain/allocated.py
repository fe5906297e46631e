"""Proof that a call to be signed is the one that was allocated for its nonce."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, select

from coordinator.domain.chain.steps import Call, Step, StepKind
from coordinator.ledger.audit.row_codes import Prove
from coordinator.ledger.proofs.step_digest import STEP
from coordinator.ledger.store import schema as t
from coordinator.ledger.store.prepared import batched

_s = t.steps.c
_AT_ONCE: Final = 500

Composed = Callable[[Sequence[Call]], Sequence[Call]]
"""The transactions that make the calls, each a call with its members; the same for the same."""


def values_of_call(
    call: Call, *, chain_id: int, signer: str, nonce: int, position: int = 0
) -> dict[str, Any]:
    """Return what the code of a step's row is made over, by column."""
    return {
        "chain_id": chain_id,
        "signer": signer,
        "nonce": nonce,
        "position": position,
        "kind": call.kind.value,
        "recipient": call.to,
        "data": call.data,
        "gas_limit": call.gas_limit,
        "purchase_id": call.purchase_id,
        "escrow_id": call.escrow_id,
        "usdc": call.usdc.base_units if call.usdc is not None else None,
        "reference": call.reference,
    }


@dataclass(slots=True)
class Proof:
    """A step as the database proves it, with the codes of a batch's members."""

    id: int
    mac: Any
    given_up: int
    macs: list[Any] = field(default_factory=list)


class Proven(NamedTuple):
    """The codes and the encoding that calls which were allocated are compared with."""

    proofs: Mapping[int, Proof]
    proves: Prove
    composed: Composed

    def is_allocated(self, step: Step, *, chain_id: int, signer: str) -> bool:
        """Whether the call, as it was signed, is the one that was allocated for its nonce.

        A batch is what its members make: none can be taken out, added or changed. Its gas limit
        is the one of its own row.
        """
        proof = self.proofs.get(step.id)
        macs = (proof.mac, *proof.macs) if proof is not None else ()
        calls = (step.call, *step.call.members)
        rows = [
            values_of_call(call, chain_id=chain_id, signer=signer, nonce=step.nonce, position=place)
            for place, call in enumerate(calls)
        ]
        ours = len(macs) == len(rows) and all(
            self.proves(mac, "steps", [row[name] for name in STEP])
            for mac, row in zip(macs, rows, strict=True)
        )
        if ours and step.kind is StepKind.BATCH:
            (made,) = self.composed([step.call])
            return replace(made, gas_limit=step.call.gas_limit) == step.call
        return ours


def read_proofs(connection: Connection, steps: Sequence[Step]) -> Mapping[int, Proof]:
    """Read the codes of steps, and those of the members of batches."""
    found: dict[int, Proof] = {}
    for part in batched([step.id for step in steps], _AT_ONCE):
        query = select(_s.id, _s.mac, _s.given_up).where(_s.id.in_(part))
        found |= {row.id: Proof(*row) for row in connection.execute(query)}
    batches = [step.id for step in steps if step.kind is StepKind.BATCH]
    for part in batched(batches, _AT_ONCE):
        within = select(_s.batch_id, _s.mac).where(_s.batch_id.in_(part))
        for batch_id, mac in connection.execute(within.order_by(_s.batch_id, _s.position)):
            if batch_id in found:
                found[batch_id].macs.append(mac)
    return found
