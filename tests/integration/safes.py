"""Safes for tests: the real contracts on Anvil, their twin on the simulated node."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

from eth_account import Account
from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount
from eth_typing import Hash32
from web3 import Web3
from web3.contract import Contract

from coordinator.chain.evm.answers import block_of
from coordinator.chain.evm.safes import Safes
from coordinator.chain.simulated import SimulatedRpc
from coordinator.domain.address import ZERO_ADDRESS, checksummed
from coordinator.domain.chain.events import Block
from coordinator.domain.signatures.ecdsa import LOW_S_MAX
from coordinator.domain.signatures.safe_signatures import SafeState, safe_message_digest
from tests.integration.local_chain import LocalChain

_PACKAGE: Final = (
    Path(__file__).resolve().parents[2]
    / "contracts/node_modules/@safe-global/safe-smart-account/build/artifacts/contracts"
)
PART_BYTES: Final = 65
_GAS: Final = 8_000_000
_SENTINEL: Final = "0x" + "1".rjust(40, "0")


@cache
def _contract(place: str) -> Contract:
    artifact = json.loads((_PACKAGE / f"{place}.json").read_text())
    made: Any = Web3().eth.contract(abi=artifact["abi"], bytecode=artifact["bytecode"])
    return made  # type: ignore[no-any-return]


def _safe() -> Contract:
    return _contract("Safe.sol/Safe")


def _factory() -> Contract:
    return _contract("proxies/SafeProxyFactory.sol/SafeProxyFactory")


def _handler() -> Contract:
    return _contract("handler/CompatibilityFallbackHandler.sol/CompatibilityFallbackHandler")


def owner_accounts(count: int) -> list[LocalAccount]:
    """Accounts with fixed keys, in the order of their addresses, which a Safe asks for."""
    made = [Account.from_key(bytes([0xA0 + number]) * 32) for number in range(count)]
    return sorted(made, key=lambda account: int(account.address, 16))


def in_order(owners: Sequence[Owner]) -> list[Owner]:
    return sorted(owners, key=lambda owner: int(owner.address, 16))


def part(account: LocalAccount, message: bytes) -> bytes:
    """The account's 65 bytes of a Safe's signature."""
    return bytes(account.unsafe_sign_hash(Hash32(message)).signature)


def joined(message: bytes, signers: Sequence[Owner], inner: Sequence[Owner] | None = None) -> bytes:
    """The signature of the message by these, in this order; those of Safes stand at the end.

    For a Safe among them ``inner`` sign, or as many of its owners as it asks for.
    """
    static, dynamic = b"", b""
    for signer in signers:
        if not isinstance(signer, SafeWallet):
            static += part(signer, message)
            continue
        place = len(signers) * PART_BYTES + len(dynamic)
        static += named(signer.address, place) + b"\0"
        signed = signer.sign(message, inner)
        dynamic += len(signed).to_bytes(32, "big") + signed
    return static + dynamic


def named(owner: str, word: int = 0) -> bytes:
    """The r and s of a part that names its owner instead of proving it."""
    return bytes.fromhex(owner[2:]).rjust(32, b"\0") + word.to_bytes(32, "big")


@dataclass(slots=True)
class SafeWallet:
    """A Safe and the keys of its owners."""

    chain: LocalChain
    address: str
    owners: list[Owner]
    threshold: int
    chain_id: int
    safes: Safes = field(init=False)

    def __post_init__(self) -> None:
        self.safes = Safes(self.chain.rpc)

    def message(self, digest: bytes) -> bytes:
        """What its owners sign so that it has signed the digest."""
        return safe_message_digest(digest, chain_id=self.chain_id, safe=self.address)

    def sign(
        self,
        digest: bytes,
        by: Sequence[Owner] | None = None,
        *,
        inner: Sequence[Owner] | None = None,
    ) -> bytes:
        """The signature of the digest by as many owners as it asks for, or ``by`` these."""
        signers = in_order(self.owners)[: self.threshold] if by is None else by
        return joined(self.message(digest), signers, inner)

    def swap_owner(self, old: Owner, new: Owner) -> None:
        """Put ``new`` into the place of ``old``, in a block of its own."""
        place = self.owners.index(old)
        after = [*self.owners[:place], new, *self.owners[place + 1 :]]
        if isinstance(self.chain.rpc, SimulatedRpc):
            # What is written without a transaction is in the newest block.
            self.chain.mine()
            addresses = [owner.address for owner in after]
            self.chain.rpc.node.set_safe(self.address, addresses, self.threshold)
        else:
            listed = self._read("getOwners")
            at = listed.index(old.address)
            before = listed[at - 1] if at else _SENTINEL
            self.execute("swapOwner", before, old.address, new.address)
        self.owners = after

    def execute(self, function: str, *args: Any) -> None:
        """Let the Safe call itself, which is how it is changed; Anvil only."""
        data = _safe().encode_abi(function, args)
        call = (self.address, 0, data, 0, 0, 0, 0, ZERO_ADDRESS, ZERO_ADDRESS)
        digest = self._read("getTransactionHash", *call, self._read("nonce"))
        signers = in_order(self.owners)[: self.threshold]
        signature = joined(digest, signers)
        sent = _safe().encode_abi("execTransaction", [*call, signature])
        self.chain.act(self.chain.admin, self.address, sent)

    def owner_approves(self, owner: LocalAccount, digest: bytes) -> None:
        """Let an owner approve the digest's hash by a transaction; Anvil only."""
        data = _safe().encode_abi("approveHash", [self.message(digest)])
        self.chain.act(owner.address, self.address, data)

    def state(self, block: Block | None = None) -> SafeState:
        return self.safes.state(self.address, block=block or head(self.chain))

    def accepts(self, digest: bytes, signature: bytes, block: Block | None = None) -> bool:
        return self.safes.is_valid(self.address, digest, signature, block=block or head(self.chain))

    def _read(self, function: str, *args: Any) -> Any:
        asked = {"to": self.address, "data": _safe().encode_abi(function, args)}
        answer = bytes.fromhex(self.chain.rpc.call("eth_call", asked, "latest")[2:])
        kinds = [o["type"] for o in _safe().get_function_by_name(function).abi["outputs"]]
        (value,) = Web3().codec.decode(kinds, answer)
        return [checksummed(o) for o in value] if function == "getOwners" else value


