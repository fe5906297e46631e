"""Differences of a Safe's storage, as it was read last: each that appears is told once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from coordinator.domain.notices import treasury_differs, treasury_differs_no_more
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

    def compare(self, found: Sequence[str], *, now: int) -> None:
        """Tell what differs and did not before; that stops spending, for no event has told it.

        What this database finds first is how its owners made the Safe: it is told alone.
        """
        with self._transactions.read() as tx:
            if self._before(tx) == [*found]:
                return
        with self._transactions.write() as tx:
            before = self._before(tx)
            if before == [*found]:
                return
            tx.record(now, _CHECKED, _SUBJECT, differences=[*found])
            new = [one for one in found if one not in (before or ())]
            gone = [one for one in before or () if one not in found]
            for one in new:
                log.error("treasury_differs %s", one)
            tx.notify(treasury_differs(one, now, foreign=before is not None) for one in new)
            tx.notify(treasury_differs_no_more(one, now) for one in gone)
            if new and before is not None:
                why = f"the Safe is not as it was: {'; '.join(new)}; check it, then unpause"
                pause_everything(tx, why, by="executor", now=now)

    @staticmethod
    def _before(tx: Tx) -> list[str] | None:
        rows = tx.proven(_SUBJECT, events=(_CHECKED,), newest=1, skip=True)
        return list(rows[-1].body["differences"]) if rows else None
