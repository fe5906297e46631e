"""A purchase through the role of a Safe: approval, escrow and link in one transaction."""

from __future__ import annotations

from coordinator.domain.chain.events import EscrowState
from coordinator.domain.usdc import Usdc
from tests.integration.treasuries import SafeTreasury


def test_a_purchase_reaches_the_kernel_under_the_predicted_id(treasury: SafeTreasury) -> None:
    before = treasury.chain.balance(treasury.address)

    (escrow_id,) = treasury.buy("40")

    assert treasury.chain.state(escrow_id) is EscrowState.FUNDED
    assert treasury.chain.balance(treasury.address) == before - Usdc("40")
    assert treasury.chain.allowance(treasury.address) == Usdc("0")
