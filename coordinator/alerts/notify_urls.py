"""Find the URLs that notices are sent to: the database names them without their tokens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from coordinator.config import read_policy
from coordinator.domain.errors import ConfigurationError
from coordinator.domain.policy.notify_urls import whole_urls
from coordinator.domain.policy.policy import Policy
from coordinator.ledger.tx.policies import PolicyBook


class NotifyUrls:
    """The targets of the policy in force, with the tokens of this process's own policy file."""

    def __init__(
        self, policies: PolicyBook, source: Policy | Path, secrets: Mapping[str, str]
    ) -> None:
        self._policies = policies
        self._source = source
        self._secrets = secrets
        self._own: tuple[str, list[str]] = ("", [])

    def __call__(self) -> list[tuple[str, str | None]]:
        """Return what may be shown of each target, and its URL; None where it is not known here."""
        policy = self._policies.current()
        if not policy.alerts.notify:
            return []
        if self._own[0] != policy.hash:
            self._own = (policy.hash, self._read_own())
        return list(whole_urls(policy.alerts.notify, self._own[1], self._secrets.get))

    def _read_own(self) -> list[str]:
        try:
            own = self._source if isinstance(self._source, Policy) else read_policy(self._source)
        except ConfigurationError:
            return []
        return own.alerts.notify
