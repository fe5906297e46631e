"""Replay requests for more than a limit gives, and what was granted of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from coordinator.domain.audit import AuditRow
from coordinator.domain.limits.increase import EMERGENCY, Increase, IncreaseStatus
from coordinator.domain.limits.limits import Scope
from coordinator.domain.policy.policy import Policy
from coordinator.domain.statements.making import increase_statement
from coordinator.domain.statements.statement import Statement
from coordinator.domain.usdc import Usdc
from coordinator.domain.windows import Window
from coordinator.ledger.proofs.agreement import increase_agreement
from coordinator.ledger.proofs.replay.words import Words

_SAID: Final = frozenset({"increase_approved_by", "increase_rejected_by"})
_ASKED: Final = frozenset({"increase_asked", "increase_granted"})
_BY_POLICY: Final = "policy"
EVENTS: Final = _SAID | _ASKED | {"increase_expired", "increase_rejected", "limit_granted"}


class ReplayedIncreases:
    """Follows the requests that wait."""

    def __init__(self, words: Words) -> None:
        self._words = words
        self._waiting: dict[str, tuple[Increase, dict[str, dict[str, Any]]]] = {}
        # The policy granted these when they were asked, and no approver decides them.
        self._by_policy: set[str] = set()

    def take(self, row: AuditRow) -> Iterator[str]:
        """Name what is wrong at the row, and follow it."""
        if row.event == "limit_granted":
            yield from self._granted(row)
        elif row.event in _ASKED:
            self._waiting[row.subject] = (_requested(row, self._words.in_force), {})
            if row.event == "increase_granted":
                self._by_policy.add(row.subject)
        elif row.event in _SAID:
            yield from self._decided(row)
        else:
            self._waiting.pop(row.subject, None)

    def _decided(self, row: AuditRow) -> Iterator[str]:
        body = row.body
        if row.subject not in self._waiting:
            yield "nothing waited for approval"
            return
        increase, decisions = self._waiting[row.subject]
        rejects = row.event == "increase_rejected_by"
        if not rejects and body["reason"] is not None:
            yield f"its reason is {body['reason']!r}, and nobody signs one to approve"

        def expected(policy: Policy) -> Statement:
            return increase_statement(policy, increase, reason=body["reason"] if rejects else None)

        yield from self._words.check(row, body["approver"], expected)
        if rejects:
            del self._waiting[row.subject]
        else:
            decisions[body["approver"]] = {**body, "decision": "approved"}

    def _granted(self, row: AuditRow) -> Iterator[str]:
        body = row.body
        increase, decisions = self._waiting.get(body["of"], (None, {}))
        if increase is not None and increase.kind == EMERGENCY and body["amount"] < 0:
            # An emergency is taken from others first, each with a row of its own.
            return
        self._waiting.pop(body["of"], None)
        if increase is None:
            yield f"nobody asked for it as {body['of']}"
            return
        told = (body["scope"], body["window"], body["ends_at"] - row.at)
        asked = (str(increase.scope), increase.window.value, increase.lasts_seconds)
        if told != asked or body["amount"] > increase.amount.base_units:
            yield f"{body['of']} asked for {increase.amount} USDC of {asked}, not for that"
        if body["of"] in self._by_policy:
            self._by_policy.remove(body["of"])
            if body["by"] != _BY_POLICY:
                yield f"the policy granted it, not {body['by']}"
        else:
            agreed = increase_agreement(
                self._words.in_force, increase, decisions, self._words.trust
            )
            if not agreed.met:
                yield f"it was granted though {agreed.missing}"


def _requested(row: AuditRow, policy: Policy) -> Increase:
    """Return the request as it was made; its quorum and its time are of the policy then."""
    body, approvals = row.body, policy.approvals
    amount = Usdc.from_base_units(body["amount"])
    return Increase(
        id=row.subject,
        kind=body["kind"],
        agent=body["agent"],
        scope=Scope.of(body["scope"]),
        window=Window(body["window"]),
        amount=amount,
        lasts_seconds=body["lasts_seconds"],
        why=body["why"],
        status=IncreaseStatus.WAITING,
        required=approvals.required_for(amount),
        created_at=row.at,
        expires_at=row.at + approvals.expires_after,
    )
