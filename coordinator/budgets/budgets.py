"""Use cases of budgets beside purchases: costs, tasks and sessions, more of a limit, shares."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from coordinator.domain.errors import InvalidRequest, UnknownId
from coordinator.domain.inputs import free_text, idempotency_key, identifier, positive_amount
from coordinator.domain.limits.allocation import by_priority, by_usage, fixed, rebalanced
from coordinator.domain.limits.increase import EMERGENCY, INCREASE, Increase
from coordinator.domain.limits.limits import Scope, ScopeKind, Used
from coordinator.domain.limits.rules import BY_HOUR, TASK, Opening, Terms
from coordinator.domain.limits.run import Run
from coordinator.domain.limits.service import Finding, ServiceLevel, review, service_level
from coordinator.domain.policy.tables import Rebalance
from coordinator.domain.ports import Clock
from coordinator.domain.purchase.cost import Cost, CostDecision, CostRequest
from coordinator.domain.shown import Shown
from coordinator.domain.spans import seconds_of
from coordinator.domain.statements.signed import GivenSignature, SigningRequest
from coordinator.domain.usdc import Amount, Usdc
from coordinator.domain.windows import Window
from coordinator.ledger.budgets.allocations import AllocationBook, pair, pool_of, shared
from coordinator.ledger.budgets.increases import IncreaseBook
from coordinator.ledger.budgets.limit_book import LimitBook
from coordinator.ledger.budgets.overlay_book import OverlayBook
from coordinator.ledger.budgets.runs import RunBook
from coordinator.ledger.spend.costs import CostBook
from coordinator.ledger.spend.words import Words
from coordinator.ledger.tx.policies import PolicyBook

METHODS: Final = ("fixed", "by_usage", "by_priority", "rebalance")
_HOLD_SECONDS_MAX: Final = 7 * 86400


@dataclass(frozen=True, slots=True)
class Sharing(Shown):
    """A proposed sharing of a pool's money among its agents; nothing is changed by it.

    ``before`` holds the shares in force, of those agents that have one.
    """

    pool: str
    window: Window
    amount: Usdc
    before: Mapping[str, Usdc]
    after: Mapping[str, Usdc]

    def as_dict(self) -> dict[str, Any]:
        return {
            "pool": self.pool,
            "window": self.window.value,
            "amount": str(self.amount),
            "before": {agent: str(share) for agent, share in self.before.items()},
            "after": {agent: str(share) for agent, share in self.after.items()},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgets:
    """Costs without an escrow, and changes of limits. No money moves here."""

    costs: CostBook
    runs: RunBook
    increases: IncreaseBook
    words: Words
    allocations: AllocationBook
    overlays: OverlayBook
    limits: LimitBook
    policies: PolicyBook
    clock: Clock

    def hold(
        self, request: CostRequest, *, expires_after: str | int, key: str | None = None
    ) -> Cost:
        """Reserve a cost; refused with every reason when it does not fit.

        ``expires_after`` is a text such as "15m" or seconds, at most seven days: a hold that was
        neither posted nor voided by then is posted in full. The same ``key`` with the same terms
        returns the same cost; IdempotencyConflict for other terms.
        """
        seconds = seconds_of("expires_after", expires_after, most=_HOLD_SECONDS_MAX)
        return self.costs.hold(request, lasts_seconds=seconds, key=_key(key), now=self.clock())

    def record(
        self, request: CostRequest, *, key: str | None = None, within_limits: bool = False
    ) -> Cost:
        """Post what was spent already, even beyond limits unless ``within_limits``."""
        return self.costs.record(
            request, key=_key(key), within_limits=within_limits, now=self.clock()
        )

    def post(self, cost_id: str, actual: Amount) -> Cost:
        """Post what a held cost came to; zero is a void.

        Of one that ended without its owner (its session was closed, its time was over), more than
        is counted counts still.
        """
        amount = actual if isinstance(actual, Usdc) else _usdc(actual)
        if not amount:
            return self.void(cost_id)
        return self.costs.post(cost_id, positive_amount(amount), now=self.clock())

    def void(self, cost_id: str, *, by_owner: bool = True) -> Cost:
        """Give a held cost's amount back; if not ``by_owner``, a later post counts still."""
        return self.costs.void(cost_id, by_owner=by_owner, now=self.clock())

    def check(self, request: CostRequest) -> CostDecision:
        """Decide on a hold as a dry run; nothing is written."""
        return self.costs.check(request, now=self.clock())

    def open(
        self,
        kind: str,
        name: str,
        *,
        agent: str | None,
        limits: Mapping[str, Any] | None,
        by: str,
        operator: bool,
    ) -> Run:
        """Open a task or session; ``limits`` as in the policy file ({"total_limit": "5"}).

        ``categories`` in it, of a task, limit each by itself. What an agent opens never gives more
        than the default in force, even one that is lowered later; what an operator gives stays.
        InvalidRequest when it was opened before, for keys that are no limits, and when an agent
        asks for more than the default.
        """
        amounts, categories = _limits(limits or {})
        if categories and kind != TASK:
            raise InvalidRequest("only a task can have limits by category")
        opening = Opening(
            kind=kind,
            id=free_text(kind, name, 200),
            agent=identifier("agent", agent) if agent is not None else None,
            limits=amounts,
            categories=categories,
            by_agent=not operator,
        )
        return self.runs.open(opening, by=identifier("by", by), now=self.clock())

    def close(self, kind: str, name: str, *, by: str) -> Run:
        """Close it; held costs go back, and purchases with nothing signed are cancelled."""
        return self.runs.close(kind, name, by=identifier("by", by), now=self.clock())

    def ask_more(
        self,
        *,
        agent: str,
        scope: str,
        window: str,
        amount: Amount,
        lasts: str | int,
        reason: str,
        emergency: bool = False,
        key: str | None = None,
    ) -> Increase:
        """Ask for more of a limit for a time; no word of the reason grants anything.

        InvalidRequest when it is malformed, not the agent's, or there is no such limit.
        """
        return self.increases.ask(
            kind=EMERGENCY if emergency else INCREASE,
            agent=identifier("agent", agent),
            scope=scope_of(scope),
            window=_window(window),
            amount=positive_amount(amount),
            lasts_seconds=seconds_of("lasts", lasts, most=366 * 86_400),
            why=free_text("reason", reason, 2000),
            key=_key(key),
            now=self.clock(),
        )

    def statement(self, increase_id: str, *, reason: str | None = None) -> SigningRequest:
        """Return what an approver of it signs; with a ``reason`` it is rejected."""
        return self.increases.statement(increase_id, reason)

    def approve(
        self, increase_id: str, *, approver: str, signature: GivenSignature | None = None
    ) -> Increase:
        """Count the approver's yes; ``reason`` says why nothing changed, if nothing did."""
        name = identifier("approver", approver)
        request = partial(self.increases.request, increase_id, None)
        word = self.words.of(signature, name, request)
        return self.increases.approve(increase_id, approver=name, now=self.clock(), word=word)

    def reject(
        self,
        increase_id: str,
        *,
        approver: str,
        reason: str,
        signature: GivenSignature | None = None,
    ) -> Increase:
        """Refuse it in the approver's name."""
        name, reason = identifier("approver", approver), free_text("reason", reason, 2000)
        request = partial(self.increases.request, increase_id, reason)
        word = self.words.of(signature, name, request)
        return self.increases.reject(
            increase_id, approver=name, reason=reason, now=self.clock(), word=word
        )

    def share(self, pool: str, method: str) -> Sharing:
        """Compute the shares of the pool's daily limit (or its total) by ``method``.

        fixed: equal · by_usage: by what each used of late · by_priority: minimums, then by
        priority · rebalance: minimums, then by the policy's weights of both.
        """
        if method not in METHODS:
            raise InvalidRequest(f"the method must be one of {', '.join(METHODS)}")
        table = pool_of(self.policies.current_rules(), pool)
        window, amount = shared(table)
        members = self.allocations.members(pool, now=self.clock())
        try:
            if method == "rebalance":
                plan = table.rebalance or Rebalance()
                after = rebalanced(
                    amount,
                    members,
                    priority_weight=plan.priority_weight,
                    usage_weight=plan.usage_weight,
                )
            else:
                pure = {"fixed": fixed, "by_usage": by_usage, "by_priority": by_priority}
                after = pure[method](amount, members)
        except ValueError as fault:
            raise InvalidRequest(str(fault)) from None
        return Sharing(pool, window, amount, self.allocations.shares(pool), after)

    def apply(self, sharing: Sharing, *, by: str, reason: str) -> None:
        """Put the shares in force: each agent's part of the pool becomes a limit of its own."""
        self.allocations.apply(
            sharing.pool,
            sharing.after,
            by=identifier("by", by),
            reason=free_text("reason", reason, 2000),
            now=self.clock(),
        )

    def level(self, agent: str) -> ServiceLevel:
        """Return the agent's service level at this moment."""
        levels = self.policies.current().service_levels
        return service_level(levels, self.limits.states(Terms(agent), now=self.clock()))

    def review(self) -> Sequence[Finding]:
        """Find under-used and nearly depleted agents, and pools below their mark."""
        policy, now = self.policies.current(), self.clock()
        below = policy.reviews.pool_remaining_below if policy.reviews else 20
        states = {
            (state.limit.scope, state.limit.window): state
            for agent in sorted(policy.agents)
            for state in self.limits.states(Terms(agent), now=now)
        }
        return list(review(states.values(), pool_remaining_below=below))

    def used(self, scope: str, *, since: int, until: int, by: str) -> Sequence[Used]:
        """Read the usage of a scope in [since, until), by "hour", "day", "week" or "month".

        UnknownId for a name that the policy does not have and that used nothing.
        """
        names = {"hour": "hourly", "day": "daily", "week": "weekly", "month": "monthly"}
        if by not in names:
            raise InvalidRequest(f"by must be one of {', '.join(names)}")
        if until - since > 5 * 366 * 86400 or until < since:
            raise InvalidRequest(
                "the range must end after it begins, and be at most five years long"
            )
        chosen = scope_of(scope)
        if chosen.kind not in BY_HOUR:
            known = ", ".join(sorted(BY_HOUR))
            raise InvalidRequest(
                f"what {chosen} used is not kept by the hour: name one of {known}; a task or"
                " session has a report"
            )
        found = self.limits.used(chosen, since=since, until=until, by=Window(names[by]))
        # What left the policy keeps its usage; of a name that is mistyped there is none.
        if not self._knows(chosen) and not any(one.usage.spent or one.usage.held for one in found):
            raise UnknownId(
                f"{chosen.id[:60]!r} is no {chosen.kind} of the policy, and used nothing"
            )
        return found

    def _knows(self, scope: Scope) -> bool:
        policy = self.policies.current()
        known: dict[ScopeKind, Collection[str]] = {
            ScopeKind.AGENT: policy.agents,
            ScopeKind.POOL: policy.pools,
            ScopeKind.CATEGORY: policy.categories.named,
            ScopeKind.PROVIDER: policy.providers,
        }
        return scope.kind not in known or scope.id in known[scope.kind]


