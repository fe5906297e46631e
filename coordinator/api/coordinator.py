"""The Python API for agents and operators."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from coordinator.api.access import AccessApi
from coordinator.api.agent import Agent
from coordinator.api.approvals import ApprovalApi
from coordinator.api.arguments import checked
from coordinator.api.budgets import BudgetApi
from coordinator.api.queries import limit_states, list_agents, list_purchases, scope_of, unix_second
from coordinator.api.runtime import Runtime
from coordinator.api.webhooks import WebhookApi
from coordinator.books.backup import Backup
from coordinator.books.follower import Progress
from coordinator.books.reporting import GasReport, Report
from coordinator.config import checked_settings, environment_with, read_policy
from coordinator.domain.chain.reconciliation import Reconciliation
from coordinator.domain.errors import (
    ConfigurationError,
    InvalidRequest,
)
from coordinator.domain.limits.limits import LimitState
from coordinator.domain.notices import KeptNotice
from coordinator.domain.policy.policy import Policy
from coordinator.domain.purchase.order import Order
from coordinator.domain.purchase.purchase import Answer, Purchase
from coordinator.domain.purchase.replay import Replay
from coordinator.domain.usdc import Amount
from coordinator.treasury.pause import pause_spending
from coordinator.wiring import wire

if TYPE_CHECKING:
    from coordinator.chain.simulated.simulation import Simulation

_DAYS_MAX: Final = 3650


@checked
class Coordinator(Runtime, ApprovalApi, BudgetApi, AccessApi, WebhookApi):
    """One treasury: its agents, approvals, limits, books and executor.

    Made by ``from_env``. The first purchase starts the executor in a background thread; leaving
    the ``with`` block stops it after its present round and loses nothing.
    """

    @classmethod
    def from_env(
        cls,
        *,
        policy: str | Path | Policy | None = None,
        env_file: str | Path | None = None,
        act: bool = True,
        **settings: str,
    ) -> Coordinator:
        """Make the coordinator that the environment and ``.env`` describe.

        On the network ``simulated`` neither counts: what the call does not give is made for this
        coordinator alone and thrown away with it.

        ``policy`` is a path or a Policy built in code; ``settings`` override by field name
        (``rpc_url="…"``); with ``act=False`` this process only decides and leaves the chain to a
        worker. ConfigurationError lists every fault of the settings and secrets, before anything
        is opened.
        """
        if not isinstance(policy, str | Path | Policy | None):
            raise ConfigurationError(
                f"policy must be a path or a Policy, not {type(policy).__name__}:"
                " build one from a dict with Policy.from_dict"
            )
        if not isinstance(env_file, str | Path | None):
            raise ConfigurationError(f"env_file must be a path, not {type(env_file).__name__}")
        wrong = [
            f"{n} must be text, not {type(v).__name__}"
            for n, v in settings.items()
            if not isinstance(v, str)
        ]
        if wrong:
            raise ConfigurationError(*wrong)
        given = {f"COORDINATOR_{name.upper()}": value for name, value in settings.items()}
        env = environment_with(given, Path(env_file) if env_file else None)
        source = Path(policy) if isinstance(policy, str) else policy
        return cls(wire(env, checked_settings(env), policy=source), act=act)

    @property
    def simulation(self) -> Simulation:
        """Controls of the simulated chain, for tests with COORDINATOR_NETWORK=simulated.

        ConfigurationError on other networks: nobody does that to them.
        """
        found = self.opened.simulation
        if found is None:
            name = self.opened.network.name
            raise ConfigurationError(
                f"the network is {name}: only COORDINATOR_NETWORK=simulated can be controlled"
            )
        return found

    def __enter__(self) -> Coordinator:
        if self._wiring.here():
            self._wiring.check()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def agent(self, agent_id: str) -> Agent:
        """Return the agent's own view; an unregistered agent's requests are denied."""
        return Agent(self, agent_id)

    def agents(self) -> Sequence[dict[str, Any]]:
        """Return every registered agent with its limits and what remains of them."""
        return list_agents(self.wiring, self.limits)

    def purchases(
        self,
        *,
        agent: str | None = None,
        status: str | Iterable[str] | None = None,
        since: datetime | int | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> Sequence[Purchase]:
        """Purchases, newest first; ``after`` is the last id of the page before."""
        return list_purchases(
            self.wiring, agent=agent, status=status, since=since, limit=limit, after=after
        )

    def get(self, purchase_id: str) -> Purchase:
        """Return the purchase; UnknownId (an InvalidRequest) when there is none."""
        return self.wiring.purchases.get(purchase_id)

    def limits(
        self,
        agent: str | None = None,
        category: str | None = None,
        *,
        provider: str | None = None,
        task: str | None = None,
        session: str | None = None,
    ) -> Sequence[LimitState]:
        """Return the limits of the organisation and of every scope named, with what remains."""
        return limit_states(
            self.wiring, agent, category, provider=provider, task=task, session=session
        )

    def replay(self, policy: str | Path | Policy, *, days: int) -> Replay:
        """Decide the requests of the last ``days`` days (1 to 3650) again by another policy.

        ``policy`` is a path or a Policy built in code; it is not applied, and nothing is written.
        ConfigurationError lists every fault of it.
        """
        if type(days) is not int or not 1 <= days <= _DAYS_MAX:
            raise InvalidRequest(f"days must be 1 to {_DAYS_MAX}")
        w = self.claimed
        other = read_policy(Path(policy) if isinstance(policy, str) else policy)
        now, minimum = w.clock(), w.treasury.minimum
        return w.reporter.replay(other, since=now - days * 86_400, until=now + 1, minimum=minimum)

    def settle(self, purchase_id: str, *, approver: str) -> Answer:
        """Pay the provider of a delivered purchase early, in an approver's name.

        It takes as many approvers as a purchase of that amount: until then it is not done, with
        the reason `more_approvals_required`, and stands in ``proposals()``.
        """
        self.look()
        return self.wiring.treasury.settle(purchase_id, approver=approver)

    def cancel(self, purchase_id: str, *, by: str) -> Answer:
        """Cancel a purchase with nothing on its way and nothing funded; its hold is voided."""
        return self.wiring.treasury.cancel(purchase_id, by=by)

    def pause(
        self,
        reason: str,
        *,
        by: str,
        agent: str | None = None,
        pool: str | None = None,
        provider: str | None = None,
        x402: bool = False,
    ) -> bool:
        """Stop new spending: all, an agent's, a pool's, to a provider, or for HTTP requests.

        False if it was stopped.
        It takes effect in every process: nothing is admitted, no create or link is signed, and
        what is created and not funded is cancelled. What is funded goes on, but for settling
        early to a paused provider. No policy file is read: a faulty one can't prevent it.
        """
        scope, of = scope_of(agent=agent, pool=pool, provider=provider, x402=x402)
        w = self.claimed
        paused = pause_spending(
            w.operations,
            w.policies,
            scope=scope,
            of=of,
            reason=reason,
            by=by,
            now=w.clock(),
        )
        w.wake()
        return paused

    def unpause(
        self,
        reason: str,
        *,
        by: str,
        agent: str | None = None,
        pool: str | None = None,
        provider: str | None = None,
        x402: bool = False,
    ) -> bool:
        """Allow spending again, once as many approvers as the policy requires have agreed.

        False when ``by`` is not an approver, and nothing changed, and while others have to approve
        it too: then it stands in ``proposals()``.
        """
        scope, of = scope_of(agent=agent, pool=pool, provider=provider, x402=x402)
        return self.wiring.treasury.unpause(reason, approver=by, scope=scope, of=of) is None

    def gas(self) -> GasReport:
        """Report the ETH for gas, its spending, and how many more purchases it pays for."""
        return self.wiring.reporter.gas()

    def report(
        self, *, since: datetime | int | None = None, until: datetime | int | None = None
    ) -> Report:
        """Report the movements of USDC in [since, until), by the books, and what is open."""
        return self.wiring.reporter.report(since=unix_second(since), until=unix_second(until))

    def receipt(self, purchase_id: str) -> dict[str, Any]:
        """Return the proof of one purchase: who, why, limits, approvals, transactions."""
        return self.wiring.reporter.receipt(purchase_id)

    def reconcile(
        self, *, from_block: int | None = None, progress: Progress | None = None
    ) -> Reconciliation:
        """Bring the books to the chain's newest believed block and compare; signs nothing.

        With ``from_block`` the events from that block on are read again and every entry of the
        journal is compared with what they make.
        """
        return self.wiring.reconciler.reconcile(from_block=from_block, progress=progress)

    def rebuild(
        self,
        *,
        audit: str | Path | None = None,
        head: str | None = None,
        progress: Progress | None = None,
    ) -> Reconciliation:
        """Rebuild a lost database from the chain and the id secret; signs nothing.

        With ``audit``, the file that `coordinator audit export` wrote, purchases get back their
        ids, agents, words, keys and approvals, and the log goes on from its rows; ``head`` is one
        noted before, which finds a file cut off at its end. What no row tells gets a purchase
        without an agent, counted against the organisation, until an agent asks with its key again
        and adopts its own. What the chain does not know has failed and is never created. Spending
        stays paused until an approver unpauses. One that was interrupted goes on where it stopped.
        InvalidRequest for a file that is not whole, ConfigurationError when the database has
        followed the chain already: then nothing is written.
        """
        export = Path(audit) if audit is not None else None
        return self.wiring.rebuilder.rebuild(export, head=head, progress=progress)

    def backup(self, path: str | Path) -> Backup:
        """Copy the database to a new file and check the copy; spending goes on meanwhile.

        Note its audit head elsewhere. Key and id secret are not in it: keep them elsewhere too.
        InvalidRequest when the file exists or the database has nothing yet.
        """
        return self.opened.back_up(Path(path))

    def refresh(self, *, progress: Progress | None = None) -> None:
        """Bring gas and report up to date with the chain; signs nothing.

        The books are brought up to date only where they were opened before: opening them is for
        the first purchase, `reconcile` or `rebuild`.
        """
        w = self.wiring
        seen = w.chain.observe()
        w.operations.store_balances(w.treasury_address, seen, now=w.clock())
        # The books are the worker's to write.
        if w.books.cursor() is not None and w.signer.can_sign:
            w.follower.follow(seen, progress=progress)

    def withdraw(
        self,
        *,
        to: str,
        amount: Amount,
        approver: str,
        reason: str,
        timeout_seconds: float = 60,
    ) -> Order:
        """Send USDC out of the treasury; returns the order once done, failed or timed out.

        It takes as many approvers as a purchase of that amount: until then its status is
        ``awaiting_approval``, and it stands in ``proposals()``.

        InvalidRequest also when ``approver`` is none; ``treasury.check_withdrawal`` tells before.
        """
        self.look()
        order = self.wiring.treasury.withdraw(
            to=to, amount=amount, approver=approver, reason=reason
        )
        return self._wait_for_order(order, timeout_seconds)

    def x402_wallet(self) -> dict[str, Any] | None:
        """Return the wallet that pays for HTTP requests, with its float; None without one."""
        return self.wiring.reporter.wallet()

    def top_up(
        self,
        amount: Amount,
        *,
        by: str,
        reason: str = "ordered by hand",
        timeout_seconds: float = 60,
    ) -> Order:
        """Send USDC to the wallet that pays for HTTP requests; returns the order as ``withdraw``.

        It needs no approval: both accounts are the treasury's own, and the policy's
        ``top_up_daily_limit`` counts it. InvalidRequest where that, a pause or the balance
        leaves no room.
        """
        self.look()
        order = self.wiring.treasury.top_up(amount, by=by, reason=reason)
        return self._wait_for_order(order, timeout_seconds)

    def mint(self, amount: Amount, *, by: str, timeout_seconds: float = 60) -> Order:
        """Mint a test network's token for the treasury; returns the order once done or timed out.

        Only a token that lets everybody mint does it; ConfigurationError on base.
        """
        if self.opened.network.name == "base":
            raise ConfigurationError("base has real USDC, which nobody can mint")
        self.start()
        order = self.wiring.treasury.mint(amount, by=by)
        return self._wait_for_order(order, timeout_seconds)

    def audit(self, *, after: int = 0, limit: int | None = None) -> Iterable[dict[str, Any]]:
        """List the audit log's rows after a sequence number, oldest first; at most ``limit``."""
        return self.opened.audit.rows(after, limit=limit)

    def alerts(
        self, *, since: datetime | int | None = None, kind: str | None = None, limit: int = 100
    ) -> Sequence[KeptNotice]:
        """List the notices made at ``since`` or later, newest first, with their delivery."""
        return self.opened.notices.list(since=unix_second(since), kind=kind, limit=limit)
