"""Reads of the journal: balances, sums for reports, and what has no explanation."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, case, delete, func, insert, select

from coordinator.domain.chain.accounts import account_name
from coordinator.domain.chain.journal import Entry, EntryKind
from coordinator.domain.chain.reconciliation import Discrepancy, Rescan
from coordinator.domain.usdc import Usdc
from coordinator.ledger.audit.row_codes import RowCodes
from coordinator.ledger.spend.reading import is_of_escrow
from coordinator.ledger.store import schema as t
from coordinator.ledger.store.database import Database
from coordinator.ledger.store.sums import exact_sum, read_sum

_j = t.journal.c


class JournalBook:
    """Answers about entries; writing them is the chain book's."""

    def __init__(self, database: Database, codes: RowCodes) -> None:
        self._database = database
        self._codes = codes

    def treasury_balance(self) -> Usdc:
        """Sum the USDC of all accounts of ours from the journal's entries alone."""
        with self._database.read() as connection:
            return own_sum(connection, None)

    def account_balances(self, addresses: Iterable[str]) -> Mapping[str, Usdc]:
        """Sum each account's USDC from the journal's entries alone."""
        with self._database.read() as connection:
            return account_sums(connection, addresses)

    def escrow_balances(self) -> Mapping[str, Usdc]:
        """Sum each escrow's USDC from the journal's entries, by escrow key."""
        signed = case((_j.debit == "escrow:" + _j.escrow_key, _j.amount), else_=-_j.amount)
        query = (
            select(_j.escrow_key, exact_sum(signed).label("balance"))
            .where(_j.escrow_key.is_not(None), _j.kind != EntryKind.X402.value)
            .group_by(_j.escrow_key)
        )
        with self._database.read() as connection:
            return {
                row.escrow_key: Usdc.from_base_units(read_sum(row.balance))
                for row in connection.execute(query)
            }

    def entries(self, *, from_block: int = 0, to_block: int | None = None) -> Iterator[Entry]:
        """Entries of [from_block, to_block] (None: to the end), by block and log index."""
        query = (
            select(t.journal)
            .where(_j.block_number >= from_block)
            .order_by(_j.block_number, _j.log_index)
        )
        if to_block is not None:
            query = query.where(_j.block_number <= to_block)
        with self._database.read() as connection:
            for row in connection.execute(query):
                yield _entry(row)

    def rescan(self, from_block: int) -> Rescan:
        """The comparison from ``from_block`` on that was interrupted, or a fresh one."""
        query = select(t.rescans).where(t.rescans.c.from_block == from_block)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
            proves = self._codes.prover(connection)
        told = json.loads(row.found) if row is not None else None
        # Somebody else's comparison could hide what it found.
        if row is None or not isinstance(told, dict):
            return Rescan(from_block, from_block - 1)
        values = [row.from_block, row.reached, row.events, told.get("kept"), told.get("more")]
        if not proves(told.get("mac"), "rescans", values):
            return Rescan(from_block, from_block - 1)
        kept = tuple(_discrepancy(item) for item in told["kept"])
        return Rescan(from_block, row.reached, row.events, kept, told["more"])

    def store_rescan(self, rescan: Rescan) -> None:
        """Keep how far the comparison has come and what it has found."""
        kept = [_discrepancy_row(item) for item in rescan.found]
        values = [rescan.from_block, rescan.reached, rescan.events, kept, rescan.more]
        mac = self._codes.make("rescans", values)
        found = json.dumps({"kept": kept, "more": rescan.more, "mac": mac})
        with self._database.write() as connection:
            _forget_rescan(connection, rescan)
            connection.execute(
                insert(t.rescans).values(
                    from_block=rescan.from_block,
                    reached=rescan.reached,
                    events=rescan.events,
                    found=found,
                )
            )

    def end_rescan(self, rescan: Rescan) -> None:
        """Forget a comparison that came to its end."""
        with self._database.write() as connection:
            _forget_rescan(connection, rescan)

    def sums(self, *, since: int | None, until: int | None) -> Mapping[EntryKind, Usdc]:
        """Amounts by kind of entries with a block time in [since, until)."""
        query = select(_j.kind, exact_sum(_j.amount)).group_by(_j.kind)
        if since is not None:
            query = query.where(_j.at >= since)
        if until is not None:
            query = query.where(_j.at < until)
        with self._database.read() as connection:
            return {
                EntryKind(kind): Usdc.from_base_units(read_sum(amount))
                for kind, amount in connection.execute(query)
            }

    def filled(self, address: str, *, since: int | None, until: int | None) -> Usdc:
        """Sum what other accounts of ours sent to this one, by block time in [since, until)."""
        query = select(exact_sum(_j.amount)).where(
            _j.kind == EntryKind.INTERNAL.value, _j.debit == account_name(address)
        )
        if since is not None:
            query = query.where(_j.at >= since)
        if until is not None:
            query = query.where(_j.at < until)
        with self._database.read() as connection:
            return Usdc.from_base_units(read_sum(connection.execute(query).scalar_one()))

    def balance_before(self, at: int) -> Usdc:
        """Sum the USDC of all accounts of ours from entries with a block time below ``at``."""
        with self._database.read() as connection:
            return own_sum(connection, at)

    def unexplained_outflows(self) -> Sequence[Entry]:
        """USDC that left without a purchase: outflows that no withdrawal of ours made."""
        ours = (
            select(t.attempts.c.hash)
            .join(t.steps, t.steps.c.id == t.attempts.c.step_id)
            .where(t.steps.c.kind == "withdraw")
        )
        query = (
            select(t.journal)
            .where(_j.kind == EntryKind.OUTFLOW.value, _j.tx_hash.not_in(ours))
            .order_by(_j.block_number, _j.log_index)
        )
        with self._database.read() as connection:
            rows = connection.execute(query).all()
            logged = _withdrawals_in_log(connection) if rows else frozenset()
            return [_entry(row) for row in rows if row.tx_hash not in logged]

    def posted_without_entries(self) -> Iterator[tuple[str, Usdc, Usdc]]:
        """(purchase, posted, booked) where a posted hold and its entries differ."""
        signed = case(
            (_j.kind.in_([EntryKind.FUND.value, EntryKind.X402.value]), _j.amount),
            (_j.kind == EntryKind.REFUND.value, -_j.amount),
            else_=0,
        )
        booked = func.coalesce(func.sum(signed), 0)
        query = (
            select(t.holds.c.purchase_id, t.holds.c.posted, booked.label("booked"))
            .outerjoin(t.escrows, t.escrows.c.purchase_id == t.holds.c.purchase_id)
            .outerjoin(t.journal, is_of_escrow(_j, t.escrows.c))
            .where(t.holds.c.kind == "purchase", t.holds.c.status != "held")
            .group_by(t.holds.c.id, t.holds.c.purchase_id, t.holds.c.posted)
            .having(booked != t.holds.c.posted)
        )
        with self._database.read() as connection:
            for row in connection.execute(query):
                yield (
                    row.purchase_id,
                    Usdc.from_base_units(row.posted),
                    Usdc.from_base_units(int(row.booked)),
                )

    def counters_that_differ(self) -> Iterator[tuple[str, Usdc, Usdc]]:
        """(counter, its held + spent, what its holds say) where they differ."""
        c, h = t.hold_charges.c, t.holds.c
        counted = case((h.status == "held", h.amount), else_=h.posted)
        key = (c.scope_kind, c.scope_id, c.window, c.start)
        sums = (
            select(*key, func.sum(counted).label("counted"))
            .join(t.holds, h.id == c.hold_id)
            .group_by(*key)
            .subquery()
        )
        k = t.counters.c
        same = (
            (k.scope_kind == sums.c.scope_kind)
            & (k.scope_id == sums.c.scope_id)
            & (k.window == sums.c.window)
            & (k.start == sums.c.start)
        )
        query = (
            select(t.counters, func.coalesce(sums.c.counted, 0).label("counted"))
            .outerjoin(sums, same)
            .where(k.held + k.spent != func.coalesce(sums.c.counted, 0))
        )
        with self._database.read() as connection:
            for row in connection.execute(query):
                yield (
                    f"{row.scope_kind}:{row.scope_id} {row.window}",
                    Usdc.from_base_units(row.held + row.spent),
                    Usdc.from_base_units(int(row.counted)),
                )


