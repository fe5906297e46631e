"""Fill the float of the wallet that pays for HTTP requests, from the treasury."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from coordinator.domain.chain.steps import Call, Step, StepKind
from coordinator.domain.policy.policy import Policy
from coordinator.domain.ports import Clock, Observation, Rail
from coordinator.domain.purchase.forecast import Forecast
from coordinator.domain.purchase.order import Order
from coordinator.domain.usdc import ZERO, Usdc
from coordinator.domain.x402.top_ups import TOP_UP, Float, missing
from coordinator.executor.watch import Watch
from coordinator.ledger.proofs.evidence import Seen
from coordinator.ledger.tx.leases import Lease
from coordinator.ledger.tx.operations import OperationsBook
from coordinator.ledger.x402.top_up_book import TopUpBook, Wanted

log = logging.getLogger(__name__)

# What links take is held for their purchases already.
_BESIDE_HOLDS: Final = (StepKind.WITHDRAW, StepKind.DISPUTE, StepKind.TOP_UP)


class TopUps:
    """Orders a top-up once the float is below its mark, and tells people where it can't.

    ``followed`` are the accounts that the journal follows in the blocks to come: what was sent to
    another would be booked as lost.
    """

    def __init__(
        self,
        *,
        chain: Rail,
        book: TopUpBook,
        operations: OperationsBook,
        watch: Watch,
        followed: Callable[[], Sequence[str]],
        believed: Callable[[], Seen],
        clock: Clock,
    ) -> None:
        self._chain = chain
        self._book = book
        self._operations = operations
        self._watch = watch
        self._followed = followed
        self._believed = believed
        self._clock = clock

    def order(
        self,
        lease: Lease,
        policy: Policy,
        seen: Observation,
        in_flight: Sequence[Step],
        forecast: Forecast,
    ) -> None:
        """Order one where it is due; the plan of this round sends it."""
        wallet, usdc = seen.wallet, seen.wallet_balance
        if wallet is None or usdc is None:
            return
        terms = policy.request_payments
        if terms.top_up_below is None:
            self._watch.look_at_float(None)
            return
        held = self._book.held()
        found = Float(usdc, held.wallet)
        wanted = missing(found, below=terms.top_up_below, to=terms.top_up_to)
        if wanted is None:
            self._watch.look_at_float(None)
            return
        if wallet not in self._followed() or self._is_under_way(in_flight):
            return
        pending = [s.call for s in in_flight if s.nonce >= seen.nonce and not s.given_up]
        spare = seen.usdc_balance - self._leaving([*pending, *forecast.calls]) - held.treasury
        why = self._ask(lease, Wanted(wallet, wanted, min(spare, forecast.usdc)), seen)
        if why is not None:
            self._watch.look_at_float(
                f"the wallet for HTTP requests has {found.free} USDC beside holds, below the"
                f" policy's {terms.top_up_below}, and is not filled: {why}"
            )

    def waits(self, order: Order) -> bool:
        """Whether it is one to the wallet, and the journal does not follow that yet."""
        wallet = self._believed().wallet
        return order.kind == TOP_UP and order.recipient == wallet and wallet not in self._followed()

    def _is_under_way(self, in_flight: Sequence[Step]) -> bool:
        ordered = (order.kind for order in self._operations.orders("approved"))
        return TOP_UP in ordered or any(step.kind is StepKind.TOP_UP for step in in_flight)

    def _ask(self, lease: Lease, wanted: Wanted, seen: Observation) -> str | None:
        """Order what can be sent of it; return why not, where nothing was."""
        believed, now = self._believed(), self._clock()
        why = self._book.refused(wanted, seen=believed, now=now)
        if why is not None:
            return why
        self._chain.confirm(seen)
        ordered = self._book.order(lease, wanted, seen=believed, now=now)
        if isinstance(ordered, str):
            return ordered
        log.info("top_up_ordered amount=%s", ordered)
        return None

    def _leaving(self, calls: Iterable[Call]) -> Usdc:
        """Add up what leaves the treasury beside what is held for purchases."""
        sent = [c.usdc for c in calls if c.kind in _BESIDE_HOLDS and c.usdc is not None]
        unsent = [o.amount for o in self._operations.orders_to_send() if o.kind == "withdraw"]
        return sum([*sent, *unsent], ZERO)
