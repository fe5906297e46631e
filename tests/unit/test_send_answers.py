"""What nodes say to a send proves no more than it says."""

from __future__ import annotations

import pytest

from coordinator.chain.evm.send_answers import MEANINGS, best, classify
from coordinator.domain.ports import SendAnswer, Sent

SAID = {
    # As the clients print it, with what they put around it.
    "already known": Sent.ACCEPTED,
    "ALREADY_EXISTS: already known": Sent.ACCEPTED,
    "Tx: [0x12] already Imported": Sent.ACCEPTED,
    "Transaction with the same hash was already imported.": Sent.ACCEPTED,
    "Known transaction": Sent.ACCEPTED,
    "known transaction: 0f3a": Sent.ACCEPTED,
    "AlreadyKnown": Sent.ACCEPTED,
    "nonce too low: next nonce 5, tx nonce 4": Sent.NONCE_USED,
    "Transaction nonce is too low. Try incrementing the nonce.": Sent.NONCE_USED,
    "replacement transaction underpriced": Sent.UNDERPRICED,
    "Tx: [0x12] insufficient gas price to replace existing transaction": Sent.UNDERPRICED,
    "max fee per gas less than block base fee: address 0x1": Sent.UNDERPRICED,
    "insufficient funds for gas * price + value: balance 1": Sent.INSUFFICIENT_FUNDS,
    "Nonce too high": Sent.UNKNOWN,
    "in-flight transaction limit reached for delegated accounts": Sent.UNKNOWN,
    "gapped-nonce tx from delegated accounts": Sent.UNKNOWN,
    # Below a node's own minimum.
    "transaction gas price below minimum: gas tip cap 1, minimum needed 2": Sent.TOO_CHEAP,
    "transaction underpriced: gas tip cap 1, minimum needed 2": Sent.TOO_CHEAP,
    "err: transaction priority fee below minimum required priority fee 7": Sent.TOO_CHEAP,
    "Gas price below configured minimum gas price": Sent.TOO_CHEAP,
    "FeeTooLow, EffectivePriorityFeePerGas too low 1 < 2, BaseFee: 3": Sent.TOO_CHEAP,
    "FeeTooLowToCompete": Sent.TOO_CHEAP,
    "gas price too low": Sent.TOO_CHEAP,
    "Gas price below current base fee": Sent.UNDERPRICED,
    "InsufficientFunds, Balance is 1 less than sending value + gas 2": Sent.INSUFFICIENT_FUNDS,
    # What looks like one of them and is none.
    "Unknown transaction type not supported": Sent.UNKNOWN,
    "unknown transaction": Sent.UNKNOWN,
    "authority nonce too low": Sent.UNKNOWN,
    "txpool is full": Sent.UNKNOWN,
    "INTERNAL_ERROR: existing tx with same hash": Sent.ACCEPTED,
    "INTERNAL_ERROR: could not replace existing tx": Sent.UNDERPRICED,
    "INTERNAL_ERROR: nonce too low": Sent.NONCE_USED,
    "fee too low": Sent.TOO_CHEAP,
    "pending sub-pool is full": Sent.UNKNOWN,
    "spammer": Sent.UNKNOWN,
    "INTERNAL_ERROR: existing txn with same hash": Sent.ACCEPTED,
    "INTERNAL_ERROR: could not replace existing txn": Sent.UNDERPRICED,
    "ReplacementNotAllowed": Sent.UNDERPRICED,
    "INTERNAL_ERROR: underpriced": Sent.TOO_CHEAP,
    "": Sent.UNKNOWN,
}


@pytest.mark.parametrize("said", SAID)
def test_a_message_proves_what_the_table_says(said: str) -> None:
    assert classify(said).sent is SAID[said]


def test_every_row_of_the_table_names_its_source() -> None:
    for text, _, sources in MEANINGS:
        assert sources and all("." in source for source in sources), text
        assert text == text.lower()


def test_of_two_endpoints_the_one_that_has_the_bytes_is_believed() -> None:
    answers = [SendAnswer(sent, sent) for sent in reversed(Sent)]
    assert best(answers).sent is Sent.ACCEPTED
    assert best(answers[:1]).sent is Sent.UNKNOWN


@pytest.mark.parametrize(
    ("said", "tip_wei"),
    [
        ("transaction gas price below minimum: gas tip cap 1, minimum needed 2000", 2000),
        ("transaction priority fee below minimum required priority fee 7", 7),
        ("Gas price below configured minimum gas price", None),
        ("insufficient funds: minimum needed 5", None),
        ("gas tip cap 1, minimum needed " + "9" * 30, None),
    ],
)
def test_the_tip_that_a_node_asks_for_is_read_from_its_words(
    said: str, tip_wei: int | None
) -> None:
    assert classify(said).tip_wei == tip_wei
