"""Routes of operators: pause, unpause, policy, shares."""

from __future__ import annotations

from fastapi import APIRouter, Response

from coordinator.domain.errors import ConfigurationError
from coordinator.domain.policy.changes import changed, changes_as_dicts
from coordinator.domain.policy.text import parse_policy
from coordinator.domain.times import rfc3339
from coordinator.server import models as m
from coordinator.server.access import ApproverCaller, ReadingCaller, StaffCaller
from coordinator.server.answers import answer
from coordinator.server.bodies import StrictRoute
from coordinator.server.policy_models import PolicyCheck, PolicyModel, PolicyText
from coordinator.server.problems import BODY_FAULTS, FAULTS

router = APIRouter(prefix="/v1", tags=["operations"], route_class=StrictRoute)


@router.post("/pause", responses={200: {"model": m.Changed}, **BODY_FAULTS})
def pause(who: StaffCaller, what: m.Pause) -> Response:
    """Stop new spending: all, one agent's, pool's or provider's, or for HTTP requests."""
    changed = who.coordinator.pause(what.reason, by=who.name, **what.scope)
    return answer({"changed": changed})


@router.post("/unpause", responses={200: {"model": m.Changed}, **BODY_FAULTS})
def unpause(who: ApproverCaller, what: m.Pause) -> Response:
    """Allow spending again, once as many approvers as the policy requires have agreed."""
    changed = who.coordinator.unpause(what.reason, by=who.name, **what.scope)
    return answer({"changed": changed})


@router.get("/pauses", responses={200: {"model": m.Items}, **FAULTS})
def pauses(who: ReadingCaller) -> Response:
    """List what is paused, oldest first."""
    found = who.coordinator.wiring.operations.pauses()
    return answer(
        {
            "items": [
                {"scope": str(p), "reason": p.reason, "by": p.by, "at": rfc3339(p.at)}
                for p in found
            ]
        }
    )


@router.get("/policy", responses={200: {"model": PolicyModel}, **FAULTS})
def policy(who: ReadingCaller) -> Response:
    """Return the policy in force, with its hash."""
    found = who.coordinator.wiring.policies.current()
    return answer({"hash": found.hash, "policy": found.document()})


@router.post("/policy/check", responses={200: {"model": PolicyCheck}, **BODY_FAULTS})
def check_policy(who: ReadingCaller, text: PolicyText) -> Response:
    """Check a policy file, and list what applying it would change; nothing is applied."""
    current = who.coordinator.wiring.policies.current()
    try:
        found = parse_policy(text.toml)
    except ConfigurationError as fault:
        told = {"ok": False, "hash": None, "faults": list(fault.faults), "changes": []}
        return answer(told)
    changes = changes_as_dicts(changed(current, found))
    return answer({"ok": True, "hash": found.hash, "faults": [], "changes": changes})
