"""The policy and the state of the audit log that a worker believes when it signs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from coordinator.domain.chain.events import Block
from coordinator.domain.errors import LedgerTampered
from coordinator.domain.policy.policy import Policy
from coordinator.domain.ports import Clock, SafeReader
from coordinator.executor.checkpoint import Checkpoint
from coordinator.executor.safe_words import SafeWords
from coordinator.ledger.ledger import Ledger
from coordinator.ledger.proofs.evidence import Seen

_POLICY_READS: Final = 3


class Beliefs:
    """Takes what hosts wrote only as far as the worker saw it, or people signed it."""

    def __init__(
        self, ledger: Ledger, checkpoint: Checkpoint, safes: SafeReader, clock: Clock
    ) -> None:
        self._policies = ledger.policies
        self._checkpoint = checkpoint
        self._safe_words = SafeWords(safes, ledger.checkpoints, checkpoint)
        self._clock = clock

    def policy(self) -> Policy:
        """Return the policy in force, or the one signed by approvers whom the worker pins.

        LedgerTampered unless the worker saw it come into force.
        """
        for _ in range(_POLICY_READS):
            policy = self._policies.current()
            if self._checkpoint.policy in (None, policy.hash):
                return self._checkpoint.signed_policy or policy
            # It may have changed since the log was verified.
            self._checkpoint.advance(now=self._clock())
        raise LedgerTampered(f"policy {policy.hash[:12]}… is not the one last put in force")

    def seen(self, subjects: Iterable[str], *, block: Block | None) -> Seen:
        """Return what was seen, for signing what purchases and orders need after ``block``."""
        policy = self._policies.current()
        return self._safe_words.seen(subjects, policy=policy, block=block, now=self._clock())
