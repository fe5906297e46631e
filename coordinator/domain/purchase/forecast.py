"""The treasury's money as it will be when everything in flight has been mined."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from coordinator.domain.chain.gas import GAS_LIMITS, Fees, eth, reserve_wei
from coordinator.domain.chain.steps import Call, Step, StepKind
from coordinator.domain.ports import Observation
from coordinator.domain.purchase.planning import OpenPurchase
from coordinator.domain.reasons import Reason, ReasonCode
from coordinator.domain.usdc import ZERO, Usdc

_SENDS: Final = (StepKind.WITHDRAW, StepKind.SWEEP, StepKind.TOP_UP)
_PULLS: Final = (StepKind.LINK, StepKind.DISPUTE)


@dataclass(slots=True)
class Forecast:
    """The treasury's money as it will be when everything in flight has been mined."""

    usdc: Usdc
    allowance: Usdc
    gas_free_wei: int
    create_nonce: int
    chain_left: Usdc | None = None
    calls: list[Call] = field(default_factory=list)

    @classmethod
    def of(cls, seen: Observation, in_flight: Iterable[Step], reserved_wei: int) -> Forecast:
        forecast = cls(
            seen.usdc_balance,
            seen.usdc_allowance,
            seen.gas_balance_wei - reserved_wei,
            seen.create_nonce,
            seen.chain_limit.left if seen.chain_limit is not None else None,
        )
        for step in in_flight:
            if step.nonce >= seen.nonce and not step.given_up:
                for call in step.call.parts:
                    forecast._account(call)
        return forecast

    def add(self, call: Call) -> None:
        self._account(call)
        self.calls.append(call)

    def _account(self, call: Call) -> None:
        if call.kind is StepKind.APPROVE:
            self.allowance = call.usdc or ZERO
        elif call.kind in _PULLS and call.usdc is not None:
            self.usdc -= call.usdc
            self.allowance -= call.usdc
            # Bonds have an allowance of their own.
            if self.chain_left is not None and call.kind is StepKind.LINK:
                self.chain_left -= call.usdc
        elif call.kind in _SENDS and call.usdc is not None:
            self.usdc -= call.usdc
        elif call.kind is StepKind.CREATE:
            self.create_nonce += 1

    def shortage(self, amount: Usdc, needed_wei: int) -> Reason | None:
        """Say what a purchase of ``amount`` lacks, whose gas may cost ``needed_wei``."""
        if amount > self.usdc:
            return Reason(
                ReasonCode.INSUFFICIENT_USDC,
                f"the treasury has {self.usdc} USDC available; {amount} is needed",
            )
        if needed_wei > self.gas_free_wei:
            return Reason(
                ReasonCode.INSUFFICIENT_GAS,
                f"its gas may cost {eth(needed_wei)} ETH;"
                f" only {eth(max(0, self.gas_free_wei))} ETH is available",
            )
        return None

    def with_allowance(self, standing: Usdc | None, approve: Callable[[Usdc], Call]) -> list[Call]:
        """Return the queued calls, after an approval if the allowance is too small for them.

        It is raised to ``standing`` (None: each call approves what it takes), or to what they need
        when that is more. It stands in the same nonce forecast: links before it use the old
        allowance, links after it the new one.
        """
        needed = sum(c.usdc.base_units for c in self.calls if c.kind in _PULLS and c.usdc)
        if standing is None or not needed or self.allowance >= ZERO:
            return self.calls
        return [approve(max(standing, Usdc.from_base_units(needed))), *self.calls]


def reserved_wei(purchases: Sequence[OpenPurchase], in_flight: Sequence[Step], fees: Fees) -> int:
    """Return the wei that unfinished purchases may still cost, at the fee ceiling."""
    started = [p for p in purchases if p.steps]
    ends = reserve_wei(fees, unstarted=0, unended=len(started))
    return ends + sum(_signed_wei(step, fees) for step in in_flight)


def _signed_wei(step: Step, fees: Fees) -> int:
    """Return what a step may cost; a batch that fails is taken apart, and made again."""
    if not step.call.members:
        return fees.ceiling_wei(GAS_LIMITS[step.kind.value], 1)
    purchases = len({call.purchase_id for call in step.call.members})
    gas = max(step.call.gas_limit, purchases * fees.making_gas)
    return fees.max_fee_per_gas * gas + 2 * purchases * fees.l1_fee_upper_bound_wei
