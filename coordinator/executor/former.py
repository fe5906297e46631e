"""End what a former account of the treasury began, and move its USDC to the present one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from coordinator.domain.chain.events import EMPTY, OVER, Block, EscrowState
from coordinator.domain.chain.gas import GAS_LIMITS, reserve_wei
from coordinator.domain.chain.steps import Call, Step, StepKind
from coordinator.domain.policy.policy import Policy
from coordinator.domain.ports import Chain, Clock, Observation
from coordinator.domain.purchase.forecast import Forecast, reserved_wei
from coordinator.domain.purchase.planning import Action, OpenPurchase, Plan
from coordinator.domain.usdc import ZERO, Usdc
from coordinator.executor.due import Work
from coordinator.executor.rounds import Rounds
from coordinator.ledger.ledger import Ledger
from coordinator.ledger.tx.leases import Lease

# Anybody may send it less again and again: moving it would cost more than it is.
SWEPT_FROM: Final = Usdc("1")
_ENDS: Final = frozenset({Action.CANCEL, Action.SETTLE, Action.RECLAIM})


class EndingWork(Work):
    """Plans the ends of a former account's escrows, and moves what USDC they do not need.

    It creates and funds nothing. The bond that contesting an escrow would take stays, because the
    kernel takes it from whoever contests.
    """

    def __init__(self, *, to: str, chain: Chain, **terms: Any) -> None:
        super().__init__(chain=chain, **terms)
        self._former = chain
        self._to = to
        self._bond_of: dict[str, Usdc] = {}
        #: Whether USDC is on its way to the present account, or may be: nothing was planned yet.
        self.sends = True

    def due(
        self,
        lease: Lease,
        policy: Policy,
        purchases: Sequence[OpenPurchase],
        seen: Observation,
        in_flight: Sequence[Step],
        room: int,
        *,
        final_number: int,
    ) -> list[Call]:
        """Return the calls to make, in order; at most one of them moves USDC to the treasury."""
        assert seen.fees is not None
        self._begin(lease)
        forecast = Forecast.of(seen, in_flight, reserved_wei(purchases, in_flight, seen.fees))
        self._plan_purchases(policy, purchases, seen, forecast, room, final_number)
        self._plan_disputes(purchases, seen, forecast)
        self.sends = any(step.kind is StepKind.SWEEP for step in in_flight)
        if not self.sends:
            self._plan_sweep(purchases, seen, forecast)
        return forecast.with_allowance(ZERO, self._chain.approve)

    def _carry_out(
        self,
        purchase: OpenPurchase,
        chosen: Plan,
        policy: Policy,
        seen: Observation,
        forecast: Forecast,
    ) -> None:
        if chosen.action in _ENDS:
            super()._carry_out(purchase, chosen, policy, seen, forecast)

    def _plan_sweep(
        self, purchases: Iterable[OpenPurchase], seen: Observation, forecast: Forecast
    ) -> None:
        if forecast.usdc < SWEPT_FROM:
            return
        contestable = [
            escrow.escrow_id
            for purchase in purchases
            for escrow in purchase.escrows
            if escrow.state not in EMPTY | OVER | {EscrowState.DISPUTED}
        ]
        free = forecast.usdc - sum((self._bond(escrow_id) for escrow_id in contestable), ZERO)
        if free < SWEPT_FROM:
            return
        self._former.confirm(seen)
        self.sends = True
        forecast.add(self._former.sweep(recipient=self._to, amount=free))

    def _bond(self, escrow_id: str) -> Usdc:
        if escrow_id not in self._bond_of:
            self._bond_of[escrow_id] = self._former.escrow(escrow_id).bond
        return self._bond_of[escrow_id]


class FormerRounds(Rounds):
    """Rounds for a former account, in the thread and after the rounds of the present one.

    The present one's follow the chain and tell people; here what is due is done, until the audit
    log tells that the account is ours no more.
    """

    def __init__(self, *, chain: Chain, ledger: Ledger, to: str, **terms: Any) -> None:
        self._to = to
        super().__init__(
            chain=chain,
            ledger=ledger,
            follow=lambda seen, final: None,
            drift=lambda seen: ZERO,
            upkeep=lambda now: None,
            allowance_limit=ZERO,
            **terms,
        )

    def _new_work(self, ledger: Ledger, *, chain: Chain, clock: Clock, **terms: Any) -> Work:
        self._ending = EndingWork(to=self._to, chain=chain, clock=clock, **terms)
        return self._ending

    @property
    def busy(self) -> bool:
        """Whether anything of the account's is in flight, or USDC may have to be moved."""
        return self._ending.sends or self._sender.any_in_flight()

    @property
    def sends_usdc(self) -> bool:
        """Whether USDC is on its way to the present account, or may be."""
        return self._ending.sends

    def run_round(
        self, *, quick: bool, again: bool, finalise: bool = True, head: Block | None = None
    ) -> bool:
        """Run a round; False when the account is not ours, or another executor acts for it."""
        account = self._chain.treasury
        if not any(a.address == account and a.last_block is None for a in self._books.accounts()):
            self.release()
            self._ending.sends = False
            return False
        return super().run_round(quick=quick, again=again, finalise=finalise, head=head)

    def _may_sign(self) -> bool:
        # What is sent to an account that is not followed yet would be booked as lost.
        return {self._chain.treasury, self._to} <= {*self._followed_accounts()}

    def _is_mine(self, purchase: OpenPurchase) -> bool:
        return (purchase.signer or "").lower() == self._chain.treasury.lower()

    def _keep_house(self, now: int) -> None:
        pass

    def _look_for_drift(self, seen: Observation) -> None:
        pass

    def _tell(
        self,
        policy: Policy,
        purchases: Sequence[OpenPurchase],
        seen: Observation,
        in_flight: Sequence[Step],
    ) -> None:
        """Warn of too little ETH alone: of the rest the present account's rounds tell."""
        if seen.fees is None:
            return
        unended = sum(map(self._is_mine, purchases))
        needed_wei = reserve_wei(seen.fees, unstarted=0, unended=unended)
        if seen.usdc_balance >= SWEPT_FROM:
            needed_wei += seen.fees.ceiling_wei(GAS_LIMITS[StepKind.SWEEP.value], 1)
        self._watch.look_at_former(
            seen.account, gas_wei=seen.gas_balance_wei, needed_wei=needed_wei
        )
