"""Rotation of the treasury's key: a new account pays, and a former one ends its escrows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, func, select, update

from coordinator.domain.chain.accounts import OwnAccount
from coordinator.domain.chain.events import EMPTY, OVER, EventKind
from coordinator.domain.chain.rotation import FormerAccount, OpenEscrow, succession
from coordinator.domain.chain.steps import IN_FLIGHT, StepKind
from coordinator.domain.errors import ConfigurationError, InvalidRequest
from coordinator.domain.typed_data import Trust
from coordinator.domain.usdc import Usdc
from coordinator.ledger.audit.hosts import Host, SignTyped, host_rows, verified_host
from coordinator.ledger.audit.log import read_head
from coordinator.ledger.chain.accounts import AccountBook, add_account, end_account
from coordinator.ledger.chain.chain_book import read_cursors
from coordinator.ledger.chain.journal_book import account_sums
from coordinator.ledger.store import schema as t
from coordinator.ledger.tx.transactions import Transactions

_s, _e, _ev, _j = t.steps.c, t.escrows.c, t.escrow_events.c, t.journal.c
_UNFUNDED: Final = [state.value for state in EMPTY]
_FLYING: Final = [status.value for status in IN_FLIGHT]
# Blocks from the books' last one on that were surely not read yet.
_AHEAD: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """An account, and how its key signs."""

    address: str
    sign: SignTyped


class RotationBook:
    """Begins and ends a rotation, each in one transaction."""

    def __init__(self, transactions: Transactions, accounts: AccountBook) -> None:
        self._transactions = transactions
        self._accounts = accounts

    def begin(self, former: Key, to: Key, *, by: str, now: int) -> bool:
        """Make ``to`` the treasury, with both keys; False when it is already.

        The new key signs every certificate and revocation of a host that stands by the former one:
        afterwards it alone is the root of trust. Its account is ours from a block that was not
        read yet. InvalidRequest while anything of the former one is between its create and a
        final funding; ConfigurationError where the treasury is neither of the two.
        """
        with self._transactions.write() as tx:
            identity = tx.connection.execute(select(t.identity)).one_or_none()
            if identity is None:
                raise InvalidRequest("this database belongs to no treasury yet: start the worker")
            if identity.treasury == to.address:
                return False
            if identity.treasury != former.address:
                raise ConfigurationError(
                    f"this database belongs to treasury {identity.treasury}, which neither"
                    " COORDINATOR_SIGNER nor COORDINATOR_FORMER_SIGNERS names"
                )
            cursor, final = read_cursors(tx.connection)
            unfunded = list(_unfunded(tx.connection, former.address, final.number if final else -1))
            if unfunded:
                raise InvalidRequest(
                    f"the key can't be rotated yet: {'; '.join(unfunded)}; let the worker go on"
                    " with the former settings, or cancel them, then run it again"
                )
            old = Trust(former.address, identity.chain_id, identity.kernel)
            new = Trust(to.address, identity.chain_id, identity.kernel)
            hosts = _certify_again(tx.connection, old, new, to.sign)
            tx.connection.execute(update(t.identity).values(treasury=to.address, signer=to.address))
            if cursor is not None:
                first = cursor.number + _AHEAD + 1
                add_account(tx, to.address, first_block=first, now=now)
            after = read_head(tx.connection).count
            message = succession(old, to.address, after_row=after, at=now)
            told = {"former": former.address, "to": to.address, "after_row": after, "hosts": hosts}
            signature = former.sign(message)
            tx.record(now, "treasury_rotated", "treasury", **told, signature=signature, by=by)
            return True

    def change_key(self, safe: str, former: Key, to: Key, *, by: str, now: int) -> bool:
        """Let ``to`` sign for the Safe, with both keys; False when it does already.

        The new key signs every certificate and revocation of a host that stands by the former one.
        What its role is on the chain is the owners' to change. InvalidRequest while a transaction
        of the former one may be mined; ConfigurationError where neither signs for this Safe.
        """
        with self._transactions.write() as tx:
            identity = tx.connection.execute(select(t.identity)).one_or_none()
            if identity is None:
                raise InvalidRequest("this database belongs to no treasury yet: start the worker")
            if (identity.treasury, identity.signer) == (safe, to.address):
                return False
            if (identity.treasury, identity.signer) != (safe, former.address):
                raise ConfigurationError(
                    f"this database belongs to treasury {identity.treasury}, key"
                    f" {identity.signer}, which neither COORDINATOR_SIGNER nor"
                    " COORDINATOR_FORMER_SIGNERS names"
                )
            flying = select(func.count()).where(
                _s.signer == former.address, _s.status.in_(_FLYING), _s.position == 0
            )
            if count := tx.connection.execute(flying).scalar():
                raise InvalidRequest(
                    f"the key can't be rotated yet: {count} transactions of {former.address} may"
                    " be mined; let the worker go on with the former settings, then run it again"
                )
            old = Trust(safe, identity.chain_id, identity.kernel, key=former.address)
            new = Trust(safe, identity.chain_id, identity.kernel, key=to.address)
            hosts = _certify_again(tx.connection, old, new, to.sign)
            tx.connection.execute(update(t.identity).values(signer=to.address))
            after = read_head(tx.connection).count
            message = succession(old, to.address, after_row=after, at=now)
            told = {"former": former.address, "to": to.address, "after_row": after, "hosts": hosts}
            signature = former.sign(message)
            tx.record(now, "key_changed", "treasury", **told, signature=signature, by=by)
            return True

    def formers(self) -> list[FormerAccount]:
        """Return the accounts that were the treasury's, oldest first, with what is left to do."""
        with self._transactions.read() as tx:
            accounts = self._accounts.read(tx.connection)
            present = tx.connection.execute(select(t.identity.c.treasury)).scalar()
            return [
                _former(tx.connection, account)
                for account in accounts
                if account.address != present and not account.wallet
            ]

    def finish(self, address: str, *, by: str, now: int) -> bool:
        """Let an account be ours no more; False when it is not already.

        InvalidRequest while it has anything left to do, or was never ours.
        """
        with self._transactions.write() as tx:
            accounts = self._accounts.read(tx.connection)
            found = [a for a in accounts if a.address == address and not a.wallet]
            if not found:
                raise InvalidRequest(f"{address} is no former account of this treasury")
            if found[-1].last_block is not None:
                return False
            left = _former(tx.connection, found[-1])
            if left.waits_for:
                raise InvalidRequest(
                    f"{address} has something left to do: {'; '.join(left.waits_for)}"
                )
            cursor, _ = read_cursors(tx.connection)
            assert cursor is not None
            end_account(tx, address, last_block=cursor.number + _AHEAD, now=now)
            tx.record(now, "rotation_finished", "treasury", former=address, by=by)
            return True


