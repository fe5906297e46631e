"""Proof of a treasury's configuration: every word of storage that decides who may do what.

The lists of a Safe's and a role's modules are whole, so that nobody else can call. That the key
has no further role, and a role no further contract or function, no storage tells: that is
followed by events (AssignRoles, ScopeTarget, AllowTarget, AllowFunction, ScopeFunction).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from coordinator.chain.abi import uint
from coordinator.chain.rpc.client import Rpc, RpcRefusal, RpcRefused
from coordinator.chain.safe.addresses import CANONICAL
from coordinator.chain.safe.configuration import Places
from coordinator.chain.safe.create2 import word
from coordinator.chain.safe.limits import ChainLimits
from coordinator.chain.safe.roles import module_code
from coordinator.chain.safe.roles_storage import actor_words, roles_words
from coordinator.chain.safe.safe_storage import code_word, module_words, safe_words
from coordinator.chain.safe.safe_transactions import SAFE_CODE_HASH
from coordinator.chain.safe.storage import Part, Word, mapped, usdc
from coordinator.domain.address import keccak256

# Circle's FiatTokenV2_2 keeps allowances by owner and spender there.
_TOKEN_ALLOWANCES: Final = 10


class Place(NamedTuple):
    """A word of a contract's storage."""

    contract: str
    slot: int


@dataclass(frozen=True, slots=True)
class Expected:
    """All words and codes that must hold; ``differences`` compares what was read with them."""

    words: tuple[Word, ...]
    codes: Mapping[str, str]

    def differences(self, read: Reading) -> list[str]:
        """Name in words everything that is not as it must be; none of it is missing."""
        found = [
            f"there is {'no code' if not read.codes[address] else 'other code'} at {address}"
            for address, code_hash in self.codes.items()
            if read.codes[address] != code_hash
        ]
        for due in self.words:
            found += due.differences(read.words[Place(due.contract, due.slot)])
        return found


@dataclass(frozen=True, slots=True)
class Reading:
    """The same words and codes as a chain has them; the hash of no code is empty."""

    words: Mapping[Place, int]
    codes: Mapping[str, str]


def expected(
    places: Places,
    limits: ChainLimits,
    *,
    time: int,
    owners_in_order: Sequence[str] | None = None,
) -> Expected:
    """Return what must hold at a block of the unix second ``time``.

    ``owners_in_order`` is the Safe's list where owners changed; it must be the limits' owners.
    """
    owners = limits.owners
    if owners_in_order is not None and set(owners_in_order) == set(limits.owners):
        owners = tuple(owners_in_order)
    words = [*safe_words(places.safe, owners, limits.threshold, places.roles)]
    words += roles_words(places, limits, time)
    words.append(approval_word(places))
    codes = {contract.address: contract.code_hash for contract in CANONICAL}
    codes |= {places.safe: SAFE_CODE_HASH, places.roles: keccak256(module_code()).hex()}
    return Expected(tuple(words), codes)


def expected_code(*, safe: str, roles: str) -> Expected:
    """Return the code that a Safe and its roles run, whatever the limits are."""
    codes = {safe: SAFE_CODE_HASH, roles: keccak256(module_code()).hex()}
    return Expected((code_word(safe),), codes)


def expected_actors(*, safe: str, roles: str, member: str) -> Expected:
    """Return that ``member`` alone acts for the Safe beside its owners, whatever the limits are."""
    return Expected((*module_words(safe, roles), *actor_words(roles, safe, member)), {})


def read(rpc: Rpc, asked: Expected, *, block: str | dict[str, str] = "latest") -> Reading:
    """Read what is to be compared, in one batch; RpcRefused where the node does not tell."""
    places = [Place(due.contract, due.slot) for due in asked.words]
    storage = [("eth_getStorageAt", [p.contract, f"0x{p.slot:064x}", block]) for p in places]
    answers = rpc.batch([*storage, *(("eth_getCode", [a, block]) for a in asked.codes)])
    for answer in answers:
        if isinstance(answer, RpcRefusal):
            raise RpcRefused(answer)
    words = dict(zip(places, map(uint, answers[: len(places)]), strict=True))
    codes = map(_code_hash, answers[len(places) :])
    return Reading(words, dict(zip(asked.codes, codes, strict=True)))


def _code_hash(answer: str) -> str:
    code = bytes.fromhex(answer.removeprefix("0x"))
    return keccak256(code).hex() if code else ""


def approval_word(places: Places) -> Word:
    """Return that the vault has no approval."""
    inner = mapped(word(places.safe), _TOKEN_ALLOWANCES)
    part = Part(title=f"the standing approval of {places.vault}", value=0, shown=usdc)
    return Word(places.usdc, mapped(word(places.vault), inner), (part,))
