"""Steps and attempts: persisted before anything is sent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, case, delete, insert, or_, select, update

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
from coordinator.ledger.chain.allocated import Composed, Proven, read_proofs, values_of_call
from coordinator.ledger.chain.findings import tell_findings
from coordinator.ledger.chain.freeing import free_kept_back
from coordinator.ledger.chain.owned_nonces import OwnedNonces
from coordinator.ledger.chain.signable import Signable
from coordinator.ledger.chain.step_ends import (
    end_order,
    has_events,
    store_ends,
    subject_of,
    with_members,
)
from coordinator.ledger.chain.step_rows import StepRows
from coordinator.ledger.proofs.evidence import Evidence, Seen
from coordinator.ledger.proofs.step_digest import STEP
from coordinator.ledger.store import schema as t
from coordinator.ledger.store.prepared import Prepared, batched
from coordinator.ledger.tx.leases import Lease, fence
from coordinator.ledger.tx.pausing import pause_everything
from coordinator.ledger.tx.transaction import Tx
from coordinator.ledger.tx.transactions import Transactions

_s = t.steps.c
_a = t.attempts.c
_TREASURY = "treasury"
_IN_FLIGHT = [status.value for status in IN_FLIGHT]
_AT_ONCE: Final = 500
_COUNTED: Final = (StepKind.LINK, StepKind.DISPUTE, StepKind.TOP_UP)
_MADE: Final = (*STEP, "status", "created_at", "batch_id", "mac")
_INSERT_STEP: Final = Prepared(insert(t.steps), *_MADE)
_STORE_ATTEMPT: Final = Prepared(
    insert(t.attempts),
    *("hash", "step_id", "raw", "max_fee_per_gas", "max_priority_fee_per_gas"),
    *("signed_at", "fills"),
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
        self.signer = signer
        self._rows = StepRows()
        self.nonces = OwnedNonces(self._codes, lane=(_s.chain_id == chain_id, _s.signer == signer))
        self.own = self.nonces.own

    def allocate(
        self,
        lease: Lease,
        calls: Sequence[Call],
        *,
        composed: Composed,
        nonce_floor: int,
        now: int,
        seen: Seen | None,
    ) -> list[Step]:
        """Give the calls that may be signed the next nonces, in order, as they are ``composed``.

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
            tell_findings(tx, signable, now)
            self.nonces.drop_unproved(tx, nonce_floor, now)
            highest = self.nonces.highest(tx, nonce_floor)
            nonce = nonce_floor if highest is None else max(nonce_floor, highest + 1)
            given = list(enumerate(composed(calls), nonce))
            ids = self._insert(connection, given, StepStatus.ALLOCATED, now)
            return [
                Step(
                    id=ids[nonce],
                    nonce=nonce,
                    call=call,
                    status=StepStatus.ALLOCATED,
                    created_at=now,
                    signer=self.signer,
                )
                for nonce, call in given
            ]

    def free_kept_back(
        self, lease: Lease, kept: Mapping[str, str], *, seen: Seen | None, now: int
    ) -> bool:
        """Free the purchases (by id, with why they are kept back) that may be signed by now."""
        with self._transactions.write() as tx:
            fence(tx.connection, lease)
            return free_kept_back(tx, self._evidence, kept, seen=seen, now=now)

    def store_attempts(
        self,
        lease: Lease,
        signed: Sequence[tuple[Step, Attempt]],
        *,
        composed: Composed,
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
            signable.read([call for step, _ in signed for call in step.call.parts])
            proofs = read_proofs(connection, [step for step, _ in signed])
            proven = Proven(proofs, self._codes.prover(connection), composed)
            shifted = False
            for step, attempt in signed:
                begins = step.kind is StepKind.BATCH and not step.attempts
                if not self._may_be_signed(
                    tx, step, proven, signable, fill, shifted=shifted and begins
                ):
                    shifted |= begins
                    continue
                kept.append((step, attempt))
                tx.insert(_STORE_ATTEMPT, _attempt_row(step, attempt, now))
                # What the log tells of one is proof for the next.
                self._tell_signed(tx, step, attempt, fill, now)
            _mark_signed(connection, [step.id for step, _ in kept])
            tell_findings(tx, signable, now)
        return [attempt for _, attempt in kept]

    def _tell_signed(self, tx: Tx, step: Step, attempt: Attempt, fill: Call, now: int) -> None:
        calls = (fill,) if step.given_up else (step.call, *step.call.members)
        for call in calls:
            tx.record(
                now,
                f"{call.kind}_signed",
                subject_of(call),
                nonce=step.nonce,
                signer=self.signer,
                tx_hash=attempt.hash,
                **_spends(call, first=not step.attempts),
            )

    def in_flight(self) -> list[Step]:
        """Steps that could still be mined, in nonce order."""
        with self._database.read() as connection:
            return self._rows.load(connection, *self.own, _s.status.in_(_IN_FLIGHT))

    def any_in_flight(self) -> bool:
        """Whether a step could still be mined."""
        query = select(_s.id).where(*self.own, _s.status.in_(_IN_FLIGHT)).limit(1)
        with self._database.read() as connection:
            return connection.execute(query).first() is not None

    def of_purchases(self, connection: Connection, ids: Iterable[str]) -> list[Step]:
        """Steps of several purchases, whoever signs, in the order in which they were made."""
        ours = _s.chain_id == self._chain_id
        found = self._rows.load(connection, ours, _s.purchase_id.in_(list(ids)))
        return sorted(found, key=lambda step: step.id)

    def store_receipts(
        self, receipts: Sequence[tuple[Step, Receipt, str | None]], *, now: int
    ) -> None:
        """Keep what the chain proved of steps; the text is a revert's reason."""
        if not receipts:
            return
        with self._transactions.write() as tx:
            store_ends(tx, receipts, now)

    def displace(self, step: Step, *, now: int) -> bool:
        """Note that a transaction which is not ours was mined at the step's nonce; pause.

        False, and nothing written, when the books have an event of one of the step's own hashes:
        then it is the receipt that is missing.
        """
        with self._transactions.write() as tx:
            if has_events(tx.connection, step):
                return False
            changed = tx.connection.execute(
                update(t.steps)
                .where(with_members(step.id), _s.status.in_(_IN_FLIGHT))
                .values(status=StepStatus.DISPLACED.value)
            )
            if changed.rowcount == 0:
                return False
            end_order(tx, step, False, "another transaction took its nonce", now)
            why = (
                f"a transaction that is not ours was mined at nonce {step.nonce}: somebody else has"
                " the treasury's key; check it, then unpause"
            )
            pause_everything(tx, why, by="executor", now=now)
            tx.record(now, "foreign_transaction", subject_of(step.call), nonce=step.nonce)
            tx.notify([foreign_transaction(step.nonce, now)])
            return True

    def insert_step(
        self, connection: Connection, call: Call, nonce: int, status: StepStatus, now: int
    ) -> int:
        """Give ``call`` the nonce, in the caller's transaction; the step's id."""
        return self._insert(connection, [(nonce, call)], status, now)[nonce]

    def _insert(
        self,
        connection: Connection,
        calls: Sequence[tuple[int, Call]],
        status: StepStatus,
        now: int,
    ) -> Mapping[int, int]:
        """Give the calls their nonces; the steps' ids by nonce."""
        if not calls:
            return {}

        def row(call: Call, nonce: int, position: int = 0) -> dict[str, Any]:
            values = self._values(call, nonce, position)
            batch = ids[nonce] if position else None
            said = {"status": status.value, "created_at": now, "batch_id": batch}
            return {**values, **said, "mac": self._mac(values)}

        ids: dict[int, int] = {}
        _INSERT_STEP.each(connection, [row(call, nonce) for nonce, call in calls])
        first, last = calls[0][0], calls[-1][0]
        made = select(_s.nonce, _s.id).where(*self.own, _s.nonce.between(first, last))
        ids |= {one.nonce: one.id for one in connection.execute(made)}
        members = [
            row(member, nonce, position)
            for nonce, call in calls
            for position, member in enumerate(call.members, 1)
        ]
        if members:
            _INSERT_STEP.each(connection, members)
        return ids

    def give_up(self, connection: Connection, step_id: int) -> None:
        """Let a self-send of zero take the nonce of a step that has bytes, dearer than they are."""
        connection.execute(
            update(t.steps)
            .where(with_members(step_id))
            .values(
                status=StepStatus.SIGNED.value,
                given_up=case((_s.kind == StepKind.FILL.value, 0), else_=1),
            )
        )

    def make_fill(self, connection: Connection, step_id: int, nonce: int, fill: Call) -> None:
        """Let the step do nothing but use its nonce, in the caller's transaction.

        The members of a batch were never signed, so they are gone.
        """
        connection.execute(delete(t.steps).where(_s.batch_id == step_id))
        values = self._values(fill, nonce)
        connection.execute(
            update(t.steps).where(_s.id == step_id).values(**values, mac=self._mac(values))
        )

    def _may_be_signed(
        self,
        tx: Tx,
        step: Step,
        proven: Proven,
        signable: Signable,
        fill: Call,
        *,
        shifted: bool,
    ) -> bool:
        """Whether bytes of the step may be kept; what may not, and never was, is a fill.

        ``shifted`` tells that its escrows' ids were predicted with those of one that is not made.
        """
        connection, proof = tx.connection, proven.proofs.get(step.id)
        given_up = proof is not None and bool(proof.given_up)
        if step.given_up or given_up:
            # A fill takes nothing, so nothing has to prove it.
            return step.given_up and given_up
        proved = self._is_ours(step, proven, signable.tampered)
        if step.attempts:
            return proved and self._was_signed(tx, step, signable.tampered)
        if (
            proved
            and not shifted
            and all([signable.allows(call, stored=True) for call in step.call.parts])
        ):
            return True
        if proved:
            self.make_fill(connection, step.id, step.nonce, fill)
        else:
            # A fill has a code of its own, so that whoever invents steps would have them paid.
            self.nonces.drop(tx, step.id)
        return False

    def _was_signed(self, tx: Tx, step: Step, tampered: dict[str, str]) -> bool:
        """Whether bytes of the step were ever signed; if not, a fill takes its nonce."""
        subject = subject_of(step.call.parts[0])
        if subject == _TREASURY:
            # What moves no USDC needs no decision either.
            return True
        if self.nonces.was_signed(tx, step.id, step.nonce, subject):
            return True
        tampered[f"nonce {step.nonce}"] = (
            f"the audit log does not tell that {step.kind} was signed for nonce {step.nonce}"
        )
        self.give_up(tx.connection, step.id)
        return False

    def _is_ours(self, step: Step, proven: Proven, tampered: dict[str, str]) -> bool:
        ours = proven.is_allocated(step, chain_id=self._chain_id, signer=self.signer)
        if not ours:
            tampered[f"nonce {step.nonce}"] = (
                f"the call at nonce {step.nonce} ({step.kind}) is not the one that was allocated"
            )
        return ours

    def _mac(self, values: Mapping[str, Any]) -> str:
        return self._codes.make("steps", [values[name] for name in STEP])

    def _values(self, call: Call, nonce: int, position: int = 0) -> dict[str, Any]:
        lane: Any = {"chain_id": self._chain_id, "signer": self.signer}
        return values_of_call(call, **lane, nonce=nonce, position=position)


def _mark_signed(connection: Connection, ids: Sequence[int]) -> None:
    for part in batched(ids, _AT_ONCE):
        signed = update(t.steps).values(status=StepStatus.SIGNED.value)
        connection.execute(signed.where(or_(_s.id.in_(part), _s.batch_id.in_(part))))


def _attempt_row(step: Step, attempt: Attempt, now: int) -> dict[str, Any]:
    return {
        "hash": attempt.hash,
        "step_id": step.id,
        "raw": attempt.raw,
        "max_fee_per_gas": attempt.max_fee_per_gas,
        "max_priority_fee_per_gas": attempt.max_priority_fee_per_gas,
        "signed_at": now,
        "fills": int(step.given_up),
    }


def _spends(call: Call, *, first: bool) -> dict[str, int]:
    """Return what the first bytes of a call count in the worker's limits, in base units."""
    counted = first and call.kind in _COUNTED
    return {"usdc": call.usdc.base_units} if counted and call.usdc is not None else {}
