"""Steps and attempts: persisted before anything is sent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import BindParameter, Connection, bindparam, case, insert, select, update

from coordinator.domain.chain.steps import (
    IN_FLIGHT,
    Attempt,
    Call,
    Receipt,
    Step,
    StepKind,
    StepStatus,
)
from coordinator.domain.notices import foreign_transaction
from coordinator.ledger.chain.owned_nonces import OwnedNonces
from coordinator.ledger.chain.signable import Signable
from coordinator.ledger.chain.step_rows import load_steps
from coordinator.ledger.proofs.evidence import Evidence, Seen
from coordinator.ledger.proofs.step_digest import STEP
from coordinator.ledger.spend.stranding import strand
from coordinator.ledger.spend.waiting_again import wait_again
from coordinator.ledger.store import schema as t
from coordinator.ledger.tx.leases import Lease, fence
from coordinator.ledger.tx.pausing import pause_everything, report_tampering
from coordinator.ledger.tx.transaction import Tx
from coordinator.ledger.tx.transactions import Transactions

_s = t.steps.c
_a = t.attempts.c
_TREASURY = "treasury"
_ORDERS = ("wdr_", "mnt_")
_IN_FLIGHT = [status.value for status in IN_FLIGHT]
# Built once: hundreds of steps are signed and proved at a time.
_OF: Final[BindParameter[Any]] = bindparam("of")
_INSERT_STEP: Final = insert(t.steps)
_STORE_ATTEMPT: Final = insert(t.attempts)
_SIGN_STEP: Final = update(t.steps).where(_s.id == _OF).values(status=StepStatus.SIGNED.value)
_PROVE_ATTEMPT: Final = update(t.attempts).where(_a.hash == _OF)
_END_STEP: Final = (
    update(t.steps)
    .where(_s.id == _OF, _s.status.in_(_IN_FLIGHT))
    .values(status=bindparam("to_status"), revert_reason=bindparam("why"))
)


class StepBook:
    """Steps of one signer on one chain."""

    def __init__(
        self,
        transactions: Transactions,
        evidence: Evidence,
        *,
        chain_id: int,
        signer: str,
    ) -> None:
        self._transactions = transactions
        self._database = transactions.database
        self._codes = transactions.audit.codes
        self._evidence = evidence
        self._chain_id = chain_id
        self._signer = signer
        self.own = (_s.chain_id == chain_id, _s.signer == signer)
        self.nonces = OwnedNonces(self._codes, self.own)

    def allocate(
        self,
        lease: Lease,
        calls: Sequence[Call],
        *,
        nonce_floor: int,
        now: int,
        seen: Seen | None,
    ) -> list[Step]:
        """Give the calls that may be signed the next nonces, in order.

        What was cancelled, paused or contested after it was planned is left out, and what was
        planned upon it; the rest goes on. ``nonce_floor`` is the chain's count. What the log tells
        must agree with what this executor has ``seen`` of it; orders that it has seen signed have
        failed. LeaseLost, and nothing written, when another executor has taken over.
        """
        with self._transactions.write() as tx:
            connection = tx.connection
            fence(connection, lease)
            signable = Signable(tx, self._evidence, now=now, seen=seen)
            calls = signable.of(calls)
            _tell_refused(tx, signable, now)
            _report_tampering(tx, signable.tampered, now)
            self.nonces.drop_unproved(tx, nonce_floor, now)
            highest = self.nonces.highest(tx, nonce_floor)
            nonce = nonce_floor if highest is None else max(nonce_floor, highest + 1)
            return [
                Step(
                    id=self.insert_step(
                        connection, call, nonce + offset, StepStatus.ALLOCATED, now
                    ),
                    nonce=nonce + offset,
                    call=call,
                    status=StepStatus.ALLOCATED,
                    created_at=now,
                )
                for offset, call in enumerate(calls)
            ]

    def store_attempts(
        self,
        lease: Lease,
        signed: Sequence[tuple[Step, Attempt]],
        *,
        fill: Call,
        now: int,
        seen: Seen | None,
    ) -> list[Attempt]:
        """Keep the signed bytes; those returned may be sent, in nonce order.

        The first bytes of a step that may not be signed any more are dropped, and it becomes
        ``fill`` under its nonce; so are bytes of a call that this program never allocated, and of
        one that was given up since. Bytes of a step given up are a fill's. What the log tells
        must agree with what this executor has ``seen`` of it.
        LeaseLost when another executor has taken over.
        """
        kept = []
        with self._transactions.write() as tx:
            connection = tx.connection
            fence(connection, lease)
            signable = Signable(tx, self._evidence, now=now, seen=seen)
            for step, attempt in signed:
                # What the log tells of one is proof for the next.
                tx.flush()
                if not self._may_be_signed(tx, step, signable, fill):
                    continue
                connection.execute(
                    _STORE_ATTEMPT,
                    {
                        "hash": attempt.hash,
                        "step_id": step.id,
                        "raw": attempt.raw,
                        "max_fee_per_gas": attempt.max_fee_per_gas,
                        "max_priority_fee_per_gas": attempt.max_priority_fee_per_gas,
                        "signed_at": now,
                        "fills": int(step.given_up),
                    },
                )
                connection.execute(_SIGN_STEP, {"of": step.id})
                tx.record(
                    now,
                    f"{StepKind.FILL if step.given_up else step.kind}_signed",
                    "treasury" if step.given_up else _subject(step),
                    nonce=step.nonce,
                    tx_hash=attempt.hash,
                )
                kept.append(attempt)
            _tell_refused(tx, signable, now)
            _report_tampering(tx, signable.tampered, now)
        return kept

    def in_flight(self) -> list[Step]:
        """Steps that could still be mined, in nonce order."""
        with self._database.read() as connection:
            return load_steps(connection, *self.own, _s.status.in_(_IN_FLIGHT))

    def of_purchases(self, connection: Connection, ids: Iterable[str]) -> list[Step]:
        """Steps of several purchases in the caller's transaction, in nonce order."""
        return load_steps(connection, *self.own, _s.purchase_id.in_(list(ids)))

    def store_receipts(
        self, receipts: Sequence[tuple[Step, Receipt, str | None]], *, now: int
    ) -> None:
        """Keep what the chain proved of steps; the text is a revert's reason."""
        if not receipts:
            return
        with self._transactions.write() as tx:
            connection = tx.connection
            for step, receipt, revert_reason in receipts:
                filled = any(a.fills and a.hash == receipt.tx_hash for a in step.attempts)
                status = StepStatus.MINED if receipt.succeeded else StepStatus.REVERTED
                if filled:
                    status = StepStatus.DISPLACED
                connection.execute(_PROVE_ATTEMPT, {"of": receipt.tx_hash, **_proof(receipt)})
                ended = {"of": step.id, "to_status": status.value, "why": revert_reason}
                changed = connection.execute(_END_STEP, ended)
                if changed.rowcount == 0:
                    continue  # another executor has stored it
                done = receipt.succeeded and not filled
                _end_order(tx, step, done, revert_reason, now)
                tx.record(
                    now,
                    f"{StepKind.FILL}_{StepStatus.MINED}" if filled else f"{step.kind}_{status}",
                    "treasury" if filled else _subject(step),
                    nonce=step.nonce,
                    tx_hash=receipt.tx_hash,
                    block=receipt.block_number,
                    why=revert_reason,
                )

    def displace(self, step: Step, *, now: int) -> bool:
        """Note that a transaction which is not ours was mined at the step's nonce; pause.

        False, and nothing written, when the books have an event of one of the step's own hashes:
        then it is the receipt that is missing.
        """
        with self._transactions.write() as tx:
            if _has_events(tx.connection, step):
                return False
            changed = tx.connection.execute(
                update(t.steps)
                .where(_s.id == step.id, _s.status.in_(_IN_FLIGHT))
                .values(status=StepStatus.DISPLACED.value)
            )
            if changed.rowcount == 0:
                return False
            _end_order(tx, step, False, "another transaction took its nonce", now)
            why = (
                f"a transaction that is not ours was mined at nonce {step.nonce}: somebody else has"
                " the treasury's key; check it, then unpause"
            )
            pause_everything(tx, why, by="executor", now=now)
            tx.record(now, "foreign_transaction", _subject(step), nonce=step.nonce)
            tx.notify([foreign_transaction(step.nonce, now)])
            return True

    def insert_step(
        self, connection: Connection, call: Call, nonce: int, status: StepStatus, now: int
    ) -> int:
        """Give ``call`` the nonce, in the caller's transaction; the step's id."""
        values = self._values(call, nonce)
        row = {**values, "status": status.value, "created_at": now, "mac": self._mac(values)}
        made = connection.execute(_INSERT_STEP, row)
        assert made.inserted_primary_key is not None
        return int(made.inserted_primary_key[0])

    def give_up(self, connection: Connection, step_id: int) -> None:
        """Let a self-send of zero take the nonce of a step that has bytes, dearer than they are."""
        connection.execute(
            update(t.steps)
            .where(_s.id == step_id)
            .values(
                status=StepStatus.SIGNED.value,
                given_up=case((_s.kind == StepKind.FILL.value, 0), else_=1),
            )
        )

    def make_fill(self, connection: Connection, step_id: int, nonce: int, fill: Call) -> None:
        """Let the step do nothing but use its nonce, in the caller's transaction."""
        values = self._values(fill, nonce)
        connection.execute(
            update(t.steps).where(_s.id == step_id).values(**values, mac=self._mac(values))
        )

    def _may_be_signed(self, tx: Tx, step: Step, signable: Signable, fill: Call) -> bool:
        connection = tx.connection
        given_up = connection.execute(select(_s.given_up).where(_s.id == step.id)).scalar()
        if step.given_up or given_up:
            # A fill takes nothing, so nothing has to prove it.
            return step.given_up and bool(given_up)
        proved = self._is_ours(connection, step, signable.tampered)
        if step.attempts:
            return proved and self._was_signed(tx, step, signable.tampered)
        if proved and signable.allows(step.call, stored=True):
            return True
        if proved:
            self.make_fill(connection, step.id, step.nonce, fill)
        else:
            # A fill has a code of its own, so that whoever invents steps would have them paid.
            self.nonces.drop(tx, step.id)
        return False

    def _was_signed(self, tx: Tx, step: Step, tampered: dict[str, str]) -> bool:
        """Whether bytes of the step were ever signed; if not, a fill takes its nonce."""
        if _subject(step) == _TREASURY:
            # What moves no USDC needs no decision either.
            return True
        if self.nonces.was_signed(tx, step.id, step.nonce, _subject(step)):
            return True
        tampered[f"nonce {step.nonce}"] = (
            f"the audit log does not tell that {step.kind} was signed for nonce {step.nonce}"
        )
        self.give_up(tx.connection, step.id)
        return False

    def _is_ours(self, connection: Connection, step: Step, tampered: dict[str, str]) -> bool:
        """Whether the call, as it was signed, is the one that was allocated for its nonce."""
        code = connection.execute(select(_s.mac).where(_s.id == step.id)).scalar()
        values = self._values(step.call, step.nonce)
        ours = self._codes.proves(connection, code, "steps", [values[name] for name in STEP])
        if not ours:
            tampered[f"nonce {step.nonce}"] = (
                f"the call at nonce {step.nonce} ({step.kind}) is not the one that was allocated"
            )
        return ours

    def _mac(self, values: Mapping[str, Any]) -> str:
        return self._codes.make("steps", [values[name] for name in STEP])

    def _values(self, call: Call, nonce: int) -> dict[str, Any]:
        return {
            "chain_id": self._chain_id,
            "signer": self._signer,
            "nonce": nonce,
            "kind": call.kind.value,
            "recipient": call.to,
            "data": call.data,
            "gas_limit": call.gas_limit,
            "purchase_id": call.purchase_id,
            "escrow_id": call.escrow_id,
            "usdc": call.usdc.base_units if call.usdc is not None else None,
            "reference": call.reference,
        }


