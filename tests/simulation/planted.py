"""Bugs that similar programs have, planted on purpose: each must be found by the simulation."""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Final
from unittest.mock import patch
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, delete, insert, select, update

from coordinator.chain.evm import chain as evm
from coordinator.domain.chain import journal
from coordinator.domain.chain.events import Block
from coordinator.domain.chain.journal import EntryKind
from coordinator.domain.chain.steps import StepKind
from coordinator.domain.errors import ChainUnavailable
from coordinator.domain.limits.limits import CounterKey, Scope, ScopeKind
from coordinator.domain.policy.policy import Policy
from coordinator.domain.ports import Sent
from coordinator.domain.usdc import ZERO
from coordinator.domain.windows import Calendar, Window
from coordinator.executor import beliefs, sender
from coordinator.executor import due as work
from coordinator.ledger.chain import chain_book, rollback, signable, step_rows, worker_judge
from coordinator.ledger.chain import steps as step_book
from coordinator.ledger.chain.agreement import Agreement
from coordinator.ledger.limits import counters
from coordinator.ledger.proofs import agreement as proofs
from coordinator.ledger.proofs import verification
from coordinator.ledger.spend import holds, words
from coordinator.ledger.store import process_bound, sqlite
from coordinator.ledger.store import schema as t
from coordinator.ledger.tx import leases, policies
from coordinator.ledger.tx.transaction import Tx
from coordinator.ledger.x402 import unused
from coordinator.treasury import approve

Planted = Callable[[ExitStack], None]


def _replace(stack: ExitStack, owner: Any, name: str, by: Any) -> None:
    stack.enter_context(patch.object(owner, name, by))


def _allowance_raced(stack: ExitStack) -> None:
    """The allowance is set to what one purchase needs, over what others still need."""

    def with_allowance(self: Any, standing: Any, approve: Any) -> list[Any]:
        calls = []
        for call in self.calls:
            if call.kind is StepKind.LINK:
                calls.insert(0, approve(call.usdc))
            calls.append(call)
        return calls

    _replace(stack, work.Forecast, "with_allowance", with_allowance)


def _nonce_from_the_chain(stack: ExitStack) -> None:
    """The next nonce is the chain's count, whatever the database has given out."""
    real = step_book.StepBook.allocate

    def allocate(self: Any, lease: Any, calls: Any, *, nonce_floor: int, **terms: Any) -> Any:
        with self._database.write() as connection:
            taken = select(t.steps.c.id).where(t.steps.c.nonce >= nonce_floor)
            ids = list(connection.execute(taken).scalars())
            connection.execute(delete(t.attempts).where(t.attempts.c.step_id.in_(ids)))
            connection.execute(delete(t.steps).where(t.steps.c.id.in_(ids)))
        return real(self, lease, calls, nonce_floor=nonce_floor, **terms)

    _replace(stack, step_book.StepBook, "allocate", allocate)


def _hold_ended_by_clock(stack: ExitStack) -> None:
    """A hold ends an hour after it was placed, whatever is in the pool."""
    real = chain_book.ChainBook.end_holds

    def end_holds(self: Any, final_number: int, *, now: int) -> int:
        with self._transactions.write() as tx:
            old = select(t.holds).where(
                t.holds.c.status == "held", t.holds.c.placed_at < now - 3600
            )
            for hold in tx.connection.execute(old).all():
                holds.end_hold(tx, hold.purchase_id, hold.kind, spent=ZERO, now=now)
        return real(self, final_number, now=now)

    _replace(stack, chain_book.ChainBook, "end_holds", end_holds)


def _hold_ended_when_mined(stack: ExitStack) -> None:
    """A hold ends as soon as its purchase's end is mined: no reorganisation is thought of."""
    real = chain_book.ChainBook.end_holds

    def end_holds(self: Any, final_number: int, *, now: int) -> int:
        return real(self, 2**40, now=now)

    _replace(stack, chain_book.ChainBook, "end_holds", end_holds)


def _new_nonce_for_an_old_step(stack: ExitStack) -> None:
    """What is sent again is signed again, under the next nonce."""
    real = sender.Sender._send

    def send(self: Any, attempts: Sequence[Any], **terms: Any) -> None:
        real(self, attempts, **terms)
        with self._steps._transactions.write() as tx:
            connection = tx.connection
            for attempt in attempts:
                state = self._sent.get(attempt.hash)
                if state is not None and state.held_since_block is None:
                    query = select(t.attempts.c.step_id).where(t.attempts.c.hash == attempt.hash)
                    step_id = connection.execute(query).scalar()
                    connection.execute(delete(t.attempts).where(t.attempts.c.hash == attempt.hash))
                    (step,) = step_rows.StepRows().load(connection, t.steps.c.id == step_id)
                    values = self._steps._values(step.call, self._steps.nonces.highest(tx, 0) + 1)
                    connection.execute(
                        update(t.steps)
                        .where(t.steps.c.id == step_id)
                        .values(**values, status="allocated", mac=self._steps._mac(values))
                    )

    _replace(stack, sender.Sender, "_send", send)


