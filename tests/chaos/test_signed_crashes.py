"""A process is killed at every point while approvers sign: what does not count pays nobody."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from coordinator.domain.policy.approvals import Approver
from coordinator.domain.policy.policy import Policy
from coordinator.domain.ports import KillPoint
from coordinator.domain.purchase.purchase import Purchase
from coordinator.domain.statements.signed import GivenSignature
from coordinator.ledger.proofs.verification import verify
from tests.chaos.evidence import check_lane, fundings
from tests.integration.signers_of_approvers import People, credential, key_of, signing
from tests.integration.stores import by_default, on_either
from tests.integration.world import World

pytestmark = on_either
# Of the kill points those between a signature and what is kept of it.
DEFAULT = frozenset(
    {
        KillPoint.STEPS_ALLOCATED,
        KillPoint.ATTEMPTS_STORED,
        KillPoint.ATTEMPTS_SENT,
        KillPoint.RECEIPTS_STORED,
    }
)

# Blocks after which one is final, and rounds until then.
_FINALITY = 10
_ROUNDS_MAX = 16


class Killed(BaseException):
    """The process ends here."""


@dataclass(frozen=True, slots=True)
class Crew:
    """A treasury whose approvers sign, two for each purchase above the threshold."""

    people: People

    @property
    def world(self) -> World:
        return self.people.world

    def buy(self, amount: str, *names: str) -> Purchase:
        """Ask for it, and have it approved by these."""
        asked = self.world.buy(amount)
        self.approve(asked, *names)
        return asked

    def approve(self, asked: Purchase, *names: str) -> None:
        for name in names:
            assert self.people.approve(self.approval_of(asked), name).done

    def approval_of(self, asked: Purchase) -> str:
        return self.world.get(asked).approval_id or ""

    def settle(self, asked: Purchase) -> None:
        world = self.world
        world.chain.deliver(world.get(asked).escrow_id)
        world.go()
        world.coordinator.settle(asked.id, approver="alice")
        (waiting,) = world.coordinator.proposals()
        for name in ("alice", "bob"):
            self.people.approve_proposal(waiting.id, name)

    def give_alice_another_key(self) -> None:
        """What alice signed before counts no more."""
        current = self.world.wiring.policies.current()
        approvers = signing("bob", "carol") | {"alice": Approver(credentials=[credential("dora")])}
        approvals = current.approvals.model_copy(update={"approvers": approvers})
        changed = current.model_copy(update={"approvals": approvals}).document()
        self.people.put_in_force(Policy.from_dict(changed), "bob", "carol")

    def crash(self, point: KillPoint, act: Callable[[], object] = lambda: None) -> None:
        """Die at the point, whenever it comes."""

        def die() -> None:
            raise Killed

        world = self.world
        world.at(point, die)
        with pytest.raises(Killed):
            act()
            for _ in range(_ROUNDS_MAX):
                world.round()
                world.chain.mine()
        world.restart()

    def lose_blocks_since(self, asked: Purchase) -> None:
        """Reorganise the chain so that nothing of it was ever mined."""
        chain = self.world.chain
        blocks = [t.block for t in self.world.get(asked).transactions if t.block is not None]
        chain.rpc.call("anvil_reorg", chain.height - min(blocks) + 1, [])

    def check(self, paid: Purchase, *unpaid: Purchase) -> None:
        world = self.world
        assert fundings(world, paid) == 1
        assert [fundings(world, one) for one in unpaid] == [0] * len(unpaid)
        check_lane(world)
        world.check_books()
        found = verify(world.wiring.audit)
        assert found.ok and found.signatures.counted >= 2


@pytest.fixture
def crew(make_world: Callable[..., World]) -> Crew:
    world = make_world(finality=str(_FINALITY))
    terms: dict[str, Any] = {
        "required": 2,
        "signatures": "required",
        "approvers": signing("alice", "bob", "carol"),
    }
    approvals = world.policy.approvals.model_copy(update=terms)
    world.apply(world.policy.model_copy(update={"approvals": approvals}))
    world.round()
    return Crew(People(world))


@pytest.mark.parametrize("point", by_default(KillPoint, DEFAULT))
def test_a_kill_at_any_point_pays_once_and_only_what_was_signed(
    crew: Crew, point: KillPoint
) -> None:
    world = crew.world
    if point is KillPoint.REQUEST_COMMITTED:
        crew.crash(point, lambda: world.buy("60.00"))
        (waiting,) = world.coordinator.approvals()
        paid = waiting.purchase
        crew.approve(paid, "alice", "bob")
        half = crew.buy("90.00", "alice")
    else:
        paid, half = crew.buy("60.00", "alice", "bob"), crew.buy("90.00", "alice")
        if point is KillPoint.ROLLED_BACK:
            world.go()
            crew.lose_blocks_since(paid)
        if point is KillPoint.HOLDS_ENDED:
            world.go()
            crew.settle(paid)
        crew.crash(point)
    badly = world.buy("70.00")
    given = GivenSignature(
        signature=key_of("mallory").sign_typed(
            world.coordinator.statement(badly.approval_id or "").message
        )
    )
    answer = world.coordinator.approve(badly.approval_id or "", approver="alice", signature=given)
    assert not answer.done
    world.go()
    crew.check(paid, half, badly)
    assert world.status(half) == world.status(badly) == "awaiting_approval"
    ends = "settled" if point is KillPoint.HOLDS_ENDED else "funded"
    assert world.status(paid) == ends


@pytest.mark.parametrize(
    "point",
    [
        KillPoint.BEFORE_ALLOCATE,
        KillPoint.STEPS_ALLOCATED,
        KillPoint.ATTEMPTS_SIGNED,
        KillPoint.ATTEMPTS_STORED,
        KillPoint.ATTEMPTS_SENT,
        KillPoint.RECEIPTS_STORED,
    ],
)
def test_who_signs_changes_after_a_kill_and_what_is_unsigned_waits_again(
    crew: Crew, point: KillPoint
) -> None:
    world = crew.world
    asked = crew.buy("60.00", "alice", "bob")
    crew.crash(point)
    told = [row["event"] for row in world.wiring.audit.rows(0, subject=asked.id)]
    crew.give_alice_another_key()
    world.go()
    if "create_signed" in told:
        # Somebody may have the bytes: only the chain can tell.
        assert world.status(asked) == "funded"
    else:
        assert world.status(asked) == "awaiting_approval"
        assert fundings(world, asked) == 0
        crew.approve(asked, "bob", "carol")
        world.go()
    crew.check(asked)
