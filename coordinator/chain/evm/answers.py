"""Decode answers of nodes; whatever can't be decoded raises ChainUnavailable."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Concatenate, Final, ParamSpec, Protocol, TypeVar

from eth_abi.exceptions import DecodingError

from coordinator.chain.abi import Abi, number, refused_by_contract, revert_reason, word
from coordinator.chain.evm.send_answers import classify
from coordinator.chain.rpc.client import RpcRefusal
from coordinator.domain.chain.events import Block
from coordinator.domain.chain.steps import Receipt
from coordinator.domain.errors import ChainUnavailable, CoordinatorError
from coordinator.domain.ports import SendAnswer, Sent

log = logging.getLogger(__name__)

# What decoding raises when a field is missing, or is of another type or form.
UNREADABLE: Final = (
    KeyError,
    IndexError,
    TypeError,
    ValueError,
    AttributeError,
    OverflowError,
    DecodingError,
)


class _Reads(Protocol):
    @property
    def host(self) -> str: ...


S = TypeVar("S", bound=_Reads)
P = ParamSpec("P")
R = TypeVar("R")


def decoded(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """A read that raises ChainUnavailable, with the endpoint's host, for what it can't decode."""

    @wraps(method)
    def read(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(self, *args, **kwargs)
        except CoordinatorError:
            raise
        except UNREADABLE as fault:
            log.debug("answer_unreadable read=%s", method.__name__, exc_info=True)
            raise ChainUnavailable(
                f"the endpoint {self.host} gave an answer that can't be read"
                f" ({method.__name__}: {type(fault).__name__})"
            ) from fault

    return read


def block_of(header: dict[str, Any]) -> Block:
    return Block(number(header["number"]), word(header["hash"]), number(header["timestamp"]))


def receipt_of(tx_hash: str, receipt: dict[str, Any]) -> Receipt:
    l1_fee = number(receipt.get("l1Fee") or "0x0")
    operator = number(receipt.get("operatorFee") or "0x0")
    return Receipt(
        tx_hash=tx_hash,
        block_number=number(receipt["blockNumber"]),
        block_hash=word(receipt["blockHash"]),
        succeeded=number(receipt["status"]) == 1,
        gas_used=number(receipt["gasUsed"]),
        effective_gas_price=number(receipt["effectiveGasPrice"]),
        l1_fee_wei=number(hex(l1_fee + operator)),
    )


def logs_of(answers: Sequence[Any], where: str) -> list[dict[str, Any]]:
    """All logs of several answers; ChainUnavailable when one was refused."""
    refused = next((a for a in answers if isinstance(a, RpcRefusal)), None)
    if refused is not None or any(not isinstance(a, list) for a in answers):
        said = refused.message[:200] if refused else "no list"
        raise ChainUnavailable(f"logs of {where} were refused: {said}")
    return [log for answer in answers for log in answer]


def refusal_of(answer: RpcRefusal, abis: Sequence[Abi]) -> str:
    """Return the contract's revert reason; ChainUnavailable when the node itself failed."""
    if not refused_by_contract(answer):
        raise ChainUnavailable(f"the endpoint could not run a call: {answer.message[:200]}")
    return revert_reason(answer, abis)


def sent_of(answer: Any) -> SendAnswer:
    """Classify an answer to a send: only a hash proves that it was taken."""
    if isinstance(answer, RpcRefusal):
        return classify(answer.message)
    try:
        word(answer)
    except ChainUnavailable as fault:
        return SendAnswer(Sent.UNKNOWN, str(fault))
    return SendAnswer(Sent.ACCEPTED, "")
