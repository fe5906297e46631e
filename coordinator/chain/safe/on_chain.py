"""A treasury as its chain has it at one block: owners, members, what its allowances leave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from eth_abi.exceptions import DecodingError

from coordinator.chain.abi import quantity
from coordinator.chain.rpc.client import Rpc, RpcRefusal
from coordinator.chain.safe.allowances import Allowance
from coordinator.chain.safe.configuration import (
    BONDS,
    DAILY,
    DISPUTE_COUNT,
    TOTAL,
    X402,
    Places,
)
from coordinator.chain.safe.roles import ALLOWANCES, stored_allowance
from coordinator.chain.safe.safe_storage import END
from coordinator.chain.safe.safe_transactions import NONCE
from coordinator.chain.safe.signatures import Signature
from coordinator.domain.address import checksummed
from coordinator.domain.errors import ChainUnavailable
from coordinator.domain.usdc import Usdc

_OWNERS: Final = Signature("getOwners()")
_THRESHOLD: Final = Signature("getThreshold()")
_MEMBERS: Final = Signature("getModulesPaginated(address,uint256)")
_APPROVED_HASHES: Final = Signature("approvedHashes(address,bytes32)")
_BALANCE: Final = Signature("balanceOf(address)")
_LISTED: Final = Signature("of(address[])")
_PAGE: Final = Signature("of(address[],address)")
_NUMBER: Final = Signature("of(uint256)")
_MEMBERS_MAX: Final = 50
_KEYS: Final = (DAILY, TOTAL, BONDS, DISPUTE_COUNT, X402)


@dataclass(frozen=True, slots=True, kw_only=True)
class OnChain:
    """The Safe and its roles after one block, each list in the contract's order.

    ``modules`` act for the Safe without its owners, ``members`` are keys that may call the roles.
    ``nonce`` is that of the Safe's next transaction.
    """

    block: int
    time: int
    owners: tuple[str, ...] = ()
    threshold: int = 0
    nonce: int = 0
    usdc: Usdc | None = None
    modules: tuple[str, ...] = ()
    members: tuple[str, ...] = ()
    allowances: Mapping[bytes, Allowance] | None = None

    @property
    def created(self) -> bool:
        """Whether the Safe is there."""
        return bool(self.owners)

    @property
    def set_up(self) -> bool:
        """Whether its roles are."""
        return self.allowances is not None

    @property
    def tag(self) -> str:
        """The block as calls name it."""
        return hex(self.block)


def read_on_chain(rpc: Rpc, places: Places) -> OnChain:
    """Read all of one block; without a Safe or roles there, what they would say is missing."""
    head = rpc.call("eth_getBlockByNumber", "latest", False)
    block, time = quantity(head["number"]), quantity(head["timestamp"])
    tag = hex(block)
    codes = rpc.batch([("eth_getCode", [a, tag]) for a in (places.safe, places.roles)])
    has_safe, has_roles = (isinstance(code, str) and len(code) > 2 for code in codes)
    found: dict[str, Any] = {"block": block, "time": time}
    if has_safe:
        asked = ((places.safe, _OWNERS), (places.safe, _THRESHOLD), (places.safe, NONCE))
        owners, threshold, nonce = (_view(rpc, to, f.call(), tag) for to, f in asked)
        balance = _view(rpc, places.usdc, _BALANCE.call(places.safe), tag)
        found |= {
            "owners": _addresses(_decoded(_LISTED, owners)[0]),
            "threshold": _decoded(_NUMBER, threshold)[0],
            "nonce": _decoded(_NUMBER, nonce)[0],
            "modules": _page(rpc, places.safe, tag),
            "usdc": Usdc.from_base_units(_decoded(_NUMBER, balance)[0]),
        }
    if has_roles:
        stored = [_view(rpc, places.roles, ALLOWANCES.call(key), tag) for key in _KEYS]
        found |= {
            "members": _page(rpc, places.roles, tag),
            "allowances": {k: stored_allowance(s) for k, s in zip(_KEYS, stored, strict=True)},
        }
    return OnChain(**found)


def approved_by(rpc: Rpc, safe: str, digest: bytes, owners: Sequence[str]) -> list[str]:
    """Return the owners who approved the transaction on the chain itself."""
    said = [_view(rpc, safe, _APPROVED_HASHES.call(o, digest), "latest") for o in owners]
    return [o for o, answer in zip(owners, said, strict=True) if _decoded(_NUMBER, answer)[0]]


def _page(rpc: Rpc, to: str, tag: str) -> tuple[str, ...]:
    return _addresses(_decoded(_PAGE, _view(rpc, to, _MEMBERS.call(END, _MEMBERS_MAX), tag))[0])


def _view(rpc: Rpc, to: str, data: bytes, tag: str) -> bytes:
    (answer,) = rpc.batch([("eth_call", [{"to": to, "data": "0x" + data.hex()}, tag])])
    if isinstance(answer, RpcRefusal) or not isinstance(answer, str):
        raise ChainUnavailable(f"{to} does not say what a Safe or its roles say")
    return bytes.fromhex(answer.removeprefix("0x"))


def _decoded(signature: Signature, answer: bytes) -> tuple[Any, ...]:
    try:
        return signature.decoded(answer)
    except (DecodingError, OverflowError, ValueError):
        raise ChainUnavailable("the endpoint does not say what a Safe or its roles say") from None


def _addresses(found: Sequence[str]) -> tuple[str, ...]:
    return tuple(map(checksummed, found))
