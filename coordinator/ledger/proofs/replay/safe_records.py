"""Compare the records of Safes with the chain: a record is as good as whoever wrote it."""

from __future__ import annotations

from collections.abc import Iterator

from coordinator.domain.chain.events import Block
from coordinator.domain.errors import ChainUnavailable, ConfigurationError
from coordinator.domain.ports import SafeReader
from coordinator.ledger.proofs.replay.words import RecordedSafe


def differences(word: RecordedSafe, safes: SafeReader) -> Iterator[str]:
    """Say what the chain tells otherwise at the block of the record; nothing when it agrees."""
    recorded = word.state
    block = Block(recorded.block_number, recorded.block_hash, 0)
    try:
        told = safes.state(recorded.address, block=block)
        if told != recorded:
            yield (
                f"{word.row}: the Safe {recorded.address} had {told.threshold} of"
                f" {', '.join(told.owners)} at block {block.number}, not {recorded.threshold} of"
                f" {', '.join(recorded.owners)}"
            )
        elif not safes.is_valid(recorded.address, word.digest, word.signature, block=block):
            yield f"{word.row}: the Safe {recorded.address} does not accept this signature"
    except (ChainUnavailable, ConfigurationError) as fault:
        yield f"{word.row}: the Safe's record can't be compared with the chain: {fault}"
