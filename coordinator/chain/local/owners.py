"""Owners of a Safe on a local node, whose accounts the node unlocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from coordinator.chain.abi import quantity
from coordinator.chain.rpc.client import Rpc
from coordinator.chain.safe.multisend import InnerCall
from coordinator.chain.safe.safe_transactions import APPROVE_HASH
from coordinator.chain.safe.sending import Sender

_GAS_WEI: Final = 10**16


def approve_as_owners(rpc: Rpc, safe: str, digest: bytes, owners: Sequence[str]) -> None:
    """Let these owners approve a transaction of the Safe; only Anvil does it without their keys."""
    for owner in owners:
        had = quantity(rpc.call("eth_getBalance", owner, "latest"))
        rpc.call("anvil_setBalance", owner, hex(had + _GAS_WEI))
        rpc.call("anvil_impersonateAccount", owner)
        try:
            call = InnerCall(safe, APPROVE_HASH.call(digest), f"approve as {owner}")
            Sender(rpc, owner).send(call)
        finally:
            rpc.call("anvil_stopImpersonatingAccount", owner)