Owner = LocalAccount | SafeWallet


def head(chain: LocalChain) -> Block:
    return block_of(chain.rpc.call("eth_getBlockByNumber", "latest", False))


def deploy_safe(
    chain: LocalChain, owners: Sequence[Owner], threshold: int, *, salt: int = 0
) -> SafeWallet:
    """A Safe of these owners, made by its proxy factory, in a block of its own."""
    chain_id = int(chain.rpc.call("eth_chainId"), 16)
    addresses = [account.address for account in owners]
    if isinstance(chain.rpc, SimulatedRpc):
        chain.mine()
        address = chain.rpc.node.deploy_safe(addresses, threshold)
        return SafeWallet(chain, address, [*owners], threshold, chain_id)
    singleton, factory, handler = (
        create(chain, c.bytecode) for c in (_safe(), _factory(), _handler())
    )
    nobody = ZERO_ADDRESS
    setup = _safe().encode_abi(
        "setup", [addresses, threshold, nobody, b"", handler, nobody, 0, nobody]
    )
    data = _factory().encode_abi("createProxyWithNonce", [singleton, setup, salt])
    address = _made(chain, {"to": factory, "data": data})
    return SafeWallet(chain, address, [*owners], threshold, chain_id)


def create(chain: LocalChain, code: bytes) -> str:
    """Deploy a contract on Anvil; its address."""
    return _made(chain, {"data": "0x" + bytes(code).hex()})


def _made(chain: LocalChain, fields: dict[str, Any]) -> str:
    """The address of the contract that this transaction creates, itself or by a factory."""
    fees = {"maxFeePerGas": hex(10**10), "maxPriorityFeePerGas": hex(10**10)}
    transaction = {"from": chain.admin, "gas": hex(_GAS), **fees, **fields}
    tx_hash = chain.rpc.call("eth_sendTransaction", transaction)
    chain.mine()
    receipt = chain.receipt(tx_hash)
    assert receipt["status"] == "0x1", receipt
    if receipt["contractAddress"]:
        return checksummed(receipt["contractAddress"])
    # ProxyCreation is the factory's own and only event, and the last.
    return checksummed("0x" + receipt["logs"][-1]["topics"][1][-40:])


# Forms of a signature by the family's Safe.


