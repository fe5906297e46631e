"""Requests, approvals and orders about purchases, each one transaction."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, case, delete, exists, func, insert, select, update

from coordinator.domain.decision import Decision, Facts, Funds, purchase_scopes
from coordinator.domain.errors import IdempotencyConflict, UnknownId
from coordinator.domain.escrow_key import service_hash
from coordinator.domain.gas import Fees, purchases_left, reserve_wei
from coordinator.domain.limits import CounterKey, Usage, counters_touched
from coordinator.domain.policy import Policy
from coordinator.domain.purchase import (
    UNFUNDED,
    Answer,
    Purchase,
    Request,
    Status,
    check_move,
    identifier,
)
from coordinator.domain.reasons import Reason, ReasonCode
from coordinator.domain.usdc import Usdc
from coordinator.ledger import schema as t
from coordinator.ledger.audit import AuditLog
from coordinator.ledger.counters import (
    charge,
    charges_of,
    end_hold,
    move_hold,
    place_hold,
    read_usage,
)
from coordinator.ledger.database import Database
from coordinator.ledger.policies import PolicyBook
from coordinator.ledger.reading import TxUrl, limit_row, load_purchase, load_purchases

Judge = Callable[[Facts], Decision]
_p = t.purchases.c
# Older balances refuse nothing: the executor checks again before it signs.
_OBSERVATION_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Approver:
    """Who decides, and from which host and user account."""

    name: str
    host: str
    user: str


@dataclass(frozen=True, slots=True)
class PendingApproval:
    """A purchase that waits for people; times are unix seconds."""

    id: str
    purchase: Purchase
    required: int
    created_at: int
    expires_at: int

    @property
    def approved_by(self) -> tuple[str, ...]:
        return tuple(d.approver for d in self.purchase.approvals if d.decision == "approved")


class PurchaseBook:
    """Purchases with their holds, approvals and idempotency keys."""

    def __init__(
        self, database: Database, audit: AuditLog, policies: PolicyBook, tx_url: TxUrl
    ) -> None:
        self._database = database
        self._audit = audit
        self._policies = policies
        self._tx_url = tx_url

    def request(
        self,
        request: Request,
        *,
        idempotency_key: str,
        escrow_key: str,
        minimum: Usdc,
        treasury: str,
        now: int,
        judge: Callable[[Request, Facts], Decision],
    ) -> Purchase:
        """Decide and hold in one transaction; the purchase that the key is bound to if it is.

        IdempotencyConflict when the key is bound to other terms.
        """
        with self._database.write() as connection:
            policy = self._policies.in_force(connection)
            self._expire(connection, now)
            bound = self._bound(connection, request, idempotency_key, policy)
            if bound is None:
                bound = self._adopt(connection, request, idempotency_key, escrow_key, policy, now)
            if bound is not None:
                return self._load(connection, bound)
            facts = self._facts(connection, policy, minimum, treasury, now)
            decision = judge(request, facts)
            purchase_id = self._insert(
                connection, request, decision, idempotency_key, escrow_key, policy, now
            )
            return self._load(connection, purchase_id)

    def judge_only(
        self,
        request: Request,
        *,
        minimum: Usdc,
        treasury: str,
        now: int,
        judge: Callable[[Request, Facts], Decision],
    ) -> Decision:
        """What ``request`` would decide; nothing is written."""
        with self._database.read() as connection:
            policy = self._policies.in_force(connection)
            return judge(request, self._facts(connection, policy, minimum, treasury, now))

    def approve(
        self,
        approval_id: str,
        approver: Approver,
        *,
        minimum: Usdc,
        treasury: str,
        now: int,
        judge: Callable[[Request, Facts], Decision],
    ) -> Answer:
        """Count one person's yes; the last one needed judges anew and moves the hold to ``now``.

        Not done, with the reason and nothing changed, when the person may not decide, it is too
        late, or it does not fit any more.
        """
        with self._database.write() as connection:
            self._expire(connection, now)
            approval, purchase = self._approval(connection, approval_id)
            policy = self._policies.in_force(connection)
            refusal = _may_not_decide(policy, purchase, approver)
            if refusal is not None:
                return Answer(False, purchase, refusal)
            facts = self._facts(connection, policy, minimum, treasury, now, own=purchase)
            decision = judge(_request_of(purchase), facts)
            if decision.outcome is Status.DENIED:
                return Answer(False, purchase, decision.reason)
            self._decide(connection, approval_id, purchase, approver, "approved", None, now)
            required = max(approval.required, policy.approvals.required)
            approved = self._count_approved(connection, approval_id, policy)
            if approved >= required:
                move_hold(connection, purchase.id, decision.counters, now)
                self._move(connection, purchase, Status.APPROVED, now, approved_at=now)
            return Answer(True, self._load(connection, purchase.id))

    def reject(self, approval_id: str, approver: Approver, *, reason: str, now: int) -> Answer:
        """End it by one person's no; the hold is voided."""
        with self._database.write() as connection:
            self._expire(connection, now)
            _, purchase = self._approval(connection, approval_id)
            refusal = _may_not_decide(self._policies.in_force(connection), purchase, approver)
            if refusal is not None:
                return Answer(False, purchase, refusal)
            self._decide(connection, approval_id, purchase, approver, "rejected", reason, now)
            why = Reason(ReasonCode.REJECTED, f"{approver.name} rejected it: {reason}")
            self._end_unsigned(connection, purchase, Status.REJECTED, why, now)
            return Answer(True, self._load(connection, purchase.id))

    def cancel(self, purchase_id: str, *, by: str, now: int) -> Answer:
        """End a purchase that nothing was signed for, or order an empty escrow's cancelling."""
        with self._database.write() as connection:
            self._expire(connection, now)
            purchase = self._known(connection, purchase_id)
            why = Reason(ReasonCode.CANCELLED, f"cancelled by {by}")
            if purchase.status is Status.CANCELLED:
                return Answer(True, purchase)
            if purchase.status in UNFUNDED and not self._has_steps(connection, purchase_id):
                self._end_unsigned(connection, purchase, Status.CANCELLED, why, now)
                return Answer(True, self._load(connection, purchase_id))
            if purchase.status not in UNFUNDED or self._in_flight(connection, purchase_id):
                return Answer(False, purchase, _not_cancellable(purchase))
            self._order(connection, purchase_id, "cancel_wanted", by, now)
            return Answer(True, self._load(connection, purchase_id))

    def order_settle(self, purchase_id: str, *, by: str, now: int) -> Purchase:
        """Note that the delivered purchase is to be settled early; the executor does it."""
        with self._database.write() as connection:
            self._known(connection, purchase_id)
            self._order(connection, purchase_id, "settle_wanted", by, now)
            return self._load(connection, purchase_id)

    def fail(self, purchase_id: str, status: Status, reason: Reason, *, now: int) -> None:
        """End a purchase that has no escrow: FAILED or CANCELLED.

        With nothing signed the hold is voided at once; otherwise when the receipts that prove it
        are final.
        """
        with self._database.write() as connection:
            purchase = self._known(connection, purchase_id)
            last = connection.execute(
                select(func.max(t.attempts.c.block_number))
                .join(t.steps, t.steps.c.id == t.attempts.c.step_id)
                .where(t.steps.c.purchase_id == purchase_id)
            ).scalar()
            if last is None:
                self._end_unsigned(connection, purchase, status, reason, now)
            else:
                self._move(connection, purchase, status, now, reason=reason, ended_at_block=last)

    def explain_cancel(self, purchase_id: str, reason: Reason, *, now: int) -> None:
        """Keep why an empty escrow is being cancelled; the chain's event will end the purchase."""
        with self._database.write() as connection:
            connection.execute(
                update(t.purchases)
                .where(_p.id == purchase_id)
                .values(reason_code=reason.code.value, reason_message=reason.message)
            )
            self._audit.append(connection, now, "cancel_decided", purchase_id, why=reason.message)

    def note_stranded(self, purchase_id: str, message: str | None, *, now: int) -> None:
        """Keep, or clear, that nobody here can end the purchase, with who can free it."""
        with self._database.write() as connection:
            connection.execute(
                update(t.purchases).where(_p.id == purchase_id).values(stranded=message)
            )
            event = "purchase_stranded" if message else "purchase_unstranded"
            self._audit.append(connection, now, event, purchase_id, why=message)

    def expire_due(self, now: int) -> None:
        """Expire every approval whose time is over; holds are voided."""
        with self._database.read() as connection:
            due = connection.execute(_due(now).limit(1)).first()
        if due is not None:
            with self._database.write() as connection:
                self._expire(connection, now)

    def get(self, purchase_id: str) -> Purchase:
        """The purchase; UnknownId when there is none."""
        with self._database.read() as connection:
            return self._known(connection, purchase_id)

    def find(self, agent: str, idempotency_key: str) -> Purchase | None:
        """The purchase that the agent's key is bound to."""
        k = t.idempotency_keys.c
        with self._database.read() as connection:
            query = select(k.purchase_id).where(
                k.agent == agent, k.idempotency_key == idempotency_key
            )
            found = connection.execute(query).scalar()
            return self._load(connection, found) if found else None

    def list(
        self,
        *,
        agent: str | None = None,
        statuses: Iterable[Status] = (),
        since: int | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> Sequence[Purchase]:
        """Purchases, newest first, at most ``limit``; ``after`` is the last id of a page."""
        query = select(t.purchases).order_by(_p.seq.desc()).limit(limit)
        if agent is not None:
            query = query.where(_p.agent == agent)
        if wanted := [status.value for status in statuses]:
            query = query.where(_p.status.in_(wanted))
        if since is not None:
            query = query.where(_p.created_at >= since)
        if after is not None:
            before = select(_p.seq).where(_p.id == after).scalar_subquery()
            query = query.where(_p.seq < before)
        with self._database.read() as connection:
            return load_purchases(connection, self._tx_url, query)

    def pending_approvals(self, now: int) -> Sequence[PendingApproval]:
        """Every purchase that waits for people and has not expired, oldest first."""
        query = (
            select(t.approvals, _p.id.label("purchase"))
            .join(t.purchases, _p.id == t.approvals.c.purchase_id)
            .where(_p.status == Status.AWAITING_APPROVAL, t.approvals.c.expires_at > now)
            .order_by(t.approvals.c.created_at, _p.seq)
        )
        with self._database.read() as connection:
            rows = connection.execute(query).all()
            wanted = select(t.purchases).where(_p.id.in_([row.purchase for row in rows]))
            loaded = {p.id: p for p in load_purchases(connection, self._tx_url, wanted)}
        return [
            PendingApproval(
                row.id, loaded[row.purchase], row.required, row.created_at, row.expires_at
            )
            for row in rows
        ]

    def usage(self, counters: Iterable[CounterKey]) -> Mapping[CounterKey, Usage]:
        """What the counters hold; one that was never charged is missing."""
        with self._database.read() as connection:
            return read_usage(connection, counters)

    def sums_by(self, column: str, *, since: int | None, until: int | None) -> Mapping[str, Usage]:
        """Held and spent by ``agent``, ``category`` or ``provider``, of purchases asked in range.

        The range is [since, until); what has no such value stands under an empty name.
        """
        name = func.coalesce(_p.provider_name, _p.provider) if column == "provider" else _p[column]
        held = func.sum(case((t.holds.c.status == "held", t.holds.c.amount), else_=0))
        query = (
            select(func.coalesce(name, ""), held, func.sum(t.holds.c.posted))
            .join(t.holds, t.holds.c.purchase_id == _p.id)
            .group_by(func.coalesce(name, ""))
        )
        if since is not None:
            query = query.where(_p.created_at >= since)
        if until is not None:
            query = query.where(_p.created_at < until)
        with self._database.read() as connection:
            return {
                found: Usage(Usdc.from_base_units(int(h)), Usdc.from_base_units(int(s)))
                for found, h, s in connection.execute(query)
            }

    def stranded(self) -> Sequence[Purchase]:
        """Purchases whose USDC nobody here can free."""
        query = select(t.purchases).where(_p.stranded.is_not(None)).order_by(_p.seq)
        with self._database.read() as connection:
            return load_purchases(connection, self._tx_url, query)

    def approval(self, approval_id: str) -> PendingApproval:
        """The approval, whatever its state; UnknownId when there is none."""
        with self._database.read() as connection:
            row, purchase = self._approval(connection, approval_id)
            return PendingApproval(row.id, purchase, row.required, row.created_at, row.expires_at)

    def _load(self, connection: Connection, purchase_id: str) -> Purchase:
        purchase = load_purchase(connection, self._tx_url, purchase_id)
        assert purchase is not None
        return purchase

    def _known(self, connection: Connection, purchase_id: str) -> Purchase:
        purchase = load_purchase(connection, self._tx_url, purchase_id)
        if purchase is None:
            raise UnknownId(f"there is no purchase {purchase_id[:60]!r}")
        return purchase

    def _approval(self, connection: Connection, approval_id: str) -> tuple[Any, Purchase]:
        query = select(t.approvals).where(t.approvals.c.id == approval_id)
        row = connection.execute(query).one_or_none()
        if row is None:
            raise UnknownId(f"there is no approval {approval_id[:60]!r}")
        return row, self._load(connection, row.purchase_id)

    def _bound(
        self, connection: Connection, request: Request, key: str, policy: Policy
    ) -> str | None:
        k = t.idempotency_keys.c
        row = connection.execute(
            select(t.idempotency_keys, _p.provider, _p.provider_name)
            .join(t.purchases, _p.id == k.purchase_id)
            .where(k.agent == request.agent, k.idempotency_key == key)
        ).one_or_none()
        if row is None:
            return None
        same_name = request.provider == row.provider_name
        address = row.provider if same_name else _address(policy, request.provider)
        if row.terms_hash != request.terms_hash(address):
            raise IdempotencyConflict(
                f"key {key!r} belongs to purchase {row.purchase_id} with other terms;"
                " use another key for another purchase"
            )
        return str(row.purchase_id)

    def _adopt(
        self,
        connection: Connection,
        request: Request,
        key: str,
        escrow_key: str,
        policy: Policy,
        now: int,
    ) -> str | None:
        row = connection.execute(
            select(t.purchases, t.escrows.c.service_hash)
            .join(t.escrows, t.escrows.c.purchase_id == _p.id)
            .where(_p.escrow_key == escrow_key, _p.agent.is_(None))
        ).first()
        if row is None:
            return None
        name, provider = policy.provider(request.provider)
        service = request.service or (provider.service if provider else None)
        address = provider.address if provider else request.provider
        same = (address.lower(), request.amount.base_units, service_hash(service)) == (
            row.provider.lower(),
            row.amount,
            row.service_hash,
        )
        if not same:
            raise IdempotencyConflict(
                f"key {key!r} was used on chain for {Usdc.from_base_units(row.amount)} USDC to"
                f" {row.provider}; use another key for another purchase"
            )
        category = request.category or policy.categories.default
        connection.execute(
            update(t.purchases)
            .where(_p.id == row.id)
            .values(
                agent=request.agent,
                idempotency_key=key,
                terms_hash=request.terms_hash(address),
                provider_name=name,
                purpose=request.purpose,
                service=service,
                category=category,
                task=request.task,
                session=request.session,
                updated_at=now,
            )
        )
        self._bind(connection, request, key, address, row.id)
        hold = connection.execute(
            select(t.holds).where(t.holds.c.purchase_id == row.id, t.holds.c.kind == "purchase")
        ).one()
        scopes = purchase_scopes(request.agent, category)
        wanted = counters_touched(scopes, hold.placed_at, policy.zone)
        missing = sorted(set(wanted) - set(charges_of(connection, row.id, "purchase")))
        held = hold.amount if hold.status == "held" else 0
        charge(connection, hold.id, missing, held=held, spent=hold.posted)
        self._audit.append(
            connection, now, "purchase_adopted", row.id, agent=request.agent, key=key
        )
        return str(row.id)

    def _facts(
        self,
        connection: Connection,
        policy: Policy,
        minimum: Usdc,
        treasury: str,
        now: int,
        own: Purchase | None = None,
    ) -> Facts:
        own_charges = frozenset(charges_of(connection, own.id, "purchase")) if own else frozenset()

        def usage(keys: Iterable[CounterKey]) -> Mapping[CounterKey, Usage]:
            read = read_usage(connection, keys)
            if own is None:
                return read
            return {
                key: Usage(used.held - own.amount, used.spent) if key in own_charges else used
                for key, used in read.items()
            }

        paused = {
            (row.scope_kind, row.scope_id)
            for row in connection.execute(select(t.pauses.c.scope_kind, t.pauses.c.scope_id))
        }
        funds = _funds(connection, treasury, now, own)
        return Facts(policy, now, minimum, usage, frozenset(paused), funds)

    def _insert(
        self,
        connection: Connection,
        request: Request,
        decision: Decision,
        key: str,
        escrow_key: str,
        policy: Policy,
        now: int,
    ) -> str:
        purchase_id = "pur_" + secrets.token_hex(10)
        stored = {
            "reasons": [reason.as_dict() for reason in decision.reasons],
            "limits": [limit_row(state) for state in decision.limits],
        }
        reason = decision.reason
        connection.execute(
            insert(t.purchases).values(
                id=purchase_id,
                status=decision.outcome.value,
                agent=request.agent,
                idempotency_key=key,
                terms_hash=request.terms_hash(decision.provider),
                provider=decision.provider,
                provider_name=decision.provider_name,
                amount=request.amount.base_units,
                purpose=request.purpose,
                service=decision.service,
                category=decision.category,
                task=request.task,
                session=request.session,
                escrow_key=escrow_key,
                settle=policy.escrow.settle,
                policy_hash=policy.hash,
                decision=json.dumps(stored),
                reason_code=reason.code.value if reason else None,
                reason_message=reason.message if reason else None,
                created_at=now,
                updated_at=now,
                approved_at=now if decision.outcome is Status.APPROVED else None,
                cancel_wanted=0,
                settle_wanted=0,
            )
        )
        if decision.outcome is not Status.DENIED:
            self._bind(connection, request, key, decision.provider, purchase_id)
            place_hold(
                connection,
                purchase_id=purchase_id,
                kind="purchase",
                amount=request.amount,
                counters=decision.counters,
                now=now,
            )
        if decision.outcome is Status.AWAITING_APPROVAL:
            self._open_approval(connection, purchase_id, policy, now)
        self._audit.append(
            connection,
            now,
            f"purchase_{decision.outcome}",
            purchase_id,
            agent=request.agent,
            provider=decision.provider,
            amount=request.amount.base_units,
            policy=policy.hash,
            **stored,
        )
        return purchase_id

    def _open_approval(
        self, connection: Connection, purchase_id: str, policy: Policy, now: int
    ) -> None:
        connection.execute(
            insert(t.approvals).values(
                id="apr_" + secrets.token_hex(10),
                purchase_id=purchase_id,
                required=policy.approvals.required,
                created_at=now,
                expires_at=now + policy.approvals.expires_after,
            )
        )

    def _bind(
        self, connection: Connection, request: Request, key: str, address: str, purchase_id: str
    ) -> None:
        connection.execute(
            insert(t.idempotency_keys).values(
                agent=request.agent,
                idempotency_key=key,
                purchase_id=purchase_id,
                terms_hash=request.terms_hash(address),
            )
        )

    def _decide(
        self,
        connection: Connection,
        approval_id: str,
        purchase: Purchase,
        approver: Approver,
        decision: str,
        reason: str | None,
        now: int,
    ) -> None:
        d = t.approval_decisions
        connection.execute(
            delete(d).where(d.c.approval_id == approval_id, d.c.approver == approver.name)
        )
        connection.execute(
            insert(d).values(
                approval_id=approval_id,
                approver=approver.name,
                decision=decision,
                reason=reason,
                at=now,
                host=approver.host,
                user=approver.user,
            )
        )
        self._audit.append(
            connection,
            now,
            f"purchase_{decision}_by",
            purchase.id,
            approval=approval_id,
            approver=approver.name,
            host=approver.host,
            user=approver.user,
            reason=reason,
        )

    def _count_approved(self, connection: Connection, approval_id: str, policy: Policy) -> int:
        d = t.approval_decisions.c
        query = select(func.count()).where(
            d.approval_id == approval_id,
            d.decision == "approved",
            d.approver.in_(policy.approvals.approvers),
        )
        return int(connection.execute(query).scalar_one())

    def _expire(self, connection: Connection, now: int) -> None:
        for row in connection.execute(_due(now)).all():
            purchase = self._load(connection, row.purchase_id)
            why = Reason(ReasonCode.EXPIRED, "nobody approved it in time")
            self._end_unsigned(connection, purchase, Status.EXPIRED, why, now)

    def _end_unsigned(
        self, connection: Connection, purchase: Purchase, status: Status, why: Reason, now: int
    ) -> None:
        zero = Usdc.from_base_units(0)
        end_hold(connection, purchase.id, "purchase", spent=zero, now=now)
        self._move(connection, purchase, status, now, reason=why)

    def _move(
        self,
        connection: Connection,
        purchase: Purchase,
        status: Status,
        now: int,
        *,
        reason: Reason | None = None,
        **values: int,
    ) -> None:
        check_move(purchase.id, purchase.status, status)
        connection.execute(
            update(t.purchases)
            .where(_p.id == purchase.id)
            .values(
                status=status.value,
                updated_at=now,
                reason_code=reason.code.value if reason else None,
                reason_message=reason.message if reason else None,
                **values,
            )
        )
        self._audit.append(
            connection,
            now,
            f"purchase_{status}",
            purchase.id,
            before=purchase.status.value,
            why=reason.message if reason else None,
        )

    def _order(
        self, connection: Connection, purchase_id: str, column: str, by: str, now: int
    ) -> None:
        connection.execute(
            update(t.purchases).where(_p.id == purchase_id).values({column: 1, "updated_at": now})
        )
        self._audit.append(connection, now, column, purchase_id, by=by)

    def _has_steps(self, connection: Connection, purchase_id: str) -> bool:
        query = select(exists().where(t.steps.c.purchase_id == purchase_id))
        return bool(connection.execute(query).scalar())

    def _in_flight(self, connection: Connection, purchase_id: str) -> bool:
        query = select(
            exists().where(
                t.steps.c.purchase_id == purchase_id,
                t.steps.c.status.in_(("allocated", "signed")),
            )
        )
        return bool(connection.execute(query).scalar())


def _due(now: int):  # type: ignore[no-untyped-def]
    return (
        select(t.approvals.c.purchase_id)
        .join(t.purchases, _p.id == t.approvals.c.purchase_id)
        .where(_p.status == Status.AWAITING_APPROVAL.value, t.approvals.c.expires_at <= now)
    )


def _funds(connection: Connection, treasury: str, now: int, own: Purchase | None) -> Funds | None:
    query = select(t.observations).where(t.observations.c.treasury == treasury)
    seen = connection.execute(query).one_or_none()
    if seen is None or now - seen.at > _OBSERVATION_SECONDS:
        return None
    unfunded = select(func.count(), func.coalesce(func.sum(_p.amount), 0)).where(
        _p.status.in_([status.value for status in UNFUNDED])
    )
    count, amount = connection.execute(unfunded).one()
    open_ones = select(func.count()).where(
        _p.status.in_([Status.FUNDED.value, Status.STARTED.value, Status.DELIVERED.value])
    )
    unended = int(connection.execute(open_ones).scalar_one())
    if own is not None:
        count, amount = count - 1, amount - own.amount.base_units
    fees = Fees(seen.max_fee_per_gas, 0, seen.l1_fee_upper_bound_wei)
    reserved = reserve_wei(fees, unstarted=int(count), unended=unended)
    left = purchases_left(int(seen.gas_balance_wei), reserved, fees)
    free = Usdc.from_base_units(seen.usdc_balance - int(amount))
    return Funds(usdc_free=free, gas_is_enough=left >= 1 or not seen.max_fee_per_gas)


def _may_not_decide(policy: Policy, purchase: Purchase, approver: Approver) -> Reason | None:
    identifier("approver", approver.name)
    allowed = policy.approvals.approvers
    if approver.name not in allowed or approver.name == purchase.agent:
        return Reason(
            ReasonCode.NOT_AN_APPROVER,
            f"{approver.name} may not decide this; approvers: {', '.join(allowed) or 'none'}",
        )
    if purchase.status is Status.EXPIRED:
        return Reason(ReasonCode.APPROVAL_EXPIRED, "its time to be approved is over")
    if purchase.status is not Status.AWAITING_APPROVAL:
        code = ReasonCode.REJECTED if purchase.status is Status.REJECTED else ReasonCode.CANCELLED
        if purchase.status is not Status.REJECTED and purchase.status is not Status.CANCELLED:
            code = ReasonCode.APPROVAL_NOT_FOUND
        return Reason(code, f"it does not wait for approval: it is {purchase.status}")
    return None


def _not_cancellable(purchase: Purchase) -> Reason:
    if purchase.status in UNFUNDED:
        text = "its transactions are on their way; it is cancelled by itself if it can't be funded"
    elif purchase.final:
        text = f"it is {purchase.status} already"
    else:
        text = f"it is {purchase.status}: the USDC comes back only by the provider or the deadline"
    return Reason(ReasonCode.NOT_CANCELLABLE, text)


def _address(policy: Policy, provider: str) -> str:
    _, found = policy.provider(provider)
    return found.address if found else provider


def _request_of(purchase: Purchase) -> Request:
    assert purchase.agent is not None
    return Request(
        agent=purchase.agent,
        provider=purchase.provider_name or purchase.provider,
        amount=purchase.amount,
        purpose=purchase.purpose,
        service=purchase.service,
        category=purchase.category,
        task=purchase.task,
        session=purchase.session,
    )
