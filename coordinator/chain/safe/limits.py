"""The limits that the chain keeps for a treasury, as one value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from coordinator.chain.safe.allowances import Allowance
from coordinator.domain.policy.chain_limits import APPROVED_PARTS, at_once
from coordinator.domain.usdc import Usdc

_HOUR: Final = 3600
_DAY: Final = 24 * _HOUR
# In any 24 hours: what was full before them, 24 refills, and for an approval that was kept back
# from before once more what was full.
_APPROVED_REFILLS: Final = APPROVED_PARTS * 24
# Nothing can be kept back of a transfer.
_PAID_PARTS: Final = 2
_PAID_REFILLS: Final = _PAID_PARTS * 24


@dataclass(frozen=True, slots=True, kw_only=True)
class DisputeLimits:
    """``bonds_daily`` in any 24 hours, of which a third at once; ``count_daily`` refills at once.

    So across the edge of two days twice the count may be opened, and never more bonds.
    """

    bonds_daily: Usdc
    count_daily: int

    @property
    def bonds(self) -> Allowance:
        return approved_in_a_day(self.bonds_daily)

    @property
    def count(self) -> Allowance:
        return Allowance.bucket(self.count_daily, refill=self.count_daily, period=_DAY)


@dataclass(frozen=True, slots=True, kw_only=True)
class X402Limits:
    """``daily`` in any 24 hours, of which half at once, to ``wallet`` and nobody else."""

    wallet: str
    daily: Usdc

    @property
    def transfers(self) -> Allowance:
        size = self.daily.base_units // _PAID_PARTS
        return Allowance.bucket(size, refill=self.daily.base_units // _PAID_REFILLS, period=_HOUR)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainLimits:
    """The owners of the Safe, and what ``member``, the worker's key, may do in its name.

    At most ``daily`` goes to escrows in any 24 hours, whoever has the key, and a third of it at
    once; ``total`` never comes back, and None is no total. One purchase is at most
    ``purchase_max``, for one of ``providers``, with a deadline below the unix second
    ``deadline_before``. Without ``disputes`` the key can open none, without ``x402`` it can
    transfer nothing. ValueError for limits that contradict each other.
    """

    owners: tuple[str, ...]
    threshold: int
    member: str
    providers: tuple[str, ...]
    purchase_max: Usdc
    daily: Usdc
    total: Usdc | None
    deadline_before: int
    disputes: DisputeLimits | None = None
    x402: X402Limits | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.threshold <= len(self.owners):
            raise ValueError(f"{self.threshold} of {len(self.owners)} owners can't sign")
        for kind, addresses in (("an owner", self.owners), ("a provider", self.providers)):
            if not addresses or len(set(addresses)) != len(addresses):
                raise ValueError(f"{kind} is named twice, or there is none")
        if self.member in self.owners:
            raise ValueError(f"the worker's key {self.member} must not own the Safe")
        at_once = Usdc.from_base_units(self.bucket.max_refill)
        if self.purchase_max > at_once:
            raise ValueError(
                f"a purchase of {self.purchase_max} USDC does not fit: of {self.daily} USDC a day"
                f" a third, {at_once} USDC, may go at once"
            )

    @property
    def bucket(self) -> Allowance:
        return approved_in_a_day(self.daily)

    @property
    def once(self) -> Allowance | None:
        return None if self.total is None else Allowance.once(self.total.base_units)


def approved_in_a_day(daily: Usdc) -> Allowance:
    """Return the allowance of which at most ``daily`` reaches escrows in any 24 hours."""
    size = at_once(daily).base_units
    return Allowance.bucket(size, refill=daily.base_units // _APPROVED_REFILLS, period=_HOUR)
