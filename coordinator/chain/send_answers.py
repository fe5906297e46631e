"""What nodes say to a send, and what that proves."""

from __future__ import annotations

import re
from typing import Final

from coordinator.domain.ports import SendAnswer, Sent

_GETH_POOL: Final = "go-ethereum core/txpool/errors.go"
_GETH_CORE: Final = "go-ethereum core/error.go"
_RETH: Final = "reth crates/rpc/rpc-eth-types/src/error/mod.rs"
_ANVIL: Final = "foundry crates/anvil/src/eth/error.rs"
_PARITY: Final = "openethereum rpc/src/v1/helpers/errors.rs"
_NETHERMIND: Final = "Nethermind.TxPool/AcceptTxResult.cs"
# A list of what clients say, kept by the operators of many of them.
_CHAINLINK: Final = "chainlink core/chains/evm/client/errors.go"

# Lower case, from the start of a word on, first match. RPC proxies reword the rest, so whatever is
# not here proves nothing.
MEANINGS: Final = (
    ("already known", Sent.ACCEPTED, (_GETH_POOL, _RETH)),
    ("already imported", Sent.ACCEPTED, (_ANVIL, _PARITY)),
    ("known transaction", Sent.ACCEPTED, (f"{_CHAINLINK}: Besu, Klaytn, zkSync, old go-ethereum",)),
    ("alreadyknown", Sent.ACCEPTED, (f"{_CHAINLINK}: Nethermind",)),
    # About an authorisation within the transaction, not about its own nonce.
    ("authority nonce too low", Sent.UNKNOWN, (_GETH_POOL,)),
    ("nonce too low", Sent.NONCE_USED, (_GETH_CORE, _RETH, _ANVIL)),
    ("nonce is too low", Sent.NONCE_USED, (_PARITY,)),
    ("oldnonce", Sent.NONCE_USED, (f"{_CHAINLINK}: Nethermind",)),
    ("replacement transaction underpriced", Sent.UNDERPRICED, (_GETH_POOL, _RETH)),
    ("transaction underpriced", Sent.UNDERPRICED, (_GETH_POOL, _RETH)),
    ("insufficient gas price to replace", Sent.UNDERPRICED, (_ANVIL,)),
    ("there is another transaction with same nonce", Sent.UNDERPRICED, (_PARITY,)),
    ("max fee per gas less than block base fee", Sent.UNDERPRICED, (_GETH_CORE, _RETH, _ANVIL)),
    ("nonce too high", Sent.UNKNOWN, (_GETH_CORE, _RETH, _ANVIL)),
    ("noncegap", Sent.UNKNOWN, (f"{_CHAINLINK}: Nethermind",)),
    ("noncetoofarinfuture", Sent.UNKNOWN, (_NETHERMIND,)),
    ("insufficient funds", Sent.INSUFFICIENT_FUNDS, (_GETH_CORE, _RETH, _ANVIL, _PARITY)),
    ("upfront cost exceeds account balance", Sent.INSUFFICIENT_FUNDS, (f"{_CHAINLINK}: Besu",)),
)
"""(what is said, what it proves, which client's file says it)"""

_PATTERNS: Final = tuple((re.compile(rf"\b{re.escape(t)}"), sent) for t, sent, _ in MEANINGS)


def classify(message: str) -> SendAnswer:
    """The proof in an error message; unknown is never a failure."""
    lower = message.lower()
    sent = next((sent for pattern, sent in _PATTERNS if pattern.search(lower)), Sent.UNKNOWN)
    return SendAnswer(sent, message[:300])


def best(answers: list[SendAnswer]) -> SendAnswer:
    """Of several endpoints' answers to the same bytes the one that proves most."""
    return min(answers, key=lambda answer: list(Sent).index(answer.sent))
