"""Several calls as one, by MultiSendCallOnly: all of them happen, or none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from coordinator.chain.safe.create2 import address_bytes
from coordinator.chain.safe.signatures import Signature

MULTI_SEND_FUNCTION: Final = Signature("multiSend(bytes)")
# Whoever sends through MultiSend has its code run in its own name.
DELEGATE_CALL: Final = 1
CALL: Final = 0


@dataclass(frozen=True, slots=True)
class InnerCall:
    """A call without ETH; ``title`` says it in words."""

    to: str
    data: bytes
    title: str = ""


def multi_send(calls: Sequence[InnerCall]) -> bytes:
    """Encode a call to MultiSendCallOnly, which takes it by DELEGATE_CALL only."""
    return MULTI_SEND_FUNCTION.call(b"".join(map(_packed, calls)))


def _packed(call: InnerCall) -> bytes:
    length = len(call.data).to_bytes(32, "big")
    return bytes([CALL]) + address_bytes(call.to) + bytes(32) + length + call.data
