"""What nodes say to a send, and what that proves."""

from __future__ import annotations

from typing import Final

from coordinator.domain.ports import SendAnswer, Sent

# Substrings, lower case, first match. Sources: go-ethereum core/txpool/errors.go and
# core/error.go, reth's transaction-pool error.rs, anvil's pool errors; RPC proxies reword the
# rest, so whatever is not here proves nothing.
_MEANINGS: Final = (
    ("already known", Sent.ACCEPTED),
    ("already imported", Sent.ACCEPTED),
    ("known transaction", Sent.ACCEPTED),
    ("alreadyknown", Sent.ACCEPTED),
    ("alreadyexists", Sent.ACCEPTED),
    ("nonce too low", Sent.NONCE_USED),
    ("nonce is too low", Sent.NONCE_USED),
    ("underpriced", Sent.UNDERPRICED),
    ("gas price too low to replace", Sent.UNDERPRICED),
    ("max fee per gas less than block base fee", Sent.UNDERPRICED),
    ("fee cap less than block base fee", Sent.UNDERPRICED),
    ("nonce too high", Sent.UNKNOWN),
    ("nonce too far", Sent.UNKNOWN),
    ("nonce gap", Sent.UNKNOWN),
    ("insufficient funds", Sent.INSUFFICIENT_FUNDS),
    ("out of gas funds", Sent.INSUFFICIENT_FUNDS),
)


def classify(message: str) -> SendAnswer:
    """The proof in an error message; unknown is never a failure."""
    lower = message.lower()
    for text, sent in _MEANINGS:
        if text in lower:
            return SendAnswer(sent, message[:300])
    return SendAnswer(Sent.UNKNOWN, message[:300])
