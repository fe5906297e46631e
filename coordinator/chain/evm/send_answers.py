"""Classification of nodes' answers to a send."""

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
_GETH_VALIDATION: Final = "go-ethereum core/txpool/validation.go, op-geth and bsc as well"
_BESU: Final = "besu RpcErrorType.java"
# Its RPC puts INTERNAL_ERROR or ALREADY_EXISTS before these.
_ERIGON: Final = "erigon txnprovider/txpool/txpoolcfg/txpoolcfg.go"
# A list of what clients say, kept by the operators of many of them.
_CHAINLINK: Final = "chainlink core/chains/evm/client/errors.go"

# Lower case, from the start of a word on, first match. RPC proxies reword the rest, so whatever is
# not here proves nothing.
MEANINGS: Final = (
    ("already known", Sent.ACCEPTED, (_GETH_POOL, _RETH)),
    ("already imported", Sent.ACCEPTED, (_ANVIL, _PARITY)),
    ("known transaction", Sent.ACCEPTED, (f"{_CHAINLINK}: Besu, Klaytn, zkSync, old go-ethereum",)),
    ("existing tx with same hash", Sent.ACCEPTED, (_ERIGON,)),
    ("existing txn with same hash", Sent.ACCEPTED, (_ERIGON,)),
    ("alreadyknown", Sent.ACCEPTED, (f"{_CHAINLINK}: Nethermind",)),
    # About an authorisation within the transaction, not about its own nonce.
    ("authority nonce too low", Sent.UNKNOWN, (_GETH_POOL,)),
    ("nonce too low", Sent.NONCE_USED, (_GETH_CORE, _RETH, _ANVIL)),
    ("nonce is too low", Sent.NONCE_USED, (_PARITY,)),
    ("oldnonce", Sent.NONCE_USED, (f"{_CHAINLINK}: Nethermind",)),
    # Below a node's own minimum: nothing holds the nonce, and waiting changes nothing.
    ("gas tip cap", Sent.TOO_CHEAP, (_GETH_VALIDATION,)),
    ("transaction gas price below minimum", Sent.TOO_CHEAP, (_GETH_POOL, _GETH_VALIDATION)),
    ("below minimum required priority fee", Sent.TOO_CHEAP, (_RETH,)),
    ("gas price below configured minimum", Sent.TOO_CHEAP, (_BESU, f"{_CHAINLINK}: Besu")),
    ("gas price below current base fee", Sent.UNDERPRICED, (_BESU,)),
    ("feetoolow", Sent.TOO_CHEAP, (_NETHERMIND, f"{_CHAINLINK}: Nethermind")),
    ("satisfy your node's minimal gas price", Sent.TOO_CHEAP, (_PARITY,)),
    ("gas price too low", Sent.TOO_CHEAP, (f"{_CHAINLINK}: Arbitrum, Metis",)),
    ("replacement transaction underpriced", Sent.UNDERPRICED, (_GETH_POOL, _RETH)),
    ("transaction underpriced", Sent.UNDERPRICED, (_GETH_POOL, _RETH)),
    ("insufficient gas price to replace", Sent.UNDERPRICED, (_ANVIL,)),
    ("could not replace existing tx", Sent.UNDERPRICED, (_ERIGON,)),
    ("replacementnotallowed", Sent.UNDERPRICED, (_NETHERMIND,)),
    ("there is another transaction with same nonce", Sent.UNDERPRICED, (_PARITY,)),
    ("max fee per gas less than block base fee", Sent.UNDERPRICED, (_GETH_CORE, _RETH, _ANVIL)),
    ("nonce too high", Sent.UNKNOWN, (_GETH_CORE, _RETH, _ANVIL)),
    # An account with an EIP-7702 delegation: nodes hold one transaction of it at a time.
    ("in-flight transaction limit reached", Sent.UNKNOWN, (_GETH_POOL,)),
    ("gapped-nonce tx from delegated accounts", Sent.UNKNOWN, (_GETH_POOL,)),
    ("fee too low", Sent.TOO_CHEAP, (_ERIGON,)),
    # By itself: below the node's own minimum.
    ("underpriced", Sent.TOO_CHEAP, (_ERIGON,)),
    ("txpool is full", Sent.UNKNOWN, (_GETH_POOL,)),
    ("sub-pool is full", Sent.UNKNOWN, (_ERIGON,)),
    ("spammer", Sent.UNKNOWN, (_ERIGON,)),
    ("noncegap", Sent.UNKNOWN, (f"{_CHAINLINK}: Nethermind",)),
    ("noncetoofarinfuture", Sent.UNKNOWN, (_NETHERMIND,)),
    ("insufficient funds", Sent.INSUFFICIENT_FUNDS, (_GETH_CORE, _RETH, _ANVIL, _PARITY)),
    ("insufficientfunds", Sent.INSUFFICIENT_FUNDS, (_NETHERMIND,)),
    ("upfront cost exceeds account balance", Sent.INSUFFICIENT_FUNDS, (f"{_CHAINLINK}: Besu",)),
)
"""(what is said, what it proves, which client's file says it)"""

_TIP: Final = re.compile(r"(?:minimum needed|minimum required priority fee) (\d{1,20})\b")
_PATTERNS: Final = tuple((re.compile(rf"\b{re.escape(t)}"), sent) for t, sent, _ in MEANINGS)


def classify(message: str) -> SendAnswer:
    """The proof in an error message; unknown is never a failure."""
    lower = message.lower()
    sent = next((sent for pattern, sent in _PATTERNS if pattern.search(lower)), Sent.UNKNOWN)
    tip = _TIP.search(lower) if sent is Sent.TOO_CHEAP else None
    return SendAnswer(sent, message[:300], int(tip[1]) if tip else None)


def best(answers: list[SendAnswer]) -> SendAnswer:
    """Of several endpoints' answers to the same bytes the one that proves most."""
    return min(answers, key=lambda answer: list(Sent).index(answer.sent))
