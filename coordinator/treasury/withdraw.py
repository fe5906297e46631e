"""Order USDC out of the treasury, or test tokens into it."""

from __future__ import annotations

import secrets

from coordinator.domain.address import checksummed
from coordinator.domain.errors import InvalidRequest
from coordinator.domain.policy.payees import Contracts, not_payable
from coordinator.domain.purchase.deciding import not_an_approver
from coordinator.domain.purchase.order import Order
from coordinator.domain.reasons import Reason, ReasonCode
from coordinator.domain.usdc import Usdc
from coordinator.ledger.tx.operations import insert_order
from coordinator.ledger.tx.transaction import Tx


def may_not_withdraw(
    tx: Tx, amount: Usdc, approver: str, *, to: str, treasury: str, now: int
) -> Reason | None:
    """Say why the approver may not order it; None when they may.

    It may not be of more than the treasury has beside what purchases on their way need.
    """
    refusal = not_an_approver(tx.policy, approver) or not_listed(tx, to)
    funds = tx.treasury_state.funds(treasury, now)
    if refusal is not None or funds is None or amount <= funds.usdc_free:
        return refusal
    return Reason(
        ReasonCode.INSUFFICIENT_USDC,
        f"the treasury has {funds.usdc_free} USDC available ({funds.as_of}):"
        f" {amount} can't be withdrawn",
    )


def not_listed(tx: Tx, recipient: str) -> Reason | None:
    """Say why the policy lets nothing be withdrawn to the address; None when it does."""
    trust = tx.trust
    why = tx.policy.withdrawal_refused(recipient, trust.chain_id if trust is not None else 0)
    return Reason(ReasonCode.RECIPIENT_NOT_LISTED, why) if why is not None else None


def recipient_address(to: str, contracts: Contracts) -> str:
    """Return the checksummed address; InvalidRequest for none, or one where USDC would be lost."""
    try:
        address = checksummed(to)
    except ValueError as fault:
        raise InvalidRequest(str(fault), code="invalid_recipient") from None
    if (why := not_payable(address, contracts)) is not None:
        raise InvalidRequest(why, code="invalid_recipient")
    return address


def order_mint(tx: Tx, *, recipient: str, amount: Usdc, by: str, now: int) -> Order:
    """Order the minting of test tokens; the executor sends it in the signer's nonce lane."""
    order_id, reason = "mnt_" + secrets.token_hex(10), "funded for tests"
    insert_order(
        tx,
        "mint",
        order_id=order_id,
        recipient=recipient,
        amount=amount,
        by=by,
        reason=reason,
        now=now,
    )
    return Order(order_id, "mint", recipient, amount, by, reason, "approved", now)
