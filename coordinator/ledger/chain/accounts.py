"""The accounts that are ours: what the audit log tells, and nothing that a row could add."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from sqlalchemy import Connection, select

from coordinator.domain.audit import AuditRow
from coordinator.domain.chain.accounts import OwnAccount
from coordinator.domain.errors import LedgerTampered
from coordinator.ledger.store import schema as t
from coordinator.ledger.tx.transaction import Tx
from coordinator.ledger.tx.transactions import Transactions

_SUBJECT: Final = "accounts"
ADDED: Final = "account_added"
ENDED: Final = "account_ended"
_BOOKS: Final = select(t.cursors.c.number).where(t.cursors.c.name == "books")


class AccountBook:
    """The accounts whose USDC the journal follows, each in its own blocks.

    They are rows of the audit log alone, which only a worker may write: whoever can write to the
    database can't have a theft booked as a move between our own accounts. ``given`` are those of
    this process's settings, the treasury's first: they are ours from the journal's beginning where
    the log names none yet. So is the ``wallet`` of x402 payments while there is no journal.
    """

    def __init__(
        self, transactions: Transactions, given: Sequence[str], *, wallet: str | None = None
    ) -> None:
        self._transactions = transactions
        self._given = given
        self.wallet = wallet

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
            told = tuple(OwnAccount(address, place=n) for n, address in enumerate(self._given))
            return (*told, *self._new_wallet(told))
        if not any(a.address == self._given[0] and a.last_block is None for a in told):
            raise LedgerTampered(f"the audit log does not tell that {self._given[0]} is ours")
        new = self._new_wallet(told)
        # The log of a lost database may not know it: every block is read again.
        return (*told, *new) if new and not _is_open(connection) else told

    def begin(self, tx: Tx, *, now: int) -> tuple[OwnAccount, ...]:
        """Tell the log which accounts the journal begins with, unless it knows."""
        tx.flush()
        accounts = self.read(tx.connection)
        told = _folded(tx.audit.proven(tx.connection, _SUBJECT, events=(ADDED, ENDED)))
        for account in accounts[len(told) :]:
            add_account(tx, account.address, first_block=0, now=now, wallet=account.wallet)
        return accounts

    def follow_wallet(self, *, now: int) -> None:
        """Make the wallet an account of ours where it is none; for whoever follows the chain.

        It is ours from a block on that was surely not read yet.
        """
        with self._transactions.database.read() as connection:
            if not _is_open(connection) or not self._new_wallet(self.read(connection)):
                return
        with self._transactions.write() as tx:
            books = int(tx.connection.execute(_BOOKS).scalar_one())
            for new in self._new_wallet(self.read(tx.connection)):
                add_account(tx, new.address, first_block=books + 2, now=now, wallet=True)

    def _new_wallet(self, told: Sequence[OwnAccount]) -> Sequence[OwnAccount]:
        wallet = self.wallet
        if wallet is None or any(a.address == wallet and a.last_block is None for a in told):
            return ()
        return [OwnAccount(wallet, place=len(told), wallet=True)]


def add_account(tx: Tx, address: str, *, first_block: int, now: int, wallet: bool = False) -> None:
    """Have the journal follow an account from a block on, which was not read yet."""
    said = {"wallet": True} if wallet else {}
    tx.record(now, ADDED, _SUBJECT, address=address, first_block=first_block, **said)


def end_account(tx: Tx, address: str, *, last_block: int, now: int) -> None:
    """Have the journal follow an account no further than a block, which was not read yet."""
    tx.record(now, ENDED, _SUBJECT, address=address, last_block=last_block)


def _is_open(connection: Connection) -> bool:
    return connection.execute(_BOOKS).scalar() is not None


def _folded(rows: Iterable[AuditRow]) -> tuple[OwnAccount, ...]:
    found: list[OwnAccount] = []
    for row in rows:
        address = row.body["address"]
        if row.event == ADDED:
            found.append(
                OwnAccount(
                    address,
                    row.body["first_block"],
                    place=len(found),
                    wallet=row.body.get("wallet", False),
                )
            )
            continue
        for place, account in enumerate(found):
            if account.address == address and account.last_block is None:
                found[place] = replace(account, last_block=row.body["last_block"])
    return tuple(found)