def _certify_again(connection: Connection, old: Trust, new: Trust, sign: SignTyped) -> int:
    """Sign what the former key signed of hosts, by the new one; how many."""
    count = 0
    for row in host_rows(connection):
        host = verified_host(old, row)
        if host is None:
            continue
        values = _signed_again(host, new, sign)
        connection.execute(update(t.hosts).where(t.hosts.c.id == host.id).values(**values))
        count += 1
    return count


def _signed_again(host: Host, trust: Trust, sign: SignTyped) -> Mapping[str, Any]:
    values = {"certificate": sign(host.certificate.message(trust))}
    if host.last_row is not None and host.revoked_at is not None:
        ended = host.certificate.revocation(
            trust, last_row=host.last_row, revoked_at=host.revoked_at
        )
        values["revocation"] = sign(ended)
    return values


def _unfunded(connection: Connection, account: str, final: int) -> Iterator[str]:
    """Say what is between a create and a funding that can't be undone."""
    flying = select(func.count()).where(
        _s.signer == account,
        _s.status.in_(_FLYING),
        _s.kind.in_([StepKind.CREATE.value, StepKind.LINK.value]),
    )
    if count := connection.execute(flying).scalar():
        yield f"{count} transactions that create or fund escrows are in flight"
    ours = func.lower(_e.requester) == account.lower()
    if count := connection.execute(
        select(func.count()).where(ours, _e.state.in_(_UNFUNDED))
    ).scalar():
        yield f"{count} escrows were created and are not funded"
    funded = (
        select(func.count())
        .join(t.escrows, _e.escrow_id == _ev.escrow_id)
        .where(ours, _ev.kind == EventKind.ESCROW_FUNDED.value, _ev.block_number > final)
    )
    if count := connection.execute(funded).scalar():
        yield f"{count} escrows were funded in blocks that are not final"


def _former(connection: Connection, account: OwnAccount) -> FormerAccount:
    address = account.address
    open_ones = (
        select(_e.escrow_id, _e.purchase_id, _e.state, _e.amount)
        .where(
            func.lower(_e.requester) == address.lower(),
            _e.state.not_in([state.value for state in OVER]),
        )
        .order_by(_e.seq)
    )
    escrows = tuple(
        OpenEscrow(row.escrow_id, row.purchase_id, row.state, Usdc.from_base_units(row.amount))
        for row in connection.execute(open_ones)
    )
    flying = select(func.count()).where(_s.signer == address, _s.status.in_(_FLYING))
    wei = select(t.observations.c.gas_balance_wei).where(t.observations.c.treasury == address)
    _, final = read_cursors(connection)
    return FormerAccount(
        address=address,
        first_block=account.first_block,
        last_block=account.last_block,
        usdc=account_sums(connection, [address])[address],
        gas_balance_wei=int(connection.execute(wei).scalar() or 0),
        in_flight=int(connection.execute(flying).scalar() or 0),
        escrows=escrows,
        moved_at=_moved_at(connection, account),
        final_block=final.number if final is not None else -1,
    )


def _moved_at(connection: Connection, account: OwnAccount) -> int:
    """The last block in which the account's USDC, or an escrow of its, moved."""
    entries = select(func.max(_j.block_number)).where(
        (_j.debit == account.name) | (_j.credit == account.name)
    )
    ended = select(func.max(_e.last_block)).where(
        func.lower(_e.requester) == account.address.lower()
    )
    return max(int(connection.execute(query).scalar() or 0) for query in (entries, ended))
