"""A purchase that can't be funded leaves nothing on chain, whatever the cause.

Each cause is brought about while create and link, both signed and sent, wait in the pool.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from coordinator import Usdc
from coordinator.chain.abi import token_abi
from coordinator.chain.actp.abi import kernel_abi
from coordinator.chain.actp.rail import ActpRail
from coordinator.domain.chain.events import EscrowState
from coordinator.domain.chain.steps import Step, StepKind
from coordinator.domain.purchase.purchase import Purchase
from coordinator.domain.usdc import ZERO
from tests.integration.stores import on_both_payers, on_either, on_wallet
from tests.integration.world import World

pytestmark = [on_either, on_both_payers]

HOUR = 3600


@pytest.fixture(autouse=True)
def _retries_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.executor.due._RETRY_SECONDS", 0)


def is_link(step: Step) -> bool:
    return step.kind is StepKind.LINK


def check_unfunded(world: World, asked: Purchase, said: str) -> Purchase:
    """Nothing is left on chain, its hold is void, and the contract's words are told.

    A wallet cancels the escrow that it created; a Safe created none.
    """
    purchase = world.get(asked)
    assert purchase.status == world.unfunded
    transactions = [(t.step, t.status) for t in purchase.transactions]
    if world.safe is None:
        assert world.chain.state(purchase.escrow_id) is EscrowState.CANCELLED
        assert transactions == [("create", "mined"), ("link", "reverted"), ("cancel", "mined")]
    else:
        assert world.chain.kernel("requesterNonces", world.treasury) == 0
        assert transactions == [("create", "reverted"), ("link", "reverted")]
    assert world.chain.remaining(purchase.escrow_key) == ZERO
    assert purchase.reason is not None and purchase.reason.code == "reverted"
    assert said in purchase.reason.message
    assert world.hold(purchase) == ("voided", ZERO)
    world.check_nothing_spent()
    return purchase


def check_next_is_funded(world: World) -> None:
    purchase = world.fund("10.00")
    assert world.chain.state(purchase.escrow_id) is EscrowState.FUNDED
    assert world.chain.balance(world.treasury) == Usdc("990")
    world.check_books()


def test_usdc_drained_between_send_and_block_cancels(world: World) -> None:
    asked = world.buy_and_send()
    world.chain.set_balance(world.treasury, Usdc("24.999999"))
    world.go()
    check_unfunded(world, asked, "ERC20: transfer amount exceeds balance")
    # The USDC left without a transfer: the books can't explain it, and say how much.
    assert world.discrepancies() == [("balance_differs", "-975.000001")]
    world.chain.set_balance(world.treasury, Usdc("1000"))
    check_next_is_funded(world)


@on_wallet
def test_an_allowance_taken_away_cancels_and_is_given_again(world: World) -> None:
    settled_in = world.fund("1.00")
    world.chain.move(world.chain.provider, settled_in.escrow_id, EscrowState.CANCELLED)
    asked = world.buy_and_send()
    assert [step.kind.value for step in world.in_flight()] == ["create", "link"]
    world.chain.set_allowance(world.treasury, Usdc("24.999999"))
    world.go()
    check_unfunded(world, asked, "ERC20: transfer amount exceeds allowance")
    check_next_is_funded(world)
    approvals = world.rows("SELECT usdc FROM steps WHERE kind = 'approve'")
    # 24.999999 left is enough for 10.
    assert approvals == [(1_000_000_000,)]


def test_a_vault_taken_off_the_list_cancels_and_the_next_waits_for_it(world: World) -> None:
    chain, asked = world.chain, world.buy_and_send()
    chain.kernel_admin("approveEscrowVault", chain.deployment.vault, False)
    world.go()
    check_unfunded(world, asked, "Escrow not approved")
    world.check_books()
    waiting = world.buy("10.00")
    world.round()
    # Nothing is signed while the rail says that no link would be accepted.
    assert (world.status(waiting), world.in_flight()) == ("approved", [])
    chain.kernel_admin("approveEscrowVault", chain.deployment.vault, True)
    chain.mine()
    world.go()
    assert world.status(waiting) == "funded"
    world.check_books()


@on_wallet
def test_a_kernel_paused_after_the_create_strands_it_until_it_can_be_cancelled(
    world: World,
) -> None:
    chain, asked = world.chain, world.buy_and_send()
    (link,) = world.hold_back(is_link)
    chain.mine()
    chain.kernel_admin("pause")
    world.send_bytes([link])
    chain.mine()
    for _ in range(2):
        world.round()
        stuck = world.get(asked)
        assert (stuck.status, world.in_flight()) == ("created", [])
        assert chain.state(stuck.escrow_id) is EscrowState.CREATED
        assert stuck.stranded is not None
        assert "refuses to cancel it (Kernel paused)" in stuck.stranded.message
        assert world.usage() == (Usdc("25"), ZERO)
        chain.mine()
    (reported,) = world.coordinator.report().as_dict()["stranded"]
    assert (reported["purchase_id"], reported["amount"]) == (asked.id, "25.00")
    # Told once, however often it is tried.
    told = world.rows("SELECT count(*) FROM audit WHERE event = 'purchase_stranded'")
    assert told == [(1,)]
    chain.kernel_admin("unpause")
    chain.mine()
    world.go()
    freed = check_unfunded(world, asked, "Kernel paused")
    assert freed.stranded is None
    check_next_is_funded(world)


def test_a_kernel_paused_before_the_create_fails_with_nothing_on_chain(world: World) -> None:
    chain, asked = world.chain, world.buy_and_send()
    chain.kernel_admin("pause")
    world.go()
    failed = world.get(asked)
    assert (failed.status, failed.escrow_id) == ("failed", None)
    assert failed.reason is not None and "Kernel paused" in failed.reason.message
    assert chain.kernel("requesterNonces", world.treasury) == 0
    assert world.hold(failed) == ("voided", ZERO)
    world.check_nothing_spent()
    chain.kernel_admin("unpause")
    chain.mine()
    check_next_is_funded(world)


def test_an_escrow_id_taken_by_a_stranger_cancels(world: World) -> None:
    chain = world.chain
    chain.rpc.call("evm_setAutomine", True)
    chain.fund(chain.stranger, usdc="1.00", wei=0)
    chain.hold_blocks()
    asked = world.buy_and_send()
    escrow_key = asked.escrow_key
    d = chain.deployment
    own = ActpRail(d.kernel, d.vault, chain.stranger).create(
        purchase_id="",
        provider=chain.other_provider,
        amount=Usdc("0.05"),
        service=None,
        deadline=chain.time + HOUR,
        dispute_window=HOUR,
        create_nonce=0,
    )
    assert own.escrow_id is not None
    chain.send(chain.stranger, d.usdc, token_abi().call("approve", d.vault, 50_000))
    chain.send(chain.stranger, d.kernel, own.data)
    chain.send(
        chain.stranger,
        d.kernel,
        kernel_abi().call("linkEscrow", own.escrow_id, d.vault, escrow_key),
    )
    world.round()
    chain.mine()
    assert chain.state(own.escrow_id) is EscrowState.FUNDED
    world.go()
    ended = world.get(asked)
    assert ended.status == world.unfunded
    if world.safe is None:
        assert chain.state(ended.escrow_id) is EscrowState.CANCELLED
    assert ended.reason is not None
    assert "Escrow ID already used" in ended.reason.message
    assert world.hold(ended) == ("voided", ZERO)
    world.check_nothing_spent()
    # What the vault holds under the key is the stranger's, and none of our books count it.
    assert chain.remaining(escrow_key) == Usdc("0.05")
    assert world.moves(asked) == []
    check_next_is_funded(world)


@on_wallet
def test_a_deadline_that_passes_between_create_and_link_cancels(world: World) -> None:
    chain, asked = world.chain, world.buy_and_send()
    (link,) = world.hold_back(is_link)
    chain.mine()
    world.round()
    deadline = world.get(asked).deadline
    assert deadline is not None
    world.next_block_at(deadline + 1)
    world.send_bytes([link])
    chain.mine()
    world.go()
    purchase = world.get(asked)
    assert purchase.status == "cancelled"
    assert chain.state(purchase.escrow_id) is EscrowState.CANCELLED
    (reverted,) = world.rows("SELECT revert_reason FROM steps WHERE status = 'reverted'")
    assert reverted == ("Transaction expired",)
    assert purchase.reason is not None and purchase.reason.code == "expired"
    assert "deadline" in purchase.reason.message
    assert world.hold(purchase) == ("voided", ZERO)
    world.check_nothing_spent()
    check_next_is_funded(world)


def test_a_paused_token_cancels(world: World) -> None:
    chain, asked = world.chain, world.buy_and_send()
    # The approval of the first purchase goes before it: a paused token refuses that too.
    held = world.hold_back(lambda step: step.kind is not StepKind.APPROVE)
    chain.mine()
    chain.token_admin("pause")
    world.send_bytes(held)
    chain.mine()
    world.go()
    check_unfunded(world, asked, "Pausable: paused")
    chain.token_admin("unpause")
    chain.mine()
    check_next_is_funded(world)


def test_a_blacklisted_treasury_cancels(world: World) -> None:
    chain, asked = world.chain, world.buy_and_send()
    chain.token_admin("blacklist", world.treasury)
    world.go()
    check_unfunded(world, asked, "Blacklistable: account is blacklisted")
    assert chain.balance(world.treasury) == Usdc("1000")
    chain.token_admin("unBlacklist", world.treasury)
    chain.mine()
    check_next_is_funded(world)


@on_wallet
def test_a_token_that_refuses_the_approval_too_cancels(world: World) -> None:
    chain, asked = world.chain, world.buy_and_send()
    chain.token_admin("pause")
    world.go()
    purchase = world.get(asked)
    assert purchase.status == "cancelled"
    assert chain.state(purchase.escrow_id) is EscrowState.CANCELLED
    assert world.rows("SELECT kind, status FROM steps ORDER BY nonce") == [
        ("approve", "reverted"),
        ("create", "mined"),
        ("link", "reverted"),
        ("cancel", "mined"),
    ]
    world.check_nothing_spent()
    chain.token_admin("unpause")
    chain.mine()
    check_next_is_funded(world)


def refuse_settling(world: World, cause: str, *, undo: bool) -> None:
    chain = world.chain
    if cause == "blacklist":
        chain.token_admin("unBlacklist" if undo else "blacklist", chain.provider)
    elif cause == "pause":
        chain.kernel_admin("unpause" if undo else "pause")
    else:
        chain.kernel_admin("approveEscrowVault", chain.deployment.vault, undo)
    chain.mine()


@pytest.mark.parametrize(
    ("cause", "said"),
    [
        ("blacklist", "Blacklistable: account is blacklisted"),
        ("pause", "Kernel paused"),
        ("unlist", "Vault not approved"),
    ],
)
def test_a_refused_settlement_is_stranded_until_it_is_accepted(
    make_world: Callable[..., World], cause: str, said: str
) -> None:
    world = make_world(settle="on_delivery")
    chain, asked = world.chain, world.buy_and_send()
    if cause == "blacklist":
        # While it waits: funding pays the vault, so it is mined all the same.
        chain.token_admin("blacklist", chain.provider)
    world.go()
    purchase = world.get(asked)
    assert purchase.status == "funded"
    chain.deliver(purchase.escrow_id)
    if cause != "blacklist":
        refuse_settling(world, cause, undo=False)
    for _ in range(2):
        world.go()
        stuck = world.get(asked)
        assert (stuck.status, world.in_flight()) == ("delivered", [])
        assert stuck.stranded is not None
        assert f"refuses to settle it ({said})" in stuck.stranded.message
    assert world.hold(stuck) == ("held", ZERO)
    assert world.usage() == (Usdc("25"), ZERO)
    assert chain.remaining(stuck.escrow_key) == Usdc("25")
    world.check_books()
    refuse_settling(world, cause, undo=True)
    world.go()
    settled = world.get(asked)
    assert (settled.status, settled.stranded) == ("settled", None)
    assert chain.balance(chain.provider) == Usdc("24.75")
    world.check_books()


def test_a_vault_off_the_list_for_too_long_fails_the_purchase(world: World) -> None:
    chain = world.chain
    chain.kernel_admin("approveEscrowVault", chain.deployment.vault, False)
    chain.mine()
    asked = world.buy()
    world.round()
    assert world.status(asked) == "approved"
    world.pass_time(HOUR + 2)
    world.go()
    failed = world.get(asked)
    assert failed.status == "failed"
    assert failed.reason is not None and failed.reason.code == "expired"
    assert world.hold(failed) == ("voided", ZERO)
    assert world.rows("SELECT count(*) FROM steps") == [(0,)]
    world.check_nothing_spent()
    world.check_books()


def test_one_that_can_not_be_funded_leaves_those_beside_it_alone(world: World) -> None:
    small, large = world.buy("25.00"), world.buy("40.00")
    after = world.buy("10.00")
    world.round()
    world.chain.set_balance(world.treasury, Usdc("35"))
    world.go()
    statuses = [world.status(p) for p in (small, large, after)]
    assert statuses == ["funded", world.unfunded, "funded"]
    assert world.chain.balance(world.treasury) == ZERO
    assert world.usage() == (Usdc("35"), ZERO)
    assert world.discrepancies() == [("balance_differs", "-965.00")]


@on_wallet
def test_a_cancel_survives_a_restart(world: World) -> None:
    asked = world.buy_and_send()
    world.chain.set_balance(world.treasury, ZERO)
    world.chain.mine()
    world.round()
    assert [step.kind.value for step in world.in_flight()] == ["cancel"]
    world.restart()
    world.go()
    check_unfunded(world, asked, "ERC20: transfer amount exceeds balance")
