"""Compute the gas a purchase may still need, and how many purchases a balance pays for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

# Receipts of the ACTP rail with Circle's token: create 287k, link 221k, settle 133k, reclaim 170k
# at most; limits leave about half on top, because a limit that is too low reverts and still costs.
GAS_LIMITS: Final = {
    "approve": 90_000,
    "create": 450_000,
    "link": 400_000,
    "settle": 350_000,
    "cancel": 150_000,
    "reclaim": 400_000,
    "dispute": 350_000,
    "withdraw": 100_000,
    "mint": 120_000,
    "sweep": 100_000,
    "top_up": 100_000,
    # Of one purchase, beside what a role's list of providers takes; measured: 690k.
    "batch": 900_000,
    "fill": 21_000,
}
_ENDING: Final = max(GAS_LIMITS[step] for step in ("settle", "cancel", "reclaim"))
PURCHASE_GAS: Final = GAS_LIMITS["create"] + GAS_LIMITS["link"] + _ENDING


@dataclass(frozen=True, slots=True)
class Fees:
    """EIP-1559 fees in wei per gas, and the L1 data fee's upper bound per transaction in wei.

    ``call_gas`` is what each transaction takes beside its own call, where it goes through a Safe,
    and ``making_gas`` what a purchase takes there until it is funded (0: a create and a link).
    """

    max_fee_per_gas: int
    max_priority_fee_per_gas: int
    l1_fee_upper_bound_wei: int = 0
    call_gas: int = 0
    making_gas: int = 0

    def ceiling_wei(self, gas_limit: int, transactions: int) -> int:
        """Return the most that ``transactions`` with ``gas_limit`` in sum can cost."""
        gas = gas_limit + self.call_gas * transactions
        return self.max_fee_per_gas * gas + self.l1_fee_upper_bound_wei * transactions

    def signed_wei(self, gas_limit: int) -> int:
        """Return the most that one transaction costs whose signed limit is ``gas_limit``."""
        return self.max_fee_per_gas * gas_limit + self.l1_fee_upper_bound_wei

    @property
    def purchase_wei(self) -> int:
        """The most that a purchase can cost: create, link and the dearest end.

        Through a Safe these are its share of a batch that fails, one of its own, and the end.
        """
        if not self.making_gas:
            return self.ceiling_wei(PURCHASE_GAS, 3)
        making = self.max_fee_per_gas * self.making_gas + 2 * self.l1_fee_upper_bound_wei
        return making + self.ceiling_wei(_ENDING, 1)


# Where no ceiling is set, what a node says of tips is believed up to here.
_TIP_MAX_WEI: Final = 2 * 10**9


def suggested_fees(
    base_fee_wei: int,
    tip_wei: int,
    l1_fee_upper_bound_wei: int,
    max_fee_wei: int | None,
    *,
    call_gas: int = 0,
    making_gas: int = 0,
) -> Fees | None:
    """maxFee = 2 x base + tip; None while the base fee and tip alone exceed the ceiling.

    Without a ceiling the tip is at most two gwei: a base fee is burnt at what it is, and a tip is
    paid as it was signed.
    """
    if max_fee_wei is None:
        tip_wei = min(tip_wei, _TIP_MAX_WEI)
    wanted = 2 * base_fee_wei + tip_wei
    if max_fee_wei is not None:
        if base_fee_wei + tip_wei > max_fee_wei:
            return None
        wanted = min(wanted, max_fee_wei)
    return Fees(wanted, tip_wei, l1_fee_upper_bound_wei, call_gas, making_gas)


# Strict pools want a tenth more in both fees for a replacement; an eighth is what nodes suggest.
_BUMP: Final = (9, 8)
_BUMPED_MAX: Final = 5


def bumped_fees(
    max_fee_per_gas: int, max_priority_fee_per_gas: int, suggested: Fees, max_fee_wei: int | None
) -> Fees | None:
    """Fees that replace a transaction's: both an eighth higher, rounded up, or as suggested.

    None when that is above five times the suggestion, or above the fee ceiling.
    """
    up, down = _BUMP
    most = max(suggested.max_fee_per_gas, -(-max_fee_per_gas * up // down))
    tip = max(suggested.max_priority_fee_per_gas, -(-max_priority_fee_per_gas * up // down))
    limit = _BUMPED_MAX * suggested.max_fee_per_gas
    if max_fee_wei is not None:
        limit = min(limit, max_fee_wei)
    return Fees(most, min(tip, most), suggested.l1_fee_upper_bound_wei) if most <= limit else None


def with_tip(suggested: Fees, tip_wei: int, max_fee_wei: int | None) -> Fees:
    """Raise the suggestion to at least the tip that a node asks for.

    Unchanged when that is above the fee ceiling, or above two gwei where none is set.
    """
    more = tip_wei - suggested.max_priority_fee_per_gas
    most = suggested.max_fee_per_gas + more
    over = most > max_fee_wei if max_fee_wei is not None else tip_wei > _TIP_MAX_WEI
    if more <= 0 or over:
        return suggested
    return replace(suggested, max_fee_per_gas=most, max_priority_fee_per_gas=tip_wei)


def reserve_wei(fees: Fees, *, unstarted: int, unended: int) -> int:
    """Gas reserved for purchases: ``unstarted`` need create, link and an end, ``unended`` an end.

    Each is counted at the fee ceiling times its gas limits, plus the L1 bound.
    """
    return unstarted * fees.purchase_wei + unended * fees.ceiling_wei(_ENDING, 1)


def purchases_left(balance_wei: int, reserved_wei: int, fees: Fees) -> int:
    """Compute how many more purchases the gas balance can finish at the current fee ceiling."""
    each = fees.purchase_wei
    return max(0, (balance_wei - reserved_wei) // each) if each else 0


def share(paid: int, part: int, parts: int) -> int:
    """Return what the ``part``-th of ``parts`` has of what was paid for all; they add up to it."""
    return paid * part // parts - paid * (part - 1) // parts


def eth(wei: int) -> str:
    """Wei as ETH, exactly, without trailing zeros beyond the first decimal."""
    whole, part = divmod(wei, 10**18)
    decimals = f"{part:018d}".rstrip("0") or "0"
    return f"{whole}.{decimals}"
