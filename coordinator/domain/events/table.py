"""The table of public events: which audit rows are told, under which name, and with what."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from coordinator.domain.purchase.lifecycle import Status
from coordinator.domain.times import rfc3339
from coordinator.domain.usdc import Usdc

Body = Mapping[str, Any]
Fields = Callable[[str, Body], dict[str, Any]]
"""The event's fields, from the subject and the body of its row."""


class Owner(StrEnum):
    """The kinds of things that belong to one agent; the subject of a row is the thing's id."""

    PURCHASE = "purchase"
    COST = "cost"
    INCREASE = "increase"
    SESSION = "session"
    TASK = "task"


@dataclass(frozen=True, slots=True)
class Told:
    """A public event: its name, the thing whose agent it belongs to, and its fields.

    Without ``owner`` it is told to people's keys alone. ``owner_field`` names the body's value
    with the thing's id where the subject is another.
    """

    type: str
    fields: Fields
    owner: Owner | None = None
    owner_field: str | None = None
    #: Rows of which nothing is told.
    left_out: Callable[[Body], bool] = lambda body: False

    def owned_by(self, subject: str, body: Body) -> str:
        """Return the id of the thing that the event is about."""
        return str(body[self.owner_field]) if self.owner_field else subject


def _amount(units: int | None) -> str | None:
    return None if units is None else str(Usdc.from_base_units(units))


def _reason(body: Body) -> dict[str, Any] | None:
    first = next(iter(body.get("reasons") or ()), None)
    if first is not None:
        return {"code": first["code"], "message": first["message"]}
    if body.get("why") is None and body.get("code") is None:
        return None
    return {"code": body.get("code"), "message": body.get("why")}


def _purchase(status: Status) -> Fields:
    def fields(subject: str, body: Body) -> dict[str, Any]:
        approval = body.get("approval")
        return {
            "purchase_id": subject,
            "status": status.value,
            "reason": _reason(body),
            "approval_id": approval["id"] if approval else None,
            "escrow_id": body.get("escrow_id"),
            "tx_hash": body.get("tx_hash"),
        }

    return fields


def _decided(subject: str, body: Body) -> dict[str, Any]:
    found = {"purchase_id": subject, "approval_id": body["approval"]}
    return {**found, "approver": body["approver"], "reason": _text(body["reason"])}


def _contested(subject: str, body: Body) -> dict[str, Any]:
    return {"purchase_id": subject, "reason": _text(body["reason"])}


def _stranded(subject: str, body: Body) -> dict[str, Any]:
    return {"purchase_id": subject, "reason": _text(body["why"])}


def _authorised(subject: str, body: Body) -> dict[str, Any]:
    return {"purchase_id": subject, "valid_before": rfc3339(body["valid_before"])}


def _cost(status: str) -> Fields:
    def fields(subject: str, body: Body) -> dict[str, Any]:
        posted = body.get("posted", body.get("amount") if status == "posted" else None)
        told = {"cost_id": subject, "status": status, "reason": _reason(body)}
        return {**told, "posted": _amount(posted)}

    return fields


def _increase(status: str) -> Fields:
    def fields(subject: str, body: Body) -> dict[str, Any]:
        told = {"increase_id": subject, "status": status}
        return {**told, "reason": _text(body.get("reason")) if "approver" in body else None}

    return fields


def _granted(subject: str, body: Body) -> dict[str, Any]:
    return {
        "increase_id": body["of"],
        "status": "granted",
        "scope": body["scope"],
        "window": body["window"],
        "granted": _amount(body["amount"]),
        "ends_at": rfc3339(body["ends_at"]),
    }


def _run(kind: str, status: str) -> Fields:
    return lambda subject, body: {kind: subject, "status": status}


def _by(name: str) -> Fields:
    """Tell who did it and why, and under ``name`` to what."""

    def fields(subject: str, body: Body) -> dict[str, Any]:
        return {name: subject, "by": body.get("by"), "reason": _text(body.get("reason"))}

    return fields


def _policy(subject: str, body: Body) -> dict[str, Any]:
    return {"policy_hash": subject, "by": body["author"], "reason": _text(body["reason"])}


def _proposal(status: str) -> Fields:
    def fields(subject: str, body: Body) -> dict[str, Any]:
        kind = {"kind": body["kind"]} if "kind" in body else {}
        return {"proposal_id": subject, "status": status, **kind}

    return fields


def _ordered(kind: str) -> Fields:
    def fields(subject: str, body: Body) -> dict[str, Any]:
        return {"order_id": subject, "kind": kind, "amount": _amount(body.get("amount"))}

    return fields


def _ended(status: str) -> Fields:
    def fields(subject: str, body: Body) -> dict[str, Any]:
        return {"order_id": subject, "status": status, "reason": _text(body.get("why"))}

    return fields


def _watched(subject: str, body: Body) -> dict[str, Any]:
    told = {"of": subject, "event": body["name"], "reason": _text(body["why"])}
    return {**told, "tx_hash": body["tx_hash"]}


