"""Plan the calls due for purchases, disputes and orders, in the order of their nonces."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from coordinator.domain.chain.events import EMPTY
from coordinator.domain.chain.gas import reserve_wei
from coordinator.domain.chain.steps import Call, Step, StepKind
from coordinator.domain.errors import ChainUnavailable, TxReverted
from coordinator.domain.policy.chain_limits import refused_on_chain
from coordinator.domain.policy.policy import Policy
from coordinator.domain.ports import Clock, Observation, Rail, Ticks
from coordinator.domain.purchase.forecast import Forecast, reserved_wei
from coordinator.domain.purchase.lifecycle import Status
from coordinator.domain.purchase.planning import (
    Action,
    OpenPurchase,
    Plan,
    can_dispute,
    changed_amount,
    failed_together,
    over_chain_limit,
    plan,
    refused_creating,
    settles_early,
)
from coordinator.domain.reasons import Reason, ReasonCode
from coordinator.domain.usdc import Usdc
from coordinator.executor.orders import Orders
from coordinator.executor.top_ups import TopUps
from coordinator.executor.trials import Trials
from coordinator.ledger.spend.bonds import BondBook
from coordinator.ledger.spend.purchases import PurchaseBook
from coordinator.ledger.tx.leases import Lease
from coordinator.ledger.tx.operations import OperationsBook

log = logging.getLogger(__name__)

_RETRY_SECONDS: Final = 10
_CREATE_AND_LINK: Final = 2
_FAULTS_MAX: Final = 3


class Work:
    """Chooses calls, and ends purchases that need none. It signs and sends nothing."""

    def __init__(
        self,
        *,
        chain: Rail,
        bonds: BondBook,
        purchases: PurchaseBook,
        operations: OperationsBook,
        allowance_limit: Usdc | None,
        clock: Clock,
        ticks: Ticks,
        usdc_comes: Callable[[], bool] = lambda: False,
        top_ups: TopUps | None = None,
    ) -> None:
        self._top_ups = top_ups
        self._orders = Orders(
            chain=chain,
            operations=operations,
            clock=clock,
            waiting=self._waiting_if_unanswered,
            not_yet=top_ups.waits if top_ups is not None else lambda order: False,
        )
        self._usdc_comes = usdc_comes
        self._trials = Trials(chain)
        self._ticks = ticks
        self._chain = chain
        self._bonds = bonds
        self._purchases = purchases
        self._operations = operations
        self._allowance_limit = allowance_limit
        self._clock = clock
        self._retry_at: dict[str, float] = {}
        self._unanswered: set[str] = set()
        self._faults = 0
        self._lease: Lease | None = None

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
        """Return the calls to make, in order, with the approvals they need before them.

        Escrows are created while there is ``room`` for calls; what comes later waits a round.
        What no node answers a call about waits too, and comes last in the next round. Up to block
        ``final_number`` the books are whole.
        """
        assert seen.fees is not None
        self._begin(lease)
        forecast = Forecast.of(seen, in_flight, reserved_wei(purchases, in_flight, seen.fees))
        self._plan_purchases(policy, purchases, seen, forecast, room, final_number)
        self._plan_disputes(purchases, seen, forecast)
        if self._top_ups is not None:
            self._top_ups.order(lease, policy, seen, in_flight, forecast)
        orders = self._operations.orders_to_send()
        if orders:
            self._chain.confirm(seen)
        self._orders.plan(orders, forecast)
        return forecast.with_allowance(self._allowance_limit, self._chain.approve)

    def _begin(self, lease: Lease) -> None:
        self._lease = lease
        self._faults = 0
        self._trials.begin()

    def _plan_purchases(
        self,
        policy: Policy,
        purchases: Sequence[OpenPurchase],
        seen: Observation,
        forecast: Forecast,
        room: int,
        final_number: int,
    ) -> None:
        paused = {(p.scope_kind, p.scope_id) for p in self._operations.pauses()}
        bonds = self._bonds.to_dispute()
        # Those that no node answers about come last, and only a few of them are asked about again.
        # What failed together with others comes behind what may not be held up by it.
        for purchase in sorted(
            purchases, key=lambda p: (p.id in self._unanswered, failed_together(p))
        ):
            doubted = ("provider", purchase.provider_name) in paused
            chosen = plan(
                # Whoever ordered it to be paid early did so before there was a doubt.
                replace(purchase, settle_wanted=False) if doubted else purchase,
                paused=bool(policy.stops(purchase.agent, purchase.provider_name) & paused),
                early_settle=settles_early(policy, purchase, paused),
                disputing=purchase.id in bonds and can_dispute(purchase, seen.head.at),
                now=self._clock(),
                chain_time=seen.head.at,
                final_number=final_number,
                terms=policy.escrow,
            )
            if chosen.action is Action.CREATE and len(forecast.calls) + _CREATE_AND_LINK > room:
                continue
            if chosen.action is not Action.WAIT:
                # Purchases fail for what was seen, too.
                self._chain.confirm(seen)
            with self._waiting_if_unanswered(purchase.id):
                self._carry_out(purchase, chosen, policy, seen, forecast)
            if self._faults == _FAULTS_MAX:
                return

    @contextlib.contextmanager
    def _waiting_if_unanswered(self, subject: str) -> Iterator[None]:
        """Keep one call that no node answers from holding up the others."""
        try:
            yield
            self._unanswered.discard(subject)
        except ChainUnavailable as fault:
            log.warning("work_waits subject=%s reason=%s", subject, fault)
            self._unanswered.add(subject)
            self._faults += 1

    def _carry_out(
        self,
        purchase: OpenPurchase,
        chosen: Plan,
        policy: Policy,
        seen: Observation,
        forecast: Forecast,
    ) -> None:
        escrow_id = chosen.escrow_id or ""
        if chosen.action is Action.FAIL:
            assert chosen.reason is not None
            wanted = chosen.reason.code is ReasonCode.CANCELLED
            status = Status.CANCELLED if wanted else Status.FAILED
            self._fail(purchase, status, chosen.reason, seen)
        elif chosen.action is Action.CREATE:
            # One that people have to decide again would keep back those behind it.
            if seen.rail_trouble is None and purchase.stranded is None:
                self._create(purchase, policy, seen, forecast)
        elif chosen.action is Action.LINK:
            self._link(purchase, escrow_id, seen, forecast)
        elif chosen.action is Action.CANCEL:
            self._cancel(purchase, escrow_id, chosen.reason, forecast)
        elif chosen.action is Action.SETTLE:
            self._settle(purchase, escrow_id, seen, forecast)
        elif chosen.action is Action.RECLAIM:
            call = self._chain.reclaim(purchase_id=purchase.id, escrow_id=escrow_id)
            self._try(purchase, call, forecast)

    def _settle(
        self, purchase: OpenPurchase, escrow_id: str, seen: Observation, forecast: Forecast
    ) -> None:
        on_chain = self._chain.escrow(escrow_id)
        ends, told = on_chain.window_ends, self._chain.windows(escrow_id, head=seen.head.number)
        if told != {ends}:
            raise ChainUnavailable(f"endpoints tell other ends of its window: {ends} and {told}")
        call = replace(
            self._chain.settle(purchase_id=purchase.id, escrow_id=escrow_id),
            window_over=ends is not None and seen.head.at > ends,
            terms=replace(purchase.terms, escrow_key=on_chain.escrow_key),
        )
        self._try(purchase, call, forecast)

    def _fail(
        self, purchase: OpenPurchase, status: Status, reason: Reason, seen: Observation
    ) -> None:
        assert self._lease is not None
        signed = self._purchases.signed(self._lease, purchase.id)
        if self._funded_unseen(purchase, linked=StepKind.LINK in signed.values()):
            return
        done = self._purchases.fail(
            self._lease,
            purchase.id,
            status,
            reason,
            signer=seen.account,
            used=seen.nonce,
            now=self._clock(),
        )
        if done:
            log.warning("purchase_%s purchase_id=%s why=%s", status, purchase.id, reason.message)

    def _funded_unseen(self, purchase: OpenPurchase, *, linked: bool = False) -> bool:
        """Return whether the vault was funded under its key in a block unknown to the books.

        Then the hold must stay, whatever the steps say: the USDC has left for this purchase.
        ``linked`` tells that a link of it was signed, whatever its steps say.
        """
        linked = linked or any(step.kind is StepKind.LINK for step in purchase.steps)
        if (
            purchase.key_known
            or not linked
            or not self._chain.funded_by_treasury(purchase.escrow_key)
        ):
            return False
        message = (
            f"{purchase.amount} USDC: the vault was funded under this purchase's key in a block"
            " before the books begin; rebuild with an earlier COORDINATOR_START_BLOCK"
        )
        self._strand(purchase, message)
        return True

    def _create(
        self, purchase: OpenPurchase, policy: Policy, seen: Observation, forecast: Forecast
    ) -> None:
        assert seen.fees is not None
        needed_wei = reserve_wei(seen.fees, unstarted=1, unended=0)
        short = forecast.shortage(purchase.amount, needed_wei) or self._over_chain_limit(
            purchase, policy, seen, forecast
        )
        if short is not None:
            if short.code is not ReasonCode.INSUFFICIENT_USDC or not self._usdc_comes():
                self._fail(purchase, Status.FAILED, short, seen)
            return
        made_at = functools.partial(self._calls, purchase, policy, seen)
        if failed := failed_together(purchase):
            verdict = self._trials.judge(made_at, seen)
            if verdict.refusal is not None:
                self._fail(purchase, Status.FAILED, refused_creating(verdict.refusal), seen)
            if not verdict.go:
                return
        create, link = made_at(forecast.create_nonce)
        forecast.gas_free_wei -= needed_wei
        # What failed although the contracts would have taken it is made by itself.
        forecast.add(replace(create, alone=failed > 1))
        forecast.add(link)

    def _calls(
        self, purchase: OpenPurchase, policy: Policy, seen: Observation, create_nonce: int
    ) -> tuple[Call, Call]:
        create = self._chain.create(
            purchase_id=purchase.id,
            provider=purchase.provider,
            amount=purchase.amount,
            service=purchase.service,
            deadline=seen.head.at + policy.escrow.deadline_after,
            dispute_window=policy.escrow.dispute_window,
            create_nonce=create_nonce,
        )
        assert create.escrow_id is not None
        return replace(create, terms=purchase.terms), self._link_call(purchase, create.escrow_id)

    def _over_chain_limit(
        self, purchase: OpenPurchase, policy: Policy, seen: Observation, forecast: Forecast
    ) -> Reason | None:
        if seen.chain_limit is None:
            return None
        deadline = seen.head.at + policy.escrow.deadline_after
        why = refused_on_chain(policy, purchase.provider_name, purchase.amount, deadline)
        if why is not None:
            return Reason(ReasonCode.CHAIN_LIMIT, why)
        return over_chain_limit(purchase.amount, forecast.chain_left, seen.chain_limit)

    def _link_call(self, purchase: OpenPurchase, escrow_id: str) -> Call:
        link = self._chain.link(
            purchase_id=purchase.id,
            escrow_id=escrow_id,
            escrow_key=purchase.escrow_key,
            amount=purchase.amount,
        )
        return replace(link, terms=purchase.terms)

    def _link(
        self, purchase: OpenPurchase, escrow_id: str, seen: Observation, forecast: Forecast
    ) -> None:
        if seen.rail_trouble is not None:
            return
        try:
            on_chain = self._chain.escrow(escrow_id)
        except TxReverted:
            # Its block was lost: the link would revert, and what the books know follows.
            return
        wrong = forecast.shortage(purchase.amount, 0) or changed_amount(purchase, on_chain.amount)
        if wrong is not None:
            self._cancel(purchase, escrow_id, wrong, forecast)
            return
        call = self._link_call(purchase, escrow_id)
        if on_chain.provider.lower() != purchase.provider.lower():
            call = replace(call, terms=replace(purchase.terms, payee=on_chain.provider))
        forecast.add(call)

    def _cancel(
        self, purchase: OpenPurchase, escrow_id: str, reason: Reason | None, forecast: Forecast
    ) -> None:
        try:
            on_chain = self._chain.escrow(escrow_id)
        except TxReverted:
            return
        if on_chain.state not in EMPTY:
            return
        linked = any(escrow.linked for escrow in purchase.escrows)
        if not linked and self._funded_unseen(purchase):
            return
        call = self._chain.cancel(purchase_id=purchase.id, escrow_id=escrow_id)
        if self._try(purchase, call, forecast) and reason is not None:
            self._purchases.explain_cancel(purchase.id, reason, now=self._clock())

    def _try(self, purchase: OpenPurchase, call: Call, forecast: Forecast) -> bool:
        """Queue a call if the contract would accept it; else report it as stranded, try later."""
        key = f"{call.kind}:{call.escrow_id}"
        if self._ticks() < self._retry_at.get(key, 0.0):
            return False
        refusal = self._chain.refusal(call)
        if refusal is None:
            self._retry_at.pop(key, None)
            forecast.add(call)
            return True
        self._retry_at[key] = self._ticks() + _RETRY_SECONDS
        message = (
            f"{purchase.amount} USDC: the contract refuses to {call.kind} it ({refusal});"
            " tried again until it accepts"
        )
        self._strand(purchase, message)
        return False

    def _strand(self, purchase: OpenPurchase, message: str) -> None:
        if purchase.stranded != message:
            log.error("purchase_stranded purchase_id=%s why=%s", purchase.id, message)
            self._purchases.note_stranded(purchase.id, message, now=self._clock())

    def _plan_disputes(
        self, purchases: Sequence[OpenPurchase], seen: Observation, forecast: Forecast
    ) -> None:
        bonds = self._bonds.to_dispute()
        for purchase in purchases:
            bond = bonds.get(purchase.id)
            linked = next((e for e in purchase.escrows if e.linked), None)
            if bond is None or linked is None or any(s.in_flight for s in purchase.steps):
                continue
            if not can_dispute(purchase, seen.head.at):
                continue
            with self._waiting_if_unanswered(purchase.id):
                self._dispute(purchase, linked.escrow_id, bond, forecast)

    def _dispute(
        self, purchase: OpenPurchase, escrow_id: str, bond: Usdc, forecast: Forecast
    ) -> None:
        try:
            key = self._chain.escrow(escrow_id).escrow_key
        except TxReverted:
            return
        call = replace(
            self._chain.dispute(purchase_id=purchase.id, escrow_id=escrow_id, bond=bond),
            terms=replace(purchase.terms, escrow_key=key),
        )
        if self._allowance_limit is None or bond <= forecast.allowance:
            self._try(purchase, call, forecast)
        else:
            # The contract would refuse it before the approval that will stand ahead of it.
            forecast.add(call)
