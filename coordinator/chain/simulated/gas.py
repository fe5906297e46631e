"""Gas: what each call costs, and EIP-1559's base fee."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# Execution above the intrinsic gas, by what was done.
_EXECUTION: Final = {
    "approve": 34_000,
    "transfer": 44_000,
    "transferFrom": 52_000,
    "mint": 56_000,
    "createTransaction": 262_000,
    "acceptQuote": 40_000,
    "linkEscrow": 198_000,
    "releaseMilestone": 150_000,
    "INITIATED to QUOTED": 45_000,
    "INITIATED to CANCELLED": 23_000,
    "QUOTED to CANCELLED": 23_000,
    "COMMITTED to IN_PROGRESS": 23_000,
    "COMMITTED to CANCELLED": 146_000,
    "IN_PROGRESS to DELIVERED": 28_000,
    "IN_PROGRESS to CANCELLED": 90_000,
    "DELIVERED to SETTLED": 109_000,
    "DELIVERED to DISPUTED": 150_000,
    "DISPUTED to SETTLED": 170_000,
    "DISPUTED to CANCELLED": 110_000,
}
_OTHERWISE: Final = 30_000
_REVERTED: Final = 12_000


def execution_gas(work: str, *, reverted: bool) -> int:
    """Gas above the intrinsic; ``work`` is a function's name or a move of the kernel."""
    return _REVERTED if reverted else _EXECUTION.get(work, _OTHERWISE)


@dataclass(frozen=True, slots=True)
class FeeMarket:
    """EIP-1559: how the base fee follows the use of blocks."""

    elasticity: int
    denominator: int
    minimum_wei: int

    def next_base_fee(self, base_fee: int, gas_used: int, gas_limit: int) -> int:
        target = gas_limit // self.elasticity
        change = base_fee * abs(gas_used - target) // target // self.denominator
        if gas_used > target:
            base_fee += max(1, change)
        else:
            base_fee -= change
        return max(base_fee, self.minimum_wei)


BASE: Final = FeeMarket(elasticity=6, denominator=125, minimum_wei=5_000_000)
# The market of Anvil and of Ethereum itself.
ETHEREUM: Final = FeeMarket(elasticity=2, denominator=8, minimum_wei=0)
