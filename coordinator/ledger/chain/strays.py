"""USDC that left the wallet for HTTP requests, and that nobody here had signed for."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

from coordinator.domain.chain.accounts import OwnAccount
from coordinator.domain.chain.journal import Entry, EntryKind
from coordinator.domain.notices import unasked_payment
from coordinator.ledger.tx.pausing import Pause, pause_scope
from coordinator.ledger.tx.transaction import Tx

log = logging.getLogger(__name__)

#: The scope of pauses that stops payments for HTTP requests, and top-ups of their wallet.
SCOPE: Final = ("x402", "")
_LEFT: Final = frozenset({EntryKind.OUTFLOW, EntryKind.FUND, EntryKind.BOND})


def stop_payments(tx: Tx, what: str, tx_hash: str, *, now: int) -> None:
    """Pause payments for HTTP requests and tell people, once for each of these transactions."""
    log.error("x402_unasked tx_hash=%s what=%s", tx_hash, what)
    why = f"{what} ({tx_hash}): somebody else may have the wallet's key; check it, then unpause"
    pause_scope(tx, Pause(*SCOPE, why, "executor", now))
    tx.record(now, "x402_unasked", "x402", why=what, tx_hash=tx_hash)
    tx.notify([unasked_payment(what, tx_hash, now)])


def look_for_strays(
    tx: Tx, accounts: Iterable[OwnAccount], entries: Iterable[Entry], *, now: int
) -> None:
    """Stop payments where USDC left the wallet by anything but an authorisation."""
    wallets = {account.name for account in accounts if account.wallet}
    for entry in entries:
        if entry.credit in wallets and entry.kind in _LEFT:
            to = entry.debit.partition(":")[2]
            what = f"{entry.amount} USDC left the wallet for {to} without an authorisation"
            stop_payments(tx, what, entry.tx_hash, now=now)
