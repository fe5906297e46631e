"""The Python API of identities: the API keys by which the service knows who asks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from coordinator.api.arguments import checked
from coordinator.domain.access.keys import ApiKey, NewKey, Role
from coordinator.domain.errors import InvalidRequest
from coordinator.domain.inputs import id_text, identifier
from coordinator.domain.policy.policy import Policy
from coordinator.domain.spans import seconds_of

if TYPE_CHECKING:
    from coordinator.wiring import Wiring

_LIFE_SECONDS_MAX: Final = 10 * 366 * 86_400
_OVERLAP_SECONDS_MAX: Final = 30 * 86_400


@checked
class AccessApi(ABC):
    """Methods of ``Coordinator`` for API keys."""

    @property
    @abstractmethod
    def wiring(self) -> Wiring:
        """Return the coordinator's parts; CoordinatorClosed after it was closed."""

    def create_api_key(
        self,
        role: str,
        name: str,
        *,
        by: str,
        expires_after: str | int | None = None,
    ) -> NewKey:
        """Make an API key that speaks as ``name``; its token is told this once.

        ``role``: agent (of the policy in force), approver (of the policy), operator, auditor.
        ``expires_after``: "90d" or seconds, at most ten years; None: it counts until revoked.
        """
        known = _role(role)
        by, name = identifier("by", by), identifier("name", name)
        w = self.wiring
        policy = w.policies.current()
        if known is Role.AGENT and policy.agent(name) is None:
            raise InvalidRequest(f"{name} is not an agent of the policy")
        if known is Role.APPROVER and name not in policy.approvals.approvers:
            raise InvalidRequest(f"{name} is not an approver of the policy")
        now, life = w.clock(), None
        if expires_after is not None:
            life = seconds_of("expires_after", expires_after, most=_LIFE_SECONDS_MAX)
        ends = None if life is None else now + life
        return w.api_keys.create(known, name, expires_at=ends, by=by, now=now)

    def api_keys(self) -> Sequence[ApiKey]:
        """List all API keys, oldest first, without what was shown when they were made."""
        return self.wiring.api_keys.list()

    def rotate_api_key(self, key_id: str, *, by: str, overlap: str | int = "24h") -> NewKey:
        """Make another key for the same; the old one counts for ``overlap`` more, at most 30 days.

        InvalidRequest when the old one has ended; UnknownId when there is none.
        """
        w = self.wiring
        span = seconds_of("overlap", overlap, most=_OVERLAP_SECONDS_MAX, least=0)
        key_id, by, now = id_text("key id", key_id), identifier("by", by), w.clock()
        return w.api_keys.rotate(key_id, old_until=now + span, by=by, now=now)

    def revoke_api_key(self, key_id: str, *, by: str) -> ApiKey:
        """End a key at once, in every process; UnknownId when there is none."""
        w = self.wiring
        return w.api_keys.revoke(id_text("key id", key_id), by=identifier("by", by), now=w.clock())

    def authenticate(self, token: str) -> ApiKey | None:
        """Return the key that a token belongs to; None if it does not count.

        An agent's or approver's counts while the policy in force has them. LedgerTampered when the
        key's row is not what the audit log tells.
        """
        w = self.wiring
        key = w.api_keys.authenticate(token, now=w.clock())
        if key is None or not _speaks_for_somebody(key, w.policies.current()):
            return None
        return key


def _speaks_for_somebody(key: ApiKey, policy: Policy) -> bool:
    if key.role is Role.AGENT:
        return policy.agent(key.name) is not None
    return key.role is not Role.APPROVER or key.name in policy.approvals.approvers


def _role(role: str) -> Role:
    try:
        return Role(role)
    except ValueError:
        raise InvalidRequest(f"the role must be one of {', '.join(Role)}") from None
