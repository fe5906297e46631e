"""Dispute bonds: held for the organisation, given back or lost as the journal says."""

from __future__ import annotations

from sqlalchemy import Connection, select

from coordinator.domain.chain.journal import EntryKind
from coordinator.domain.chain.steps import StepKind, StepStatus
from coordinator.domain.limits.rules import Terms, nothing_opened
from coordinator.domain.observed import held
from coordinator.domain.purchase.lifecycle import Status
from coordinator.domain.reasons import Reason
from coordinator.domain.statements.signed import Signed
from coordinator.domain.usdc import Usdc
from coordinator.ledger.spend.holds import place_hold
from coordinator.ledger.store import schema as t
from coordinator.ledger.store.database import Database
from coordinator.ledger.store.sums import exact_sum, read_sum
from coordinator.ledger.tx.transaction import Tx

_p = t.purchases.c
_e = t.escrows.c


def hold_bond(
    tx: Tx,
    purchase_id: str,
    bond: Usdc,
    *,
    by: str,
    why: str,
    now: int,
    signed: Signed | None = None,
) -> Reason | None:
    """Hold a dispute's bond against the organisation; a reason when it does not fit."""
    states, counters = tx.rules.states(Terms(), bond, now, tx.sheet.usage, nothing_opened)
    broken = sorted((s for s in states if s.broken), key=lambda s: s.remaining)
    if broken:
        return broken[0].reason(bond)
    tx.flush()
    query = select(t.holds).where(t.holds.c.purchase_id == purchase_id, t.holds.c.kind == "bond")
    if tx.connection.execute(query).first() is None:
        charges = tx.sheet.charge(counters, held=bond.base_units, spent=0)
        place_hold(tx, "bond", bond, charges, purchase_id=purchase_id, placed_at=now)
        tx.emit(held("bond", amount=bond, agent=None, now=now, purchase_id=purchase_id))
        tx.notify_crossings(states, bond, now)
    proof = {} if signed is None else {"signed": signed.as_dict()}
    tx.record(now, "dispute_wanted", purchase_id, by=by, why=why, bond=bond.base_units, **proof)
    return None


class BondBook:
    """Reads which bonds are held."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def to_dispute(self) -> dict[str, Usdc]:
        """Purchases whose bond is held and whose dispute is not on its way, with the bond."""
        undone = (StepStatus.REVERTED.value, StepStatus.DISPLACED.value)
        stepped = select(t.steps.c.purchase_id).where(
            t.steps.c.kind == StepKind.DISPUTE.value, t.steps.c.status.not_in(undone)
        )
        query = (
            select(t.holds.c.purchase_id, t.holds.c.amount)
            .join(t.purchases, _p.id == t.holds.c.purchase_id)
            .where(
                t.holds.c.kind == "bond",
                t.holds.c.status == "held",
                _p.status == Status.DELIVERED.value,
                t.holds.c.purchase_id.not_in(stepped),
            )
        )
        with self._database.read() as connection:
            return {
                row.purchase_id: Usdc.from_base_units(row.amount)
                for row in connection.execute(query)
            }


def bond_lost(connection: Connection, purchase_id: str) -> Usdc:
    """Return the lost part of the purchase's bond, by the journal."""
    query = select(exact_sum(t.journal.c.amount)).where(
        t.journal.c.kind == EntryKind.BOND_LOSS.value,
        t.journal.c.credit.in_(select("bond:" + _e.escrow_id).where(_e.purchase_id == purchase_id)),
    )
    return Usdc.from_base_units(read_sum(connection.execute(query).scalar_one()))
