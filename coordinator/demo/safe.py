"""The demo's Safe: two owners, a role for the worker's key, and what a thief of that key gets."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from coordinator.chain.actp.rail import ActpRail
from coordinator.chain.networks import Deployment
from coordinator.chain.rpc.client import Rpc, RpcRefusal
from coordinator.chain.safe.configuration import APPROVE, PURCHASES, TRANSFER, Places, set_up
from coordinator.chain.safe.creation_code import CreationCode
from coordinator.chain.safe.deploying import deploy_canonical, deploy_safe, execute
from coordinator.chain.safe.limits import ChainLimits, DisputeLimits
from coordinator.chain.safe.multisend import CALL, InnerCall
from coordinator.chain.safe.refusals import role_refusal
from coordinator.chain.safe.roles import execute as through_role
from coordinator.chain.safe.safe_transactions import OwnerSignature, joined, together
from coordinator.chain.safe.sending import Sender
from coordinator.chain.signers.signers import RawKey, Signer
from coordinator.domain.errors import TxReverted
from coordinator.domain.usdc import Usdc

_YEAR: Final = 365 * 86_400
_GAS: Final = 500_000
_ALL: Final = Usdc("100")


def build_safe(
    rpc: Rpc, deployment: Deployment, *, deployer: str, provider: str, member: str
) -> Places:
    """Deploy the audited contracts and a Safe of two owners, who give the member's key a role."""
    owners = [RawKey(secrets.token_bytes(32)) for _ in range(2)]
    head = rpc.call("eth_getBlockByNumber", "latest", False)
    limits = ChainLimits(
        owners=tuple(owner.address for owner in owners),
        threshold=2,
        member=member,
        providers=(provider,),
        purchase_max=Usdc("500"),
        daily=Usdc("3000"),
        total=None,
        deadline_before=int(head["timestamp"], 16) + _YEAR,
        disputes=DisputeLimits(bonds_daily=Usdc("72"), count_daily=3),
    )
    places = Places.predicted(
        limits, kernel=deployment.kernel, vault=deployment.vault, usdc=deployment.usdc
    )
    sender = Sender(rpc, deployer)
    with _automine(rpc):
        deploy_canonical(sender, CreationCode())
        deploy_safe(sender, places, limits)
        transaction = together(set_up(places, limits), nonce=0)
        digest = transaction.digest(chain_id=deployment.chain_id, safe=places.safe)
        signed = joined([_signed(owner, digest) for owner in owners])
        execute(sender, places.safe, transaction, signed, "give the worker's key its role")
    return places


def _signed(owner: RawKey, digest: bytes) -> OwnerSignature:
    part = owner.sign(digest)
    return OwnerSignature.by_key(digest, part[:64] + bytes([part[64] + 27]))


@contextmanager
def _automine(rpc: Rpc) -> Iterator[None]:
    """Mine each transaction at once, so that setting up takes no block times."""
    rpc.call("evm_setAutomine", True)
    try:
        yield
    finally:
        rpc.call("evm_setAutomine", False)
        rpc.call("evm_setIntervalMining", 1)


class Thief:
    """Somebody who has the worker's key in hex, and wants USDC at ``address``."""

    def __init__(self, rpc: Rpc, places: Places, key: str, address: str) -> None:
        self._rpc = rpc
        self._places = places
        self._address = address
        signer = Signer.of_key(bytes.fromhex(key[2:]))
        self._sender = Sender(rpc, signer.address, signer)

    def tries(self) -> Sequence[InnerCall]:
        """Return ways to take 100 USDC out of the Safe."""
        places, me, units = self._places, self._address, _ALL.base_units
        create = ActpRail(places.kernel, places.vault, places.safe).create(
            purchase_id="",
            provider=me,
            amount=_ALL,
            service=None,
            deadline=_YEAR,
            dispute_window=3600,
            create_nonce=0,
        )
        return [
            InnerCall(places.usdc, TRANSFER.call(me, units), "a transfer"),
            InnerCall(places.usdc, APPROVE.call(me, units), "an approval"),
            InnerCall(places.kernel, bytes.fromhex(create.data[2:]), "an escrow for a stranger"),
        ]

    def attempt(self, call: InnerCall) -> str:
        """Send the call through the role; the name of the contract's refusal, or "done"."""
        data = through_role(call.to, call.data, operation=CALL, role=PURCHASES)
        sent = InnerCall(self._places.roles, data, call.title)
        asked = {"from": self._sender.address, "to": sent.to, "data": "0x" + data.hex()}
        (answer,) = self._rpc.batch([("eth_call", [asked, "latest"])])
        try:
            self._sender.send(sent, gas=_GAS)
        except TxReverted:
            why = role_refusal(answer.data) if isinstance(answer, RpcRefusal) else None
            return why.name if why is not None else "refused"
        return "done"