def _forget_rescan(connection: Connection, rescan: Rescan) -> None:
    connection.execute(delete(t.rescans).where(t.rescans.c.from_block == rescan.from_block))


def _discrepancy_row(found: Discrepancy) -> dict[str, Any]:
    row = asdict(found)
    return row | {"amount": found.amount.base_units if found.amount is not None else None}


def _discrepancy(row: dict[str, Any]) -> Discrepancy:
    units = row.pop("amount")
    return Discrepancy(amount=None if units is None else Usdc.from_base_units(units), **row)


def _entry(row: object) -> Entry:
    values = row._mapping  # type: ignore[attr-defined]
    return Entry(
        block_number=values["block_number"],
        block_hash=values["block_hash"],
        log_index=values["log_index"],
        tx_hash=values["tx_hash"],
        at=values["at"],
        kind=EntryKind(values["kind"]),
        debit=values["debit"],
        credit=values["credit"],
        amount=Usdc.from_base_units(values["amount"]),
        escrow_key=values["escrow_key"],
    )


def _withdrawals_in_log(connection: Connection) -> frozenset[str]:
    """Transactions of withdrawals by the audit log, which outlives the steps of a lost database."""
    a = t.audit.c
    query = select(a.body).where(
        a.subject >= "wdr_", a.subject < "wdr`", a.event == "withdraw_mined"
    )
    return frozenset(json.loads(body)["tx_hash"] for body in connection.execute(query).scalars())


def own_sum(connection: Connection, before: int | None) -> Usdc:
    """Sum the USDC of all accounts of ours; what moves between two of them is neither."""
    came = case((_j.debit.startswith("own:"), _j.amount), else_=0)
    went = case((_j.credit.startswith("own:"), _j.amount), else_=0)
    query = select(exact_sum(came - went))
    if before is not None:
        query = query.where(_j.at < before)
    return Usdc.from_base_units(read_sum(connection.execute(query).scalar_one()))


def account_sums(connection: Connection, addresses: Iterable[str]) -> dict[str, Usdc]:
    """Sum the USDC of each of these accounts of ours."""
    found = {}
    for address in addresses:
        name = account_name(address)
        signed = case((_j.debit == name, _j.amount), else_=-_j.amount)
        query = select(exact_sum(signed)).where((_j.debit == name) | (_j.credit == name))
        found[address] = Usdc.from_base_units(read_sum(connection.execute(query).scalar_one()))
    return found