def family(chain: LocalChain) -> SafeWallet:
    """A Safe that two of four owners sign for, one of them a Safe of two others itself."""
    accounts = owner_accounts(5)
    child = deploy_safe(chain, accounts[:2], 2, salt=1)
    return deploy_safe(chain, [child, *accounts[2:]], 2, salt=2)


def _accounts(safe: SafeWallet) -> list[LocalAccount]:
    return [owner for owner in safe.owners if not isinstance(owner, SafeWallet)]


def _child(safe: SafeWallet) -> SafeWallet:
    (child,) = (owner for owner in safe.owners if isinstance(owner, SafeWallet))
    return child


def _plain(safe: SafeWallet, digest: bytes) -> bytes:
    return safe.sign(digest, _accounts(safe)[:2])


def _of_twin(safe: SafeWallet, digest: bytes) -> bytes:
    """What another Safe of the same owners takes."""
    twin = deploy_safe(safe.chain, safe.owners, safe.threshold, salt=3)
    signature = _plain(twin, digest)
    assert twin.accepts(digest, signature)
    return signature


def _personal(safe: SafeWallet, digest: bytes) -> bytes:
    message = encode_defunct(safe.message(digest))
    made = [bytes(account.sign_message(message).signature) for account in _accounts(safe)[:2]]
    return b"".join(one[:64] + bytes([one[64] + 4]) for one in made)


def with_high_s(made: bytes) -> bytes:
    """The same with the other s of its last part."""
    r, s, v = made[:-33], int.from_bytes(made[-33:-1], "big"), made[-1]
    return r + (2 * LOW_S_MAX + 1 - s).to_bytes(32, "big") + bytes([v ^ 7])


def _by_parent(safe: SafeWallet, digest: bytes, *, inner: Sequence[Owner] | None = None) -> bytes:
    return safe.sign(digest, in_order([_child(safe), _accounts(safe)[0]]), inner=inner)


def _pointing(safe: SafeWallet, digest: bytes, place: int, behind: bytes = b"") -> bytes:
    """A part of the owner that is a Safe, which points to a place, and another owner's part."""
    message, account = safe.message(digest), _accounts(safe)[0]
    parts = [
        (_child(safe).address, named(_child(safe).address, place) + b"\0"),
        (account.address, part(account, message)),
    ]
    parts.sort(key=lambda item: int(item[0], 16))
    return b"".join(made for _, made in parts) + behind


SIGNATURES: Final[dict[str, Callable[[SafeWallet, bytes], bytes]]] = {
    "as many as it asks for": _plain,
    "more than it asks for": lambda s, d: s.sign(d, _accounts(s)),
    "eth_sign": _personal,
    "one owner short": lambda s, d: s.sign(d, _accounts(s)[:1]),
    "a stranger": lambda s, d: s.sign(d, in_order([_accounts(s)[0], owner_accounts(5)[0]])),
    "an owner twice": lambda s, d: s.sign(d, _accounts(s)[:1] * 2),
    "another order": lambda s, d: s.sign(d, _accounts(s)[1::-1]),
    "of another Safe with these owners": _of_twin,
    "of the bare digest": lambda s, d: joined(d, _accounts(s)[:2]),
    "high s": lambda s, d: with_high_s(_plain(s, d)),
    "bytes behind it": lambda s, d: _plain(s, d) + b"\0",
    "a byte short": lambda s, d: _plain(s, d)[:-1],
    "empty": lambda s, d: b"",
    "another v": lambda s, d: _plain(s, d)[:-1] + b"\x1d",
    "r of nothing": lambda s, d: bytes(32) + _plain(s, d)[32:],
    "a Safe that owns it": _by_parent,
    "a Safe that owns it, one short": lambda s, d: _by_parent(s, d, inner=_child(s).owners[:1]),
    "an owner's contract that is none": lambda s, d: (
        s.sign(d, _accounts(s)[:1]) + named(_accounts(s)[1].address, 130) + b"\0" + bytes(32)
    ),
    "a contract's part that points inside": lambda s, d: _pointing(s, d, 129),
    "a contract's part that points outside": lambda s, d: _pointing(s, d, 130),
    "a contract's part that is cut off": lambda s, d: _pointing(
        s, d, 130, (65).to_bytes(32, "big") + bytes(64)
    ),
    "a hash that nobody approved": lambda s, d: (
        named(_accounts(s)[0].address) + b"\1" + s.sign(d, _accounts(s)[1:])
    ),
}
