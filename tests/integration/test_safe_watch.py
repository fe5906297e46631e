"""What is done to a Safe beside our purchases is told, once each, and stops a foreign hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import pytest

from coordinator.chain.safe import roles
from coordinator.chain.safe.addresses import MULTI_SEND
from coordinator.chain.safe.conditions import call_with, equal_to
from coordinator.chain.safe.configuration import APPROVE, DAILY, PURCHASES
from coordinator.chain.safe.multisend import DELEGATE_CALL, InnerCall, multi_send
from coordinator.chain.safe.safe_transactions import DISABLE_MODULE, ENABLE_MODULE
from coordinator.chain.safe.signatures import Signature
from coordinator.domain.address import ZERO_ADDRESS, checksummed
from coordinator.domain.policy.policy import Policy
from coordinator.domain.usdc import Usdc
from tests.integration.bad_endpoint import Ask, BadEndpoint, Call
from tests.integration.public_beat import Ticks
from tests.integration.stores import on_either
from tests.integration.treasuries import SafeTreasury
from tests.integration.world import World

pytestmark = on_either

SENTINEL: Final = "0x" + "1".rjust(40, "0")
STRANGER: Final = checksummed("0x" + "57" * 20)
SLOT: Final = "0x" + "0" * 64
MakeWorld = Callable[..., World]


@contextmanager
def mining(world: World) -> Iterator[SafeTreasury]:
    """Whoever acts inside has each transaction mined at once."""
    assert world.safe is not None
    world.chain.rpc.call("evm_setAutomine", True)
    yield world.safe
    world.chain.hold_blocks()


def owners_do(world: World, *calls: InnerCall) -> None:
    with mining(world) as treasury:
        treasury.owners_do(*calls)


def use_the_key(world: World, *calls: InnerCall) -> str:
    """Somebody else has the worker's key, and uses its role; the transaction's hash."""
    assert world.safe is not None
    data = roles.execute(
        MULTI_SEND.address, multi_send(calls), operation=DELEGATE_CALL, role=PURCHASES
    )
    tx_hash = world.send_as_treasury(world.safe.places.roles, "0x" + data.hex())
    world.chain.mine()
    assert int(world.chain.receipt(tx_hash)["status"], 16) == 1
    return tx_hash


def to_safe(t: SafeTreasury, signature: str, *arguments: Any) -> InnerCall:
    return InnerCall(t.address, Signature(signature).call(*arguments))


def to_roles(t: SafeTreasury, signature: str, *arguments: Any) -> InnerCall:
    return InnerCall(t.places.roles, Signature(signature).call(*arguments))


def word_of(address: str) -> str:
    return "0x" + address[2:].rjust(64, "0")


def told(world: World) -> list[tuple[str, str]]:
    """Kind and event of each notice about the Safe, in the order in which they were told."""
    notices = world.wiring.notices.list(limit=1000)
    return [
        (one.notice.kind, one.notice.fields.get("event", ""))
        for one in reversed(notices)
        if one.notice.subject == "safe"
    ]


def names(world: World) -> list[str]:
    return [name for _, name in told(world)]


def messages(world: World) -> str:
    return "\n".join(one.notice.message for one in world.wiring.notices.list(limit=1000))


def paused(world: World) -> bool:
    return "organisation" in {str(pause) for pause in world.wiring.operations.pauses()}


@pytest.fixture
def world(make_safe_world: MakeWorld) -> World:
    world = make_safe_world()
    world.round()
    assert (told(world), paused(world)) == ([], False)
    return world


def test_how_the_safe_was_set_up_is_kept_and_not_told(world: World) -> None:
    kept = world.rows("SELECT name, told FROM safe_events")
    assert ("AssignRoles", 0) in kept and {told for _, told in kept} == {0}


def test_what_we_do_ourselves_is_neither_told_nor_stopped(world: World) -> None:
    first, second, third = (world.fund("5.00", task=f"t{n}") for n in range(3))
    world.chain.deliver(first.escrow_id)
    world.chain.deliver(second.escrow_id)
    world.go()
    assert world.coordinator.settle(first.id, approver="alice").done
    assert world.coordinator.dispute(second.id, approver="alice", reason="a test")
    world.pass_time(25 * 3600)
    world.go()
    statuses = [world.status(one) for one in (first, second, third)]
    assert statuses == ["settled", "disputed", "cancelled"]
    ((count,),) = world.rows("SELECT count(*) FROM safe_events WHERE kind = 'role_used'")
    assert count >= 6
    assert (told(world), paused(world)) == ([], False)
    world.check_books()


def test_changes_by_owners_are_told_by_name_and_stop_nothing(world: World) -> None:
    t = world.safe
    assert t is not None
    _, second, third = t.limits.owners
    limits = t.limits.bucket
    changes = {
        "RemovedOwner": to_safe(t, "removeOwner(address,address,uint256)", second, third, 2),
        "AddedOwner": to_safe(t, "addOwnerWithThreshold(address,uint256)", STRANGER, 2),
        "ChangedThreshold": to_safe(t, "changeThreshold(uint256)", 1),
        "ChangedFallbackHandler": to_safe(t, "setFallbackHandler(address)", ZERO_ADDRESS),
        "SetAllowance": InnerCall(t.places.roles, roles.set_allowance(DAILY, limits)),
        "ScopeTarget": InnerCall(t.places.roles, roles.scope_target(PURCHASES, t.places.usdc)),
        "ScopeFunction": InnerCall(
            t.places.roles,
            roles.scope_function(
                PURCHASES, t.places.usdc, APPROVE.selector, call_with(equal_to(t.places.vault))
            ),
        ),
        "SetUnwrapAdapter": InnerCall(t.places.roles, roles.set_unwrapper()),
        "RevokeFunction": InnerCall(
            t.places.roles, roles.revoke_function(PURCHASES, t.places.usdc, APPROVE.selector)
        ),
        "RevokeTarget": InnerCall(t.places.roles, roles.revoke_target(PURCHASES, t.places.usdc)),
        "AssignRoles": InnerCall(
            t.places.roles, roles.assign_roles(world.signer, [PURCHASES], member_of=False)
        ),
        "DisabledModule": InnerCall(t.address, DISABLE_MODULE.call(SENTINEL, t.places.roles)),
    }
    owners_do(world, *changes.values())
    world.round()
    world.round()
    assert names(world) == [*changes]
    assert {kind for kind, _ in told(world)} == {"treasury_changed"}
    assert f"{world.signer} has not the role coordinator" in messages(world)
    assert not paused(world)
    rows = world.rows("SELECT count(*) FROM audit WHERE event = 'treasury_changed'")
    assert rows == [(len(changes),)]


FOREIGN: Final[dict[str, Callable[[SafeTreasury], InnerCall]]] = {
    "EnabledModule": lambda t: InnerCall(t.address, ENABLE_MODULE.call(STRANGER)),
    "ChangedFallbackHandler": lambda t: to_safe(t, "setFallbackHandler(address)", STRANGER),
    "AssignRoles": lambda t: InnerCall(t.places.roles, roles.assign_roles(STRANGER, [PURCHASES])),
    "SetDefaultRole": lambda t: to_roles(t, "setDefaultRole(address,bytes32)", STRANGER, PURCHASES),
    "ScopeTarget": lambda t: InnerCall(t.places.roles, roles.scope_target(PURCHASES, STRANGER)),
    "ScopeFunction": lambda t: InnerCall(
        t.places.roles,
        roles.scope_function(PURCHASES, STRANGER, APPROVE.selector, call_with(equal_to(STRANGER))),
    ),
    "AllowTarget": lambda t: to_roles(
        t, "allowTarget(bytes32,address,uint8)", PURCHASES, t.places.usdc, 0
    ),
    "AllowFunction": lambda t: to_roles(
        t,
        "allowFunction(bytes32,address,bytes4,uint8)",
        PURCHASES,
        t.places.usdc,
        APPROVE.selector,
        0,
    ),
    "SetUnwrapAdapter": lambda t: to_roles(
        t,
        "setTransactionUnwrapper(address,bytes4,address)",
        MULTI_SEND.address,
        APPROVE.selector,
        STRANGER,
    ),
    "AvatarSet": lambda t: to_roles(t, "setAvatar(address)", STRANGER),
    "TargetSet": lambda t: to_roles(t, "setTarget(address)", STRANGER),
    "OwnershipTransferred": lambda t: to_roles(t, "transferOwnership(address)", STRANGER),
}


def test_what_the_limits_never_name_stops_spending(world: World) -> None:
    assert world.safe is not None
    for name, change in FOREIGN.items():
        before = len(told(world))
        owners_do(world, change(world.safe))
        world.round()
        assert ("treasury_changed", name) in told(world)[before:]
        assert paused(world), name
        world.unpause()


def test_a_purchase_by_somebody_with_our_key_is_told_and_stops_spending(world: World) -> None:
    assert world.safe is not None
    _, calls = world.safe.create_and_link("40")
    tx_hash = use_the_key(world, world.safe.approve("40"), *calls)
    world.round()
    assert told(world) == [("role_used", "role_used")]
    assert paused(world)
    said = world.wiring.notices.list(kind="role_used")[0].notice
    assert said.severity == "critical" and said.fields["tx_hash"] == tx_hash
    assert "took 40.00 USDC of daily" in said.message


def test_an_approval_that_stays_is_told_and_stops_spending(world: World) -> None:
    assert world.safe is not None
    owners_do(world, world.safe.approve("7"))
    world.round()
    assert told(world) == [("approval_left", "approval_left")]
    assert "may still take 7.00 USDC from the Safe" in messages(world)
    assert paused(world)


def test_an_approval_of_which_a_purchase_leaves_a_part_is_told(world: World) -> None:
    assert world.safe is not None
    _, calls = world.safe.create_and_link("40")
    owners_do(world, world.safe.approve("42"), *calls)
    world.round()
    assert told(world) == [("approval_left", "approval_left")]
    assert "2.00 USDC" in messages(world)


def test_a_stored_attempt_that_nothing_proves_hides_no_foreign_hand(world: World) -> None:
    assert world.safe is not None
    world.fund("5.00")
    tx_hash = use_the_key(world, world.safe.approve("0"))
    world.edit(
        "INSERT INTO attempts (hash, step_id, raw, max_fee_per_gas, max_priority_fee_per_gas,"
        " signed_at) SELECT ?, step_id, raw, 1, 1, 1 FROM attempts LIMIT 1",
        tx_hash,
    )
    world.round()
    assert names(world) == ["role_used"]


def test_a_worker_that_was_down_tells_what_it_missed_and_a_restart_repeats_nothing(
    world: World,
) -> None:
    assert world.safe is not None
    world.coordinator.close()
    owners_do(world, to_safe(world.safe, "changeThreshold(uint256)", 1))
    owners_do(world, InnerCall(world.safe.address, ENABLE_MODULE.call(STRANGER)))
    world.restart()
    world.round()
    expected = [("treasury_changed", "ChangedThreshold"), ("treasury_changed", "EnabledModule")]
    assert told(world) == expected and paused(world)
    world.unpause()
    world.restart()
    world.chain.mine(40)
    world.round()
    world.round()
    assert told(world) == expected and not paused(world)


def test_a_change_of_a_lost_block_is_told_to_be_gone_and_again_when_it_comes_back(
    make_safe_world: MakeWorld,
) -> None:
    world = make_safe_world(finality="30")
    world.round()
    assert world.safe is not None
    threshold = to_safe(world.safe, "changeThreshold(uint256)", 1)
    owners_do(world, threshold)
    world.round()
    world.chain.rpc.call("anvil_reorg", 1, [])
    world.round()
    assert [kind for kind, _ in told(world)] == ["treasury_changed", "treasury_change_lost"]
    owners_do(world, threshold)
    world.round()
    assert [kind for kind, _ in told(world)] == [
        *("treasury_changed", "treasury_change_lost", "treasury_changed")
    ]
    assert world.rows("SELECT count(*) FROM safe_events WHERE told = 1") == [(1,)]


def test_a_block_that_is_read_again_is_not_told_again(make_safe_world: MakeWorld) -> None:
    world = make_safe_world(finality="30")
    world.round()
    before = world.wiring.books.cursor()
    assert world.safe is not None and before is not None
    owners_do(world, to_safe(world.safe, "changeThreshold(uint256)", 1))
    world.round()
    cursor = world.wiring.books.cursor()
    assert cursor is not None
    world.wiring.books.roll_back(cursor, before, now=world.clock())
    world.round()
    assert names(world) == ["ChangedThreshold"]
    assert world.rows("SELECT count(*) FROM safe_events WHERE lost = 1") == [(0,)]


def test_a_look_while_idle_sees_a_change_in_no_more_than_two_calls(world: World) -> None:
    assert world.safe is not None
    cursor = world.wiring.books.cursor()
    assert cursor is not None
    look = world.wiring.chain.anything_after
    world.chain.mine()
    assert not look(cursor.number, escrows=())
    owners_do(world, to_safe(world.safe, "changeThreshold(uint256)", 1))
    assert look(cursor.number, escrows=())
    assert look(cursor.number, escrows=("0x" + "11" * 32,))


def test_a_log_that_is_left_out_near_the_head_is_told_by_the_second_reading(
    make_safe_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_safe_world(finality="30")
    world.round()
    assert world.safe is not None
    owners_do(world, InnerCall(world.safe.address, ENABLE_MODULE.call(STRANGER)))
    enabled = Signature("EnabledModule(address)").topic

    def tell(url: str, calls: Sequence[Call], ask: Ask) -> list[Any]:
        return [
            [log for log in answer if log["topics"][0] != enabled]
            if method == "eth_getLogs"
            else answer
            for (method, _), answer in zip(calls, ask(url, calls), strict=True)
        ]

    endpoint = BadEndpoint(world.wiring.rpc, monkeypatch, tell)
    world.round()
    assert told(world) == []
    endpoint.heal()
    world.chain.mine(30)
    world.round()
    world.round()
    assert names(world) == ["EnabledModule"] and paused(world)


def by(world: World, ticks: Ticks) -> None:
    """Let the looks at the Safe's storage go by ``ticks``."""
    check = world.wiring._safe_check
    assert check is not None
    check.ticks, check._due_at = ticks, None


