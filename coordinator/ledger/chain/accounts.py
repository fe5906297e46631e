"""The accounts that are ours: what the audit log tells, and nothing that a row could add."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from sqlalchemy import Connection

from coordinator.domain.audit import AuditRow
from coordinator.domain.chain.accounts import OwnAccount
from coordinator.domain.errors import LedgerTampered
from coordinator.ledger.audit.log import AuditLog
from coordinator.ledger.tx.transaction import Tx
from coordinator.ledger.tx.transactions import Transactions

_SUBJECT: Final = "accounts"
ADDED: Final = "account_added"
ENDED: Final = "account_ended"


class AccountBook:
    """The accounts whose USDC the journal follows, each in its own blocks.

    They are rows of the audit log alone, which only a worker may write: whoever can write to the
    database can't have a theft booked as a move between our own accounts. ``given`` are those of
    this process's settings, the treasury's first: they are ours from the journal's beginning where
    the log names none yet.
    """

    def __init__(self, transactions: Transactions, given: Sequence[str]) -> None:
        self._transactions = transactions
        self._given = given

    def all(self) -> tuple[OwnAccount, ...]:
        """Return every account that is or was ours, in the order in which they were added.

        LedgerTampered where the log's rows were changed, or leave the treasury's account out.
        """
        with self._transactions.database.read() as connection:
            return self.read(connection)

    def read(self, connection: Connection) -> tuple[OwnAccount, ...]:
        """Return them in the caller's transaction, whose own rows are written."""
        audit = self._transactions.audit
        told = _folded(audit.proven(connection, _SUBJECT, events=(ADDED, ENDED)))
        if not told:
            return tuple(OwnAccount(a, place=n) for n, a in enumerate(self._given))
        if not any(a.address == self._given[0] and a.last_block is None for a in told):
            raise LedgerTampered(f"the audit log does not tell that {self._given[0]} is ours")
        return told

    def begin(self, tx: Tx, *, now: int) -> tuple[OwnAccount, ...]:
        """Tell the log which accounts the journal begins with, unless it knows."""
        tx.flush()
        accounts = self.read(tx.connection)
        if not _told(tx.audit, tx.connection):
            for account in accounts:
                tx.record(now, ADDED, _SUBJECT, address=account.address, first_block=0)
        return accounts


def add_account(tx: Tx, address: str, *, first_block: int, now: int) -> None:
    """Have the journal follow an account from a block on, which was not read yet."""
    tx.record(now, ADDED, _SUBJECT, address=address, first_block=first_block)


def end_account(tx: Tx, address: str, *, last_block: int, now: int) -> None:
    """Have the journal follow an account no further than a block, which was not read yet."""
    tx.record(now, ENDED, _SUBJECT, address=address, last_block=last_block)


def _told(audit: AuditLog, connection: Connection) -> bool:
    return bool(audit.proven(connection, _SUBJECT, events=(ADDED,), newest=1))


def _folded(rows: Iterable[AuditRow]) -> tuple[OwnAccount, ...]:
    found: list[OwnAccount] = []
    for row in rows:
        address = row.body["address"]
        if row.event == ADDED:
            found.append(OwnAccount(address, row.body["first_block"], place=len(found)))
            continue
        for place, account in enumerate(found):
            if account.address == address and account.last_block is None:
                found[place] = replace(account, last_block=row.body["last_block"])
    return tuple(found)
