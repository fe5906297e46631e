"""Tell people why something was not signed."""

from __future__ import annotations

from typing import Final

from coordinator.ledger.chain.signable import Signable
from coordinator.ledger.chain.step_ends import fail_order
from coordinator.ledger.spend.stranding import strand
from coordinator.ledger.spend.waiting_again import wait_again
from coordinator.ledger.tx.pausing import report_tampering
from coordinator.ledger.tx.transaction import Tx

_ORDERS: Final = ("wdr_", "mnt_", "top_")


def tell_findings(tx: Tx, signable: Signable, now: int) -> None:
    """Fail orders, strand purchases, ask people again and report tampering, as was judged."""
    for order_id, why in signable.failed.items():
        fail_order(tx, order_id, why, now)
    for purchase_id, why in signable.stranded.items():
        strand(tx, purchase_id, why, now=now)
    for purchase_id, why in signable.unapproved.items():
        wait_again(tx, purchase_id, why, now=now)
    for subject, what in signable.tampered.items():
        if subject.startswith(_ORDERS):
            # A pause does not stop it: it would be found in every round.
            fail_order(tx, subject, what, now)
        report_tampering(tx, subject, what, now=now)
