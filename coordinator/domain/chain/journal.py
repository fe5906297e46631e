"""Double entries of every USDC movement, made from transfers and payouts alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from coordinator.domain.chain.accounts import OwnAccount
from coordinator.domain.chain.events import ChainEvent, EscrowState, EventKind
from coordinator.domain.usdc import Usdc


class EntryKind(StrEnum):
    """A label; the amounts and accounts are what balances."""

    OPENING = "opening"
    CLOSING = "closing"
    INTERNAL = "internal"
    DEPOSIT = "deposit"
    OUTFLOW = "outflow"
    FUND = "fund"
    PAYOUT = "payout"
    FEE = "fee"
    PENALTY = "penalty"
    REFUND = "refund"
    BOND = "bond"
    BOND_RETURN = "bond_return"
    BOND_LOSS = "bond_loss"
    X402 = "x402"


# A transaction with none of them makes no entry.
_MONEY: Final = frozenset(EventKind) - {EventKind.ESCROW_CREATED, EventKind.ESCROW_MOVED}


@dataclass(frozen=True, slots=True)
class Entry:
    """``amount`` moved from account ``credit`` to account ``debit``.

    Accounts: ``own:<0x…>``, ``escrow:<key>``, ``bond:<escrow id>``, ``address:<0x…>`` and
    ``opening``. The same chain and accounts of ours give the same entries: nothing that only the
    database knows is in them. Unique on (block hash, log index); entries that open or close an
    account have a negative one.
    """

    block_number: int
    block_hash: str
    log_index: int
    tx_hash: str
    at: int
    kind: EntryKind
    debit: str
    credit: str
    amount: Usdc
    escrow_key: str | None = None


@dataclass(frozen=True, slots=True)
class FundedEscrow:
    """An escrow of ours funded earlier, with the values that entries need."""

    escrow_id: str
    escrow_key: str
    provider: str


def make_entries(
    events: Iterable[ChainEvent],
    *,
    accounts: Iterable[OwnAccount],
    vault: str,
    known: Mapping[str, FundedEscrow],
    bonds: Iterable[str] = (),
) -> list[Entry]:
    """Return the entries of ``events``, which are in chain order.

    ``accounts`` are ours, each in its own blocks; a transfer between two of them is one entry.
    ``known`` maps escrow keys to our funded escrows, ``bonds`` are the ids of the escrows whose
    dispute bond we have paid and not got back.
    """
    by_tx: dict[tuple[int, str], list[ChainEvent]] = defaultdict(list)
    for event in events:
        by_tx[(event.block_number, event.tx_hash)].append(event)
    ours = defaultdict(list)
    for account in accounts:
        ours[account.address.lower()].append(account)
    books = _Books(ours, vault.lower(), dict(known), set(bonds))
    entries = [
        entry
        for group in by_tx.values()
        if any(event.kind in _MONEY for event in group)
        for entry in books.entries_of_tx(group)
    ]
    return sorted(entries, key=lambda entry: (entry.block_number, entry.log_index))


@dataclass(slots=True)
class _Books:
    ours: Mapping[str, list[OwnAccount]]
    vault: str
    escrows: dict[str, FundedEscrow]
    bonds: set[str]

    def entries_of_tx(self, group: list[ChainEvent]) -> Iterator[Entry]:
        funded = [e for e in group if e.kind is EventKind.ESCROW_FUNDED]
        for event in funded:
            assert event.escrow_key and event.escrow_id and event.provider
            key = event.escrow_key
            self.escrows[key] = FundedEscrow(event.escrow_id, key, event.provider)
        cancelled = {e.escrow_id for e in group if e.state is EscrowState.CANCELLED}
        payouts = [e for e in group if e.kind is EventKind.PAYOUT and e.escrow_key in self.escrows]
        yield from (self._payout(e, cancelled) for e in payouts)
        # The kernel moves an escrow before it moves the escrow's money.
        moved: ChainEvent | None = None
        used: ChainEvent | None = None
        for event in group:
            if event.kind is EventKind.ESCROW_MOVED:
                moved = event
            elif event.kind is EventKind.AUTHORISATION_USED:
                used = event
            elif event.kind is EventKind.ACCOUNT_OPENED:
                yield _entry(event, EntryKind.OPENING, self._name_of(event), "opening")
            elif event.kind is EventKind.ACCOUNT_CLOSED:
                left = f"address:{_lower(event.recipient)}"
                yield _entry(event, EntryKind.CLOSING, left, self._name_of(event))
            elif event.kind is EventKind.TRANSFER and _pays(used, event):
                yield from self._authorised(event, used)
                used = None
            elif event.kind is EventKind.TRANSFER and event.amount:
                yield from self._transfer(event, funded, payouts, moved or _disputed(group))

    def _transfer(
        self,
        transfer: ChainEvent,
        funded: list[ChainEvent],
        payouts: list[ChainEvent],
        moved: ChainEvent | None,
    ) -> Iterator[Entry]:
        sender, to = _lower(transfer.sender), _lower(transfer.recipient)
        if sender == to:
            return
        payer, payee = self._own(sender, transfer), self._own(to, transfer)
        if payer and payee:
            yield _entry(transfer, EntryKind.INTERNAL, payee, payer)
        elif payer:
            yield self._out(transfer, payer, to, funded, moved)
        elif sender == self.vault:
            if not _take(payouts, transfer):
                yield from self._bond_end(transfer, to, payee, moved)
        elif payee:
            yield _entry(transfer, EntryKind.DEPOSIT, payee, f"address:{sender}")

    def _authorised(self, transfer: ChainEvent, used: ChainEvent | None) -> Iterator[Entry]:
        """Yield the payment of an authorisation; what moves between two of ours is no payment."""
        assert used is not None
        payer = self._own(_lower(transfer.sender), transfer)
        if payer and not self._own(_lower(transfer.recipient), transfer):
            payee = f"address:{_lower(transfer.recipient)}"
            yield _entry(transfer, EntryKind.X402, payee, payer, used.escrow_key)
        else:
            yield from self._transfer(transfer, [], [], None)

    def _own(self, address: str, event: ChainEvent) -> str | None:
        """The name of an account that is ours in the event's block; None for any other."""
        found = (a.name for a in self.ours.get(address, ()) if a.has(event.block_number))
        return next(found, None)

    def _name_of(self, event: ChainEvent) -> str:
        return self.ours[_lower(event.recipient)][0].name

    def _payout(self, payout: ChainEvent, cancelled: set[str | None]) -> Entry:
        assert payout.escrow_key
        to, account = _lower(payout.recipient), f"escrow:{payout.escrow_key}"
        ours = self._own(to, payout)
        if ours:
            kind, debit = EntryKind.REFUND, ours
        elif to == _lower(self.escrows[payout.escrow_key].provider):
            penalty = self.escrows[payout.escrow_key].escrow_id in cancelled
            kind = EntryKind.PENALTY if penalty else EntryKind.PAYOUT
            debit = f"address:{to}"
        else:
            kind, debit = EntryKind.FEE, f"address:{to}"
        return _entry(payout, kind, debit, account, payout.escrow_key)

    def _out(
        self,
        transfer: ChainEvent,
        payer: str,
        to: str,
        funded: list[ChainEvent],
        moved: ChainEvent | None,
    ) -> Entry:
        if to == self.vault:
            for event in funded:
                if event.amount == transfer.amount:
                    funded.remove(event)
                    account = f"escrow:{event.escrow_key}"
                    return _entry(transfer, EntryKind.FUND, account, payer, event.escrow_key)
            if moved and moved.escrow_id and moved.state is EscrowState.DISPUTED:
                self.bonds.add(moved.escrow_id)
                return _entry(transfer, EntryKind.BOND, f"bond:{moved.escrow_id}", payer)
        return _entry(transfer, EntryKind.OUTFLOW, f"address:{to}", payer)

    def _bond_end(
        self, transfer: ChainEvent, to: str, payee: str | None, moved: ChainEvent | None
    ) -> Iterator[Entry]:
        over = moved is not None and moved.state in (EscrowState.SETTLED, EscrowState.CANCELLED)
        if over and moved and moved.escrow_id in self.bonds:
            self.bonds.discard(moved.escrow_id)
            kind = EntryKind.BOND_RETURN if payee else EntryKind.BOND_LOSS
            account = f"bond:{moved.escrow_id}"
            yield _entry(transfer, kind, payee or f"address:{to}", account)
        elif payee:
            yield _entry(transfer, EntryKind.DEPOSIT, payee, f"address:{self.vault}")