def scope_of(text: str) -> Scope:
    """Return the scope of a text such as "agent:research-agent"; InvalidRequest otherwise."""
    try:
        scope = Scope.of(text)
    except ValueError:
        kinds = ", ".join(ScopeKind)
        raise InvalidRequest(
            f"a scope is KIND or KIND:NAME, and a kind is one of {kinds}"
        ) from None
    if bool(scope.id) == (scope.kind is ScopeKind.ORGANISATION):
        raise InvalidRequest("every scope except the organisation needs a name")
    return scope


def share_scope(pool: str, agent: str) -> str:
    """Return the scope of an agent's share of a pool."""
    return str(pair(pool, agent))


def _window(name: str) -> Window:
    try:
        return Window(name)
    except ValueError as fault:
        raise InvalidRequest(str(fault)) from None


def _limits(
    stated: Mapping[str, Any],
) -> tuple[dict[Window, Usdc], dict[str, dict[Window, Usdc]]]:
    amounts: dict[Window, Usdc] = {}
    categories: dict[str, dict[Window, Usdc]] = {}
    for key, value in stated.items():
        if key == "categories":
            if not isinstance(value, Mapping) or not all(
                isinstance(v, Mapping) for v in value.values()
            ):
                raise InvalidRequest("categories must map each category's name to its limits")
            for name, own in value.items():
                categories[identifier("category", name)] = _limits(own)[0]
        elif key.endswith("_limit"):
            amounts[_window(key.removesuffix("_limit"))] = positive_amount(value)
        else:
            raise InvalidRequest(f"{key!r} is not a limit such as total_limit")
    return amounts, categories


def _key(key: str | None) -> str | None:
    return None if key is None else idempotency_key(key)


def _usdc(amount: object) -> Usdc:
    try:
        return Usdc(amount)  # type: ignore[arg-type]
    except ValueError as fault:
        raise InvalidRequest(str(fault), code="invalid_amount") from None
