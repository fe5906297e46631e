"""Operators' changes of overlays: disable agents, take back grants."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from coordinator.domain.errors import InvalidRequest, UnknownId
from coordinator.domain.limits.limits import Scope, ScopeKind
from coordinator.domain.limits.overlay import Overlay
from coordinator.domain.notices import limits_changed
from coordinator.ledger.limits.overlays import insert_overlay, list_overlays
from coordinator.ledger.store.database import Database
from coordinator.ledger.tx.group_commit import GroupCommit
from coordinator.ledger.tx.transaction import Tx


class OverlayBook:
    """Lists overlays and adds to them; nothing that an apply of the policy file takes away."""

    def __init__(self, database: Database, group_commit: GroupCommit) -> None:
        self._database = database
        self._group_commit = group_commit

    def list(self) -> Sequence[Overlay]:
        """List the overlays of the policy, oldest first; grants that ended by time too."""
        with self._database.read() as connection:
            return list_overlays(connection)

    def set_enabled(self, agent: str, enabled: bool, *, by: str, reason: str, now: int) -> bool:
        """Let the agent ask, or not any more; False when it is so already.

        InvalidRequest for an agent that the policy does not have.
        """
        return self._group_commit.run(partial(_set_enabled, agent, enabled, by, reason, now))

    def withdraw(self, overlay_id: str, *, by: str, reason: str, now: int) -> Overlay:
        """End a grant or an allocation at once; UnknownId when no such overlay is in force.

        What an emergency moved goes back as a whole. What is held stays held; only new spending
        meets the lower limit.
        """
        return self._group_commit.run(partial(_withdraw, overlay_id, by, reason, now))


def _set_enabled(agent: str, enabled: bool, by: str, reason: str, now: int, tx: Tx) -> bool:
    if tx.rules.policy.agent(agent) is None:
        raise InvalidRequest(f"{agent[:60]!r} is not an agent of the policy")
    if (agent not in tx.rules.overlays.disabled) is enabled:
        return False
    tx.flush()
    insert_overlay(
        tx.connection,
        "enabled" if enabled else "disabled",
        scope=Scope(ScopeKind.AGENT, agent),
        author=by,
        reason=reason,
        starts_at=now,
    )
    done = "enabled" if enabled else "disabled"
    tx.record(now, f"agent_{done}", agent, by=by, reason=reason)
    text = f"{by} {done} {agent}: {reason}"
    tx.notify([limits_changed(f"{done}:{agent}:{now}", f"agent:{agent}", text, now)])
    tx.reread_rules()
    return True


def _withdraw(overlay_id: str, by: str, reason: str, now: int, tx: Tx) -> Overlay:
    tx.flush()
    found = [one for one in list_overlays(tx.connection) if one.id == overlay_id]
    if not found or found[0].kind not in ("grant", "allocation"):
        raise UnknownId(f"no grant or allocation {overlay_id[:60]!r} is in force")
    for one in _together(tx, found[0]):
        insert_overlay(
            tx.connection,
            "withdrawn",
            author=by,
            reason=reason,
            starts_at=now,
            withdrawn=one.id,
        )
        tx.record(now, "overlay_withdrawn", one.id, by=by, reason=reason)
    text = f"{by} took back the {found[0].kind} of {found[0].scope}: {reason}"
    tx.notify([limits_changed(f"withdrawn:{overlay_id}", str(found[0].scope), text, now)])
    tx.reread_rules()
    return found[0]


def _together(tx: Tx, overlay: Overlay) -> Sequence[Overlay]:
    if overlay.increase_id is None:
        return [overlay]
    every = list_overlays(tx.connection)
    return [one for one in every if one.increase_id == overlay.increase_id]
