"""Contest a delivery: nothing pays it early any more, and approvers are told until when."""

from __future__ import annotations

from coordinator.domain.notices import contested
from coordinator.domain.purchase.lifecycle import Status, may_not_dispute
from coordinator.domain.purchase.purchase import Answer
from coordinator.domain.reasons import Reason, ReasonCode
from coordinator.ledger.spend.moves import is_in_flight, stop_early_settling
from coordinator.ledger.spend.reading import read_purchase
from coordinator.ledger.tx.transaction import Tx


def contest(tx: Tx, purchase_id: str, *, agent: str, reason: str, now: int) -> Answer:
    """Stop the early settling of the agent's delivered purchase and ask approvers to look.

    Only they can dispute it; after its window the provider is paid all the same.
    """
    purchase = read_purchase(tx, purchase_id)
    if purchase.status is Status.DISPUTED:
        return Answer(True, purchase)
    said = tx.proven(purchase_id, events=("settle_wanted", "purchase_contested"), newest=1)
    if said and said[-1].event == "purchase_contested":
        return Answer(True, purchase)
    refusal = may_not_dispute(purchase.status, now=now, window_ends=purchase.window_ends)
    if refusal is None and is_in_flight(tx, purchase.id):
        refusal = Reason(ReasonCode.NOT_SETTLEABLE, "its settling is on its way already")
    if refusal is None and said and said[-1].body["by"] != agent:
        refusal = Reason(ReasonCode.NOT_SETTLEABLE, "approvers have ordered its settling already")
    if refusal is not None:
        return Answer(False, purchase, refusal)
    stop_early_settling(tx, purchase.id, by=agent, reason=reason, now=now)
    shown = purchase.provider_name or purchase.provider
    tx.notify([contested(purchase.id, agent, shown, purchase.amount, purchase.window_ends, now)])
    return Answer(True, read_purchase(tx, purchase.id))