def _posted_in_todays_window(stack: ExitStack) -> None:
    """What was spent is counted on the day on which it is posted."""
    real = holds.end_hold

    def end_hold(tx: Tx, purchase_id: str, kind: str, *, spent: Any, now: int) -> None:
        query = select(t.holds).where(t.holds.c.purchase_id == purchase_id, t.holds.c.kind == kind)
        hold = tx.connection.execute(query).one()
        charges = tx.connection.execute(
            select(t.hold_charges).where(t.hold_charges.c.hold_id == hold.id)
        ).all()
        keys = []
        for row in charges:
            window = Window(row.window)
            start, _ = Calendar(ZoneInfo("UTC")).bounds(window, now)
            keys.append(CounterKey(Scope(ScopeKind(row.scope_kind), row.scope_id), window, start))
        holds.move_hold(tx, purchase_id, keys, now)
        tx.connection.execute(
            update(t.holds).where(t.holds.c.id == hold.id).values(placed_at=hold.placed_at)
        )
        real(tx, purchase_id, kind, spent=spent, now=now)

    _replace(stack, chain_book, "end_hold", end_hold)


def _unknown_means_failed(stack: ExitStack) -> None:
    """A send without an answer is taken for one that failed; the purchase fails."""
    real = sender.Sender._send

    def send(self: Any, attempts: Sequence[Any], **terms: Any) -> None:
        told = []
        chain_send = self._chain.send

        def listening(raws: Sequence[str], **terms: Any) -> Any:
            told[:] = chain_send(raws, **terms)
            return told

        with patch.object(self._chain, "send", listening):
            real(self, attempts, **terms)
        with self._steps._database.write() as connection:
            for attempt, answer in zip(attempts, told, strict=True):
                if answer.sent is Sent.UNKNOWN:
                    query = select(t.attempts.c.step_id).where(t.attempts.c.hash == attempt.hash)
                    step_id = connection.execute(query).scalar()
                    connection.execute(
                        update(t.steps)
                        .where(t.steps.c.id == step_id)
                        .values(status="reverted", revert_reason="timeout")
                    )

    _replace(stack, sender.Sender, "_send", send)


def _sent_before_stored(stack: ExitStack) -> None:
    """The bytes go out first and are written down afterwards."""

    def sign_and_send(self: Any, lease: Any, steps: Sequence[Any], seen: Any) -> None:
        if not steps:
            return
        signed = [(s, self._chain.sign(s.call, nonce=s.nonce, fees=f)) for s, f in steps]
        self._send([attempt for _, attempt in signed])
        self._reach(sender.KillPoint.ATTEMPTS_SIGNED)
        self._steps.store_attempts(
            lease,
            signed,
            composed=self._chain.composed,
            fill=self._chain.fill(),
            now=self._clock(),
            seen=self._checkpoint.seen(self._clock()),
        )

    _replace(stack, sender.Sender, "_sign_and_send", sign_and_send)


def _journal_not_rolled_back(stack: ExitStack) -> None:
    """A reorganisation moves the cursor and leaves the journal as it was."""

    def roll_back(tx: Tx, to: Any, now: int) -> Any:
        kept = tx.connection.execute(select(t.journal).where(t.journal.c.block_number > to.number))
        rows = [dict(row._mapping) for row in kept]
        done = rollback.roll_back(tx, to, now)
        for index, row in enumerate(rows):
            row["log_index"] += 10_000 + index
            tx.connection.execute(insert(t.journal).values(**row))
        return done

    _replace(stack, chain_book, "roll_back", roll_back)


def _limit_checked_against_spent_alone(stack: ExitStack) -> None:
    """What is held and not spent yet does not count."""
    real = counters.CounterSheet.usage

    def usage(self: Any, keys: Any) -> Any:
        return {key: used._replace(held_units=0) for key, used in real(self, keys).items()}

    _replace(stack, counters.CounterSheet, "usage", usage)


def _evidence_not_taken_back(stack: ExitStack) -> None:
    """Steps stay mined although their blocks are lost."""
    _replace(stack, rollback, "_take_back_evidence", lambda *_: 0)


def _fee_not_booked(stack: ExitStack) -> None:
    """The journal knows what the provider got, and nothing of the fee."""
    real = chain_book.make_entries

    def make_entries(*arguments: Any, **terms: Any) -> Any:
        return [e for e in real(*arguments, **terms) if e.kind is not EntryKind.FEE]

    _replace(stack, chain_book, "make_entries", make_entries)


def _read_once(stack: ExitStack) -> None:
    """A block is final although nobody read it again: what an endpoint left out stays out."""
    _replace(stack, chain_book, "compare", lambda *_: Agreement(False, frozenset()))


def _rows_believed(stack: ExitStack) -> None:
    """What stands in the database is true, whoever wrote it."""

    def believed(self: Any, call: Any, row: Any) -> Any:
        believed = {"bond": None, "doubts": {}, "create_signed": False}
        believed |= {"approval": None, "x402": None, "asked_at": row.created_at}
        return SimpleNamespace(**row._mapping, **believed)

    _replace(stack, signable.Signable, "_proved", believed)
    _replace(stack, worker_judge.WorkerJudge, "purchase_not_approved", lambda *_: None)
    _replace(stack, approve, "check_proved", lambda *_: None)
    _replace(stack, beliefs.Beliefs, "policy", lambda self: self._policies.current())

    def proved(_: Any, connection: Connection, version: int) -> Policy:
        query = select(t.policies.c.document).where(t.policies.c.version == version)
        return Policy.from_dict(json.loads(connection.execute(query).scalar_one()))

    _replace(stack, policies.PolicyBook, "_proved", proved)


