"""Safes as accounts that sign: their owners, and what they say of a signature (ERC-1271)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from coordinator.chain.abi import Abi
from coordinator.chain.evm.answers import UNREADABLE, block_of, decoded, refusal_of
from coordinator.chain.evm.calls import eth_call, of_hash
from coordinator.chain.evm.everywhere import read_everywhere
from coordinator.chain.rpc.client import Call, Rpc, RpcRefusal
from coordinator.domain.address import checksummed
from coordinator.domain.chain.events import Block
from coordinator.domain.errors import ChainUnavailable, ConfigurationError
from coordinator.domain.signatures.safe_signatures import SafeState

_SIGNED: Final = "0x1626ba7e" + "00" * 28
_NOTHING: Final = "0x"
_VIEWS: Final = ("getOwners", "getThreshold", "VERSION")


@cache
def safe_abi() -> Abi:
    return Abi("Safe")


@dataclass(frozen=True, slots=True)
class Safes:
    """Reads Safes after one block, at every endpoint: ChainUnavailable where two contradict.

    An endpoint that does not have the block yet is waited for; where one stands still, the others
    are believed.
    """

    rpc: Rpc

    @property
    def host(self) -> str:
        return self.rpc.current_host

    @decoded
    def state(self, safe: str, *, block: Block) -> SafeState:
        """Read owners and threshold; ConfigurationError for an address that has no Safe of use."""
        calls = [eth_call((safe, safe_abi().call(name)), of_hash(block)) for name in _VIEWS]
        told = self._everywhere(block, [("eth_getCode", [safe, of_hash(block)]), *calls])
        found = {_found(safe, block, answers) for answers in told}
        if len(found) > 1:
            raise _contradiction(f"the Safe {safe}", block)
        state = found.pop()
        if isinstance(state, str):
            raise ConfigurationError(state)
        return state

    @decoded
    def is_valid(self, safe: str, digest: bytes, signature: bytes, *, block: Block) -> bool:
        """Whether the Safe says, without changing anything, that it has signed the digest."""
        question = (safe, safe_abi().call("isValidSignature", digest, signature))
        told = self._everywhere(block, [eth_call(question, of_hash(block))])
        said = {_signed(answer) for (answer,) in told}
        if len(said) > 1:
            raise _contradiction(f"a signature of the Safe {safe}", block)
        return said.pop()

    def _everywhere(self, block: Block, calls: Sequence[Call]) -> list[list[Any]]:
        """Each endpoint's answers; ChainUnavailable where one has another block of that number."""
        told, _ = read_everywhere(self.rpc, block.number, calls)
        if not told:
            raise ChainUnavailable(f"no endpoint has block {block.number}")
        if any(block_of(header).hash != block.hash for header, *_ in told):
            raise _contradiction("its hash", block)
        return [answers for _, *answers in told]


def _found(safe: str, block: Block, answers: Sequence[Any]) -> SafeState | str:
    """The Safe as one endpoint tells it, or why there is none of use."""
    code, *views = answers
    if isinstance(code, RpcRefusal) or not all(isinstance(a, (str, RpcRefusal)) for a in answers):
        raise ChainUnavailable(f"the endpoint does not tell what there is at {safe}")
    if code == _NOTHING:
        return f"there is no contract at the Safe's address {safe}"
    no_safe = f"the contract {safe} does not answer as a Safe does"
    refused = [refusal_of(answer, ()) for answer in views if isinstance(answer, RpcRefusal)]
    if refused:
        return no_safe
    try:
        owners, threshold, version = (
            safe_abi().result(name, answer) for name, answer in zip(_VIEWS, views, strict=True)
        )
        listed = tuple(checksummed(owner) for owner in owners)
    except UNREADABLE:
        return no_safe
    try:
        return SafeState(
            address=safe,
            owners=listed,
            threshold=threshold,
            block_number=block.number,
            block_hash=block.hash,
            version=version,
        )
    except ValueError as fault:
        return str(fault)


def _signed(answer: Any) -> bool:
    """Whether the answer is ERC-1271's word, no longer and no shorter; a revert is a no."""
    if isinstance(answer, RpcRefusal):
        refusal_of(answer, ())
        return False
    if not isinstance(answer, str) or not answer.startswith(_NOTHING):
        raise ChainUnavailable(f"the endpoint answered {str(answer)[:60]!r} where a word was due")
    return answer.lower() == _SIGNED


def _contradiction(what: str, block: Block) -> ChainUnavailable:
    return ChainUnavailable(
        f"two endpoints contradict each other about {what} at block {block.number}: nothing is"
        " decided until they agree"
    )
