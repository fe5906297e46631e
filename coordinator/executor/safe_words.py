"""Ask the chain whether Safes still say what they signed, before anything is signed for it."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace

from coordinator.domain.chain.events import Block
from coordinator.domain.errors import ChainUnavailable
from coordinator.domain.policy.credentials import CredentialKind
from coordinator.domain.policy.policy import Policy
from coordinator.domain.ports import SafeReader
from coordinator.domain.statements.signed import Signed, signed_for
from coordinator.domain.typed_data import Trust
from coordinator.executor.checkpoint import Checkpoint
from coordinator.ledger.proofs.evidence import SafeWord, Seen
from coordinator.ledger.tx.checkpoints import CheckpointBook

log = logging.getLogger(__name__)


class SafeWords:
    """Adds to what the worker has seen of the log which signatures of Safes the chain confirms."""

    def __init__(self, safes: SafeReader, book: CheckpointBook, checkpoint: Checkpoint) -> None:
        self._safes = safes
        self._book = book
        self._checkpoint = checkpoint

    def seen(
        self, subjects: Iterable[str], *, policy: Policy, block: Block | None, now: int
    ) -> Seen:
        """Return what was seen, for signing what purchases and orders need after ``block``.

        Without a block no Safe is asked, and what needs its word waits.
        """
        seen = self._checkpoint.seen(now)
        believed = seen.policy or policy
        if not any(
            credential.kind is CredentialKind.SAFE
            for approver in believed.approvals.approvers.values()
            for credential in approver.credentials
        ):
            return seen
        wanted, trust = sorted(set(subjects)), self._book.trust()
        if not wanted or trust is None or block is None:
            return seen
        asked = self._book.safe_signatures(wanted)
        said = {word: answer for word, answer in self._ask(asked, trust, block)}
        return replace(seen, safes=said)

    def _ask(
        self, asked: Iterable[Signed], trust: Trust, block: Block
    ) -> Iterable[tuple[SafeWord, bool]]:
        for signed in asked:
            address, digest = signed.credential.address, signed.digest(signed_for(signed, trust))
            try:
                raw = bytes.fromhex(signed.signature.removeprefix("0x"))
                answer = self._safes.is_valid(address, digest, raw, block=block)
            except ValueError:
                answer = False
            except ChainUnavailable as fault:
                # Not asked is not refused: what needs it waits for the next round.
                log.warning("safe_does_not_answer safe=%s reason=%s", address, fault)
                continue
            yield SafeWord(address, digest, signed.signature), answer
