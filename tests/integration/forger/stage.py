"""A treasury whose worker believes what people signed, and what left it by the chain's word."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from coordinator import Coordinator
from coordinator.chain.actp.abi import kernel_abi
from coordinator.domain.address import checksummed
from coordinator.domain.errors import LedgerTampered
from coordinator.domain.policy.approvals import Tier
from coordinator.domain.policy.policy import Policy
from coordinator.domain.purchase.purchase import Purchase
from coordinator.domain.usdc import ZERO, Usdc
from coordinator.ledger.proofs.verification import verify
from tests.integration.signers_of_approvers import People, credential, signing
from tests.integration.world import World

THIEF: Final = "0x90F79bf6EB2c4f870365E785982E1f101E93b906"
HONEST: Final = Usdc("10.00")
DAILY: Final = Usdc("250.00")
TIER: Final = Usdc("150")
_ROUNDS: Final = 4


class Stage:
    """The worker pins alice and bob; two of alice, bob and carol decide, and above 150 USDC three.

    It signs at most 250 USDC a day. data-agent asks nobody below that tier.
    """

    def __init__(self, make_world: Callable[..., World], **settings: str) -> None:
        pins = ",".join(str(credential(name)) for name in ("alice", "bob"))
        self.world = make_world(
            worker_approvers=pins, **{"worker_daily_limit": str(DAILY)} | settings
        )
        self.people = People(self.world)
        self.world.apply(_policy(self.world))
        self.people.put_in_force(self.policy(), "alice", "bob")
        self.world.round()
        self.before = self.world.chain.balance(self.world.treasury)
        self.stopped: list[str] = []

    def policy(self) -> Policy:
        return self.world.coordinator.wiring.policies.current()

    def decider(self) -> Coordinator:
        """A process of a certified host without the treasury's key."""
        world = self.world
        made = world.open(
            signer=f"address:{world.treasury}",
            state_folder=str(world.folder / "decider"),
            host_name="decider",
        )
        own = made.opened.own_host
        world.wiring.hosts.add(own.name, own.key.public_key, by="olga", now=world.clock())
        self.work(1)
        return made

    def approved(self, amount: str = "60.00", *by: str, **terms: Any) -> Purchase:
        """What approvers have signed, and the worker has not seen."""
        asked = self.world.buy(amount, **terms)
        for name in by or ("alice", "bob"):
            self.people.approve(asked.approval_id or "", name)
        return self.world.get(asked)

    def work(self, rounds: int = _ROUNDS) -> None:
        """Let the worker do whatever it would; what stops it is kept."""
        for _ in range(rounds):
            try:
                self.world.round()
            except LedgerTampered as fault:
                self.stopped.append(str(fault))
            self.world.chain.mine()

    def left(self) -> Usdc:
        """The USDC that left the treasury, into escrow or to anybody."""
        return self.before - self.world.chain.balance(self.world.treasury)

    def payees(self) -> set[str]:
        """Who is paid by the escrows that the treasury has on the chain."""
        chain = self.world.chain
        created = kernel_abi().topic("TransactionCreated")
        asked = {"fromBlock": "0x0", "address": chain.deployment.kernel, "topics": [created]}
        topics = [log["topics"] for log in chain.rpc.call("eth_getLogs", asked)]
        ours = self.world.treasury[2:].lower()
        return {
            checksummed("0x" + provider[-40:])
            for _, _, requester, provider in topics
            if requester.endswith(ours)
        }

    def told(self) -> str:
        """Everything that people are told, each with what it is about."""
        notices = self.world.rows("SELECT kind, subject, message FROM notices")
        orders = self.world.rows("SELECT status, id, message FROM orders")
        stranded = self.world.rows("SELECT 'stranded', id, stranded FROM purchases")
        found = [*notices, *orders, *stranded, *(("stopped", "", why) for why in self.stopped)]
        return "\n".join(" ".join(map(str, one)) for one in found)

    def verified(self) -> str:
        """What `audit verify` names."""
        return "\n".join(verify(self.world.wiring.audit).faults)

    def check(self, left: Usdc, told: str) -> None:
        """Just so much has left, to the signed provider alone, and people are told."""
        world = self.world
        assert self.left() == left, self.told()
        assert world.chain.balance(THIEF) == world.chain.balance(world.chain.stranger) == ZERO
        assert self.payees() <= {world.chain.provider}
        assert told in self.told(), self.told()


def _policy(world: World) -> Policy:
    document = json.loads(json.dumps(world.policy.document()))
    document["agents"]["data-agent"]["approval_threshold"] = "unlimited"
    asked = Policy.from_dict(document).approvals.model_copy(
        update={
            "required": 2,
            "signatures": "required",
            "approvers": signing("alice", "bob", "carol"),
            "tiers": [Tier(above=TIER, required=3)],
        }
    )
    policy = Policy.from_dict(document).model_copy(update={"approvals": asked})
    return Policy.from_dict(policy.document())
