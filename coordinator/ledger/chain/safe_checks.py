"""Differences of a Safe's storage, as it was read last: each that appears is told once."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import Final

from coordinator.domain.chain.events import EventKind
from coordinator.domain.notices import treasury_differs, treasury_differs_no_more
from coordinator.domain.ports import SafeDifferences
from coordinator.ledger.tx.pausing import pause_everything
from coordinator.ledger.tx.transaction import Tx
from coordinator.ledger.tx.transactions import Transactions

log = logging.getLogger(__name__)

_SUBJECT: Final = "safe"
_CHECKED: Final = "safe_checked"


class SafeChecks:
    """Keeps in the audit log what was found last, so that a restart neither loses nor repeats."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def compare(self, found: SafeDifferences, *, now: int) -> None:
        """Tell what differs and did not before; other code or actors stop spending, too.

        Actors do so only where no event has told a change. What this database finds first is how
        its owners made the Safe: it is told alone. Limits differ until owners have signed a policy.
        """
        with self._transactions.read() as tx:
            if self._last(tx)[1] == found:
                return
        with self._transactions.write() as tx:
            seq, known = self._last(tx)
            if known == found:
                return
            tx.record(now, _CHECKED, _SUBJECT, **asdict(found))
            before = known or SafeDifferences()
            foreign = {one for one in found.code if one not in before.code}
            if not self._changed_since(tx, seq):
                foreign |= {one for one in found.actors if one not in before.actors}
            if known is None:
                foreign.clear()
            for one in found.all:
                if one not in before.all:
                    log.error("treasury_differs %s", one)
                    tx.notify([treasury_differs(one, now, foreign=one in foreign)])
            gone = [one for one in before.all if one not in found.all]
            tx.notify(treasury_differs_no_more(one, now) for one in gone)
            if foreign:
                why = f"the Safe is not as it was: {'; '.join(sorted(foreign))}"
                pause_everything(tx, f"{why}; check it, then unpause", by="executor", now=now)

    @staticmethod
    def _last(tx: Tx) -> tuple[int, SafeDifferences | None]:
        rows = tx.proven(_SUBJECT, events=(_CHECKED,), newest=1, skip=True)
        if not rows:
            return 0, None
        body = {name: tuple(told) for name, told in rows[-1].body.items()}
        return rows[-1].seq, SafeDifferences(**body)

    @staticmethod
    def _changed_since(tx: Tx, seq: int) -> bool:
        rows = tx.proven(_SUBJECT, events=(EventKind.TREASURY_CHANGED,), newest=1, skip=True)
        return bool(rows) and rows[-1].seq > seq