def fail_order(tx: Tx, order_id: str, why: str | None, now: int) -> None:
    """Note that an approved order has failed."""
    tx.connection.execute(
        update(t.orders)
        .where(t.orders.c.id == order_id, t.orders.c.status == "approved")
        .values(status="failed", message=why)
    )
    tx.record(now, "order_failed", order_id, why=why)


def _end_order(tx: Tx, step: Step, done: bool, why: str | None, now: int) -> None:
    order_id, o = step.call.reference, t.orders.c
    if order_id is None:
        return
    before = tx.connection.execute(select(o.status).where(o.id == order_id)).scalar()
    if before != "approved" and not (done and before == "failed"):
        return
    if not done:
        fail_order(tx, order_id, why, now)
        return
    tx.connection.execute(
        update(t.orders).where(o.id == order_id).values(status="done", message=why)
    )
    tx.record(now, "order_done", order_id, why=why)
    if before == "failed":
        pause = (
            f"{step.kind} {order_id} was told as failed and was mined after all: if it was"
            " ordered again it was carried out twice; check it, then unpause"
        )
        pause_everything(tx, pause, by="executor", now=now)


def _has_events(connection: Connection, step: Step) -> bool:
    hashes = [attempt.hash for attempt in step.attempts]
    return any(
        connection.execute(
            select(table.c.tx_hash).where(table.c.tx_hash.in_(hashes)).limit(1)
        ).first()
        for table in (t.journal, t.escrow_events)
    )


def _report_tampering(tx: Tx, found: Mapping[str, str], now: int) -> None:
    for subject, what in found.items():
        if subject.startswith(_ORDERS):
            # A pause does not stop it: it would be found in every round.
            fail_order(tx, subject, what, now)
        report_tampering(tx, subject, what, now=now)


def _tell_refused(tx: Tx, signable: Signable, now: int) -> None:
    for order_id, why in signable.failed.items():
        fail_order(tx, order_id, why, now)
    for purchase_id, why in signable.stranded.items():
        strand(tx, purchase_id, why, now=now)
    for purchase_id, why in signable.unapproved.items():
        wait_again(tx, purchase_id, why, now=now)


def _proof(receipt: Receipt) -> dict[str, Any]:
    """Return what a receipt tells of its attempt, by column."""
    return {
        "block_number": receipt.block_number,
        "block_hash": receipt.block_hash,
        "succeeded": int(receipt.succeeded),
        "gas_used": receipt.gas_used,
        "effective_gas_price": receipt.effective_gas_price,
        "l1_fee_wei": receipt.l1_fee_wei,
    }


def _subject(step: Step) -> str:
    return step.call.purchase_id or step.call.reference or _TREASURY
