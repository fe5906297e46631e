"""Gas: what each call costs, and EIP-1559's base fee."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# Execution above the intrinsic gas, by what was done: receipts of our contracts on Anvil, the
# dearest of each, where storage is written for the first time.
_EXECUTION: Final = {
    "approve": 34_000,
    "transfer": 41_000,
    "transferFrom": 57_000,
    "transferWithAuthorization": 75_000,
    "mint": 51_000,
    "configureMinter": 58_000,
    "createTransaction": 257_000,
    "acceptQuote": 22_000,
    "linkEscrow": 224_000,
    "releaseMilestone": 129_000,
    "reclaim": 163_000,
    "INITIATED to QUOTED": 43_000,
    "INITIATED to CANCELLED": 19_000,
    "QUOTED to CANCELLED": 19_000,
    "COMMITTED to IN_PROGRESS": 21_000,
    "COMMITTED to CANCELLED": 90_000,
    "IN_PROGRESS to DELIVERED": 26_000,
    "IN_PROGRESS to CANCELLED": 93_000,
    "DELIVERED to SETTLED": 141_000,
    "DELIVERED to DISPUTED": 138_000,
    "DISPUTED to SETTLED": 206_000,
    "DISPUTED to CANCELLED": 111_000,
}
_OTHERWISE: Final = 30_000
_CHECKS: Final = 12_000


def execution_gas(work: str, *, wrote: bool) -> int:
    """Gas above the intrinsic; ``work`` is a function's name or a move of the kernel.

    A call that is refused before it wrote anything costs only its checks.
    """
    return _EXECUTION.get(work, _OTHERWISE) if wrote else _CHECKS


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