def _edits_not_told(stack: ExitStack) -> None:
    """The audit log is compared with itself alone, not with the rows."""
    _replace(stack, verification, "row_faults", lambda *_: [])


def _count_of_one_node_believed(stack: ExitStack) -> None:
    """Nonces that one answer calls used are used."""

    def confirm_nonce(_: Any, seen: Any, *, known: int) -> None:
        # A row for each of 2**63 nonces would take for ever.
        if seen.nonce > 10_000:
            raise ChainUnavailable("that many can't be")

    _replace(stack, evm.EvmChain, "confirm_nonce", confirm_nonce)


def _lease_believed_to_its_end(stack: ExitStack) -> None:
    """A lease holds until its end by the clock, however far off that is by now."""

    def believed(self: Any, connection: Connection, row: Any) -> bool:
        return bool(self._alive(connection, row))

    _replace(stack, leases.LeaseBook, "_believed", believed)


def _lock_left_to_a_thread(stack: ExitStack) -> None:
    """A thread waits for the lock file, and takes it although its caller has gone."""

    def take(self: Any, deadline: float) -> bool:
        if self._file is None:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            pass
        file, got = os.dup(self._file), threading.Event()

        def wait() -> None:
            fcntl.flock(file, fcntl.LOCK_EX)
            got.set()
            os.close(file)

        threading.Thread(target=wait, daemon=True).start()
        return got.wait(max(0.0, deadline - time.monotonic()))

    _replace(stack, sqlite._FileLock, "take", take)


def _parents_connections_used_in_a_child(stack: ExitStack) -> None:
    """A fork copies connections, and nobody asks in which process they are used."""
    _replace(stack, process_bound.Opened, "check", lambda *_: None)
    _replace(stack, process_bound.Opened, "here", lambda *_: True)
    _replace(stack, process_bound.Connected, "before_fork", lambda *_: None)
    _replace(stack, process_bound.Connected, "in_child", lambda *_: None)


def _signatures_believed(stack: ExitStack) -> None:
    """Whatever is given as a signature counts."""
    for module in (words, proofs):
        _replace(stack, module, "check_signed", lambda *_, **__: None)


def _approvals_not_asked_again(stack: ExitStack) -> None:
    """What was approved once is signed, whoever may approve it by then."""
    _replace(stack, worker_judge.WorkerJudge, "purchase_not_approved", lambda *_: None)


def _payment_ended_early(stack: ExitStack) -> None:
    """A payment that nobody took is given up some minutes before nobody can take it."""
    real = unused.UnusedBook.end

    def end(self: Any, lease: Any, final: Block, **terms: Any) -> int:
        return real(self, lease, replace(final, at=final.at + 600), **terms)

    _replace(stack, unused.UnusedBook, "end", end)


def _use_not_booked(stack: ExitStack) -> None:
    """USDC that leaves by an authorisation is in no entry."""
    _replace(stack, journal._Books, "_authorised", lambda *_: iter(()))


#: Those that only runs show in which agents pay for HTTP requests.
OF_PAYMENTS: Final = frozenset({"payment-ended-early", "use-not-booked"})
BUGS: Final[dict[str, Planted]] = {
    "allowance-raced": _allowance_raced,
    "nonce-from-the-chain": _nonce_from_the_chain,
    "hold-ended-by-clock": _hold_ended_by_clock,
    "hold-ended-when-mined": _hold_ended_when_mined,
    "new-nonce-for-an-old-step": _new_nonce_for_an_old_step,
    "posted-in-todays-window": _posted_in_todays_window,
    "unknown-means-failed": _unknown_means_failed,
    "sent-before-stored": _sent_before_stored,
    "journal-not-rolled-back": _journal_not_rolled_back,
    "limit-checked-against-spent-alone": _limit_checked_against_spent_alone,
    "evidence-not-taken-back": _evidence_not_taken_back,
    "fee-not-booked": _fee_not_booked,
    "read-once": _read_once,
    "rows-believed": _rows_believed,
    "edits-not-told": _edits_not_told,
    "count-of-one-node-believed": _count_of_one_node_believed,
    "lease-believed-to-its-end": _lease_believed_to_its_end,
    "lock-left-to-a-thread": _lock_left_to_a_thread,
    "parents-connections-used-in-a-child": _parents_connections_used_in_a_child,
    "signatures-believed": _signatures_believed,
    "approvals-not-asked-again": _approvals_not_asked_again,
    "payment-ended-early": _payment_ended_early,
    "use-not-booked": _use_not_booked,
}


@contextmanager
def planted(name: str) -> Iterator[None]:
    """The product with one bug, in this process."""
    with ExitStack() as stack:
        BUGS[name](stack)
        yield