def looks_at_storage(world: World, ticks: Ticks) -> None:
    """Let the next hour's looks at the Safe's storage happen."""
    for seconds in (3600.0, 60.0):
        ticks.now += seconds
        world.chain.mine()
        world.round()


def test_code_of_the_safe_that_no_event_tells_is_found_by_its_storage(
    world: World, ticks: Ticks
) -> None:
    assert world.safe is not None
    by(world, ticks)
    looks_at_storage(world, ticks)
    assert (told(world), paused(world)) == ([], False)
    code = world.chain.rpc.call("eth_getStorageAt", world.safe.address, "0x0", "latest")
    world.chain.rpc.call("anvil_setStorageAt", world.safe.address, SLOT, word_of(STRANGER))
    ticks.now += 3600.0
    world.round()
    assert not paused(world), "one reading is not believed"
    ticks.now += 60.0
    world.round()
    assert told(world) == [("treasury_differs", "")] and paused(world)
    assert "the code of the Safe is 0x5757" in messages(world)
    world.unpause()
    world.restart()
    by(world, ticks)
    looks_at_storage(world, ticks)
    assert len(told(world)) == 1 and not paused(world)
    world.chain.rpc.call("anvil_setStorageAt", world.safe.address, SLOT, code)
    looks_at_storage(world, ticks)
    assert [kind for kind, _ in told(world)] == ["treasury_differs", "treasury_differs_over"]