def _id(name: str) -> Fields:
    return lambda subject, body: {name: subject}


def _text(message: str | None) -> dict[str, Any] | None:
    return None if message is None else {"code": None, "message": message}


def _takes_from_others(body: Body) -> bool:
    """An emergency increase lowers what other agents of the pool may spend."""
    return bool(body["amount"] < 0)


_PURCHASE_NAMES: Final = {Status.AWAITING_APPROVAL: "approval.waiting"}

TABLE: Final[Mapping[str, Told]] = {
    **{
        f"purchase_{status}": Told(
            _PURCHASE_NAMES.get(status, f"purchase.{status}"), _purchase(status), Owner.PURCHASE
        )
        for status in Status
    },
    "purchase_approved_by": Told("approval.approved", _decided, Owner.PURCHASE),
    "purchase_rejected_by": Told("approval.rejected", _decided, Owner.PURCHASE),
    "purchase_contested": Told("purchase.contested", _contested, Owner.PURCHASE),
    "purchase_stranded": Told("purchase.stranded", _stranded, Owner.PURCHASE),
    "x402_signed": Told("purchase.authorised", _authorised, Owner.PURCHASE),
    "purchase_unstranded": Told("purchase.unstranded", _stranded, Owner.PURCHASE),
    "cost_held": Told("cost.held", _cost("held"), Owner.COST),
    "cost_denied": Told("cost.denied", _cost("denied"), Owner.COST),
    "cost_recorded": Told("cost.posted", _cost("posted"), Owner.COST),
    "cost_posted": Told("cost.posted", _cost("posted"), Owner.COST),
    "cost_voided": Told("cost.voided", _cost("voided"), Owner.COST),
    "increase_asked": Told("increase.waiting", _increase("waiting"), Owner.INCREASE),
    "limit_granted": Told(
        "increase.granted", _granted, Owner.INCREASE, "of", left_out=_takes_from_others
    ),
    "increase_rejected_by": Told("increase.rejected", _increase("rejected"), Owner.INCREASE),
    "increase_rejected": Told("increase.rejected", _increase("rejected"), Owner.INCREASE),
    "increase_expired": Told("increase.expired", _increase("expired"), Owner.INCREASE),
    "session_opened": Told("session.opened", _run("session", "open"), Owner.SESSION),
    "session_closed": Told("session.closed", _run("session", "closed"), Owner.SESSION),
    "task_opened": Told("task.opened", _run("task", "open"), Owner.TASK),
    "task_closed": Told("task.closed", _run("task", "closed"), Owner.TASK),
    "paused": Told("paused", _by("scope")),
    "unpaused": Told("unpaused", _by("scope")),
    "agent_disabled": Told("agent.disabled", _by("of_agent")),
    "agent_enabled": Told("agent.enabled", _by("of_agent")),
    "pool_shared": Told("pool.shared", _by("pool")),
    "overlay_withdrawn": Told("limit.withdrawn", _by("overlay_id")),
    "policy_activated": Told("policy.activated", _policy),
    "proposal_made": Told("proposal.waiting", _proposal("awaiting_approval")),
    "proposal_approved": Told("proposal.approved", _proposal("approved")),
    "proposal_rejected": Told("proposal.rejected", _proposal("rejected")),
    "proposal_expired": Told("proposal.expired", _proposal("expired")),
    "withdraw_ordered": Told("order.approved", _ordered("withdraw")),
    "mint_ordered": Told("order.approved", _ordered("mint")),
    "top_up_ordered": Told("order.approved", _ordered("top_up")),
    "order_done": Told("order.done", _ended("done")),
    "order_failed": Told("order.failed", _ended("failed")),
    "api_key_created": Told("api_key.created", _by("key_id")),
    "api_key_rotated": Told("api_key.rotated", _by("key_id")),
    "api_key_revoked": Told("api_key.revoked", _by("key_id")),
    "webhook_added": Told("webhook.added", _by("webhook_id")),
    "webhook_removed": Told("webhook.removed", _by("webhook_id")),
    "webhook_rotated": Told("webhook.rotated", _by("webhook_id")),
    "webhook_replayed": Told("webhook.replayed", _by("webhook_id")),
    "webhook_disabled": Told("webhook.disabled", _by("webhook_id")),
    "discrepancy_explained": Told("discrepancy.explained", _by("discrepancy_id")),
    "foreign_transaction": Told("treasury.foreign_transaction", _id("of")),
    "x402_unasked": Told("treasury.payment_unasked", _by("of")),
    "treasury_changed": Told("treasury.changed", _watched),
    "role_used": Told("treasury.role_used", _watched),
    "approval_left": Told("treasury.approval_left", _watched),
    "treasury_change_lost": Told("treasury.change_lost", _watched),
    "tampering_found": Told("treasury.tampering_found", _id("of")),
}

TYPES: Final = tuple(sorted({told.type for told in TABLE.values()}))
"""Every public name."""
