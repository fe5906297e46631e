"""Let purchases go on that the worker kept back, once it may sign for them."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from coordinator.domain.chain.steps import Call, StepKind
from coordinator.ledger.chain.signable import NOTHING_SIGNED, Signable
from coordinator.ledger.chain.worker_judge import OWN_LIMIT
from coordinator.ledger.proofs.evidence import Evidence, Seen
from coordinator.ledger.spend.stranding import strand
from coordinator.ledger.tx.transaction import Tx

log = logging.getLogger(__name__)


def is_kept_back(stranded: str) -> bool:
    """Whether it is stranded by the worker's own judgement, which may change."""
    return stranded.endswith(NOTHING_SIGNED)


def free_kept_back(
    tx: Tx, evidence: Evidence, kept: Mapping[str, str], *, seen: Seen | None, now: int
) -> bool:
    """Free those for which nothing stands against a create any more; whether there is any.

    ``kept`` has by id why each is kept back; who is kept back for another reason is told so.

    They are judged before they are planned, so that one which is kept back holds up no others:
    escrow ids are predicted in the order of the creates.
    """
    signable = Signable(tx, evidence, now=now, seen=seen)
    calls = [
        Call(kind=StepKind.CREATE, to="", data="", gas_limit=0, purchase_id=purchase_id)
        for purchase_id in kept
    ]
    signable.read(calls)
    # Whoever has to be asked again is asked when it is planned.
    free = [
        call.purchase_id or ""
        for call in calls
        if signable.allows(call) or call.purchase_id in signable.unapproved
    ]
    for purchase_id in free:
        log.info("purchase_unstranded purchase_id=%s", purchase_id)
        strand(tx, purchase_id, None, now=now)
    for purchase_id, why in signable.stranded.items():
        # What the limit leaves changes with each signature.
        if OWN_LIMIT not in why or OWN_LIMIT not in kept[purchase_id]:
            strand(tx, purchase_id, why, now=now)
    return bool(free)
