"""ACTP's states and least amounts in the project's words.

ACTP says transaction for our escrow, and escrow id for our escrow key. Its states translate as

    INITIATED created · QUOTED quoted · COMMITTED funded · IN_PROGRESS started ·
    DELIVERED delivered · SETTLED settled · DISPUTED disputed · CANCELLED cancelled
"""

from __future__ import annotations

from typing import Final

from coordinator.domain.chain.events import EscrowState
from coordinator.domain.usdc import Usdc

# By the kernel's numbers.
STATES: Final = (
    EscrowState.CREATED,
    EscrowState.QUOTED,
    EscrowState.FUNDED,
    EscrowState.STARTED,
    EscrowState.DELIVERED,
    EscrowState.SETTLED,
    EscrowState.DISPUTED,
    EscrowState.CANCELLED,
)

# Below it the kernel's penalty (5 %) is less than its smallest fee (0.05 USDC), and a reclaim after
# the deadline reverts `Fee exceeds amount`: only the provider could free the USDC.
MINIMUM_AMOUNT: Final = Usdc("1.00")

MINIMUM_BOND: Final = Usdc("1.00")