def test_what_a_database_finds_first_of_a_safe_is_told_and_stops_nothing(
    make_safe_world: MakeWorld, ticks: Ticks
) -> None:
    world = make_safe_world()
    assert world.safe is not None
    world.chain.rpc.call("anvil_setStorageAt", world.safe.address, SLOT, word_of(STRANGER))
    by(world, ticks)
    looks_at_storage(world, ticks)
    assert told(world) == [("treasury_differs", "")] and not paused(world)


def test_an_actor_that_an_event_told_is_not_stopped_again_by_its_storage(
    world: World, ticks: Ticks
) -> None:
    assert world.safe is not None
    by(world, ticks)
    looks_at_storage(world, ticks)
    owners_do(world, InnerCall(world.safe.address, ENABLE_MODULE.call(STRANGER)))
    world.round()
    world.unpause()
    looks_at_storage(world, ticks)
    assert [kind for kind, _ in told(world)][:2] == ["treasury_changed", "treasury_differs"]
    assert not paused(world)


def test_limits_that_are_not_the_policy_s_are_told_and_stop_nothing(
    world: World, ticks: Ticks
) -> None:
    assert world.safe is not None
    by(world, ticks)
    looks_at_storage(world, ticks)
    limits = world.safe.limits
    document = world.policy.document()
    document["treasury"] = {
        "owners": list(limits.owners),
        "threshold": limits.threshold,
        "daily_limit": str(limits.daily),
        "per_purchase_limit": str(limits.purchase_max - Usdc("1")),
        "deadline_before": "2040-01-01",
    }
    world.apply(Policy.from_dict(document))
    looks_at_storage(world, ticks)
    assert {kind for kind, _ in told(world)} == {"treasury_differs"}
    assert f"lets a purchase be {limits.purchase_max} USDC" in messages(world)
    count = len(told(world))
    looks_at_storage(world, ticks)
    assert len(told(world)) == count and not paused(world)