def _pays(used: ChainEvent | None, transfer: ChainEvent) -> bool:
    # The token tells of the authorisation right before its transfer.
    return used is not None and (used.requester, used.provider, used.amount) == (
        transfer.sender,
        transfer.recipient,
        transfer.amount,
    )


def _disputed(group: list[ChainEvent]) -> ChainEvent | None:
    # A dispute pulls its bond before it moves the escrow.
    return next((e for e in group if e.state is EscrowState.DISPUTED), None)


def _take(payouts: list[ChainEvent], transfer: ChainEvent) -> bool:
    for payout in payouts:
        same = _lower(payout.recipient) == _lower(transfer.recipient)
        if same and payout.amount == transfer.amount:
            payouts.remove(payout)
            return True
    return False


def _lower(address: str | None) -> str:
    return (address or "").lower()


def _entry(
    event: ChainEvent, kind: EntryKind, debit: str, credit: str, escrow_key: str | None = None
) -> Entry:
    assert event.amount is not None
    return Entry(
        block_number=event.block_number,
        block_hash=event.block_hash,
        log_index=event.log_index,
        tx_hash=event.tx_hash,
        at=event.at,
        kind=kind,
        debit=debit,
        credit=credit,
        amount=event.amount,
        escrow_key=escrow_key,
    )
