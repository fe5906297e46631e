"""The money that a role can move, and when: counted as the contract does, a day's limit holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coordinator.chain.rpc.client import RpcRefusal
from coordinator.chain.safe import roles
from coordinator.chain.safe.allowances import Allowance
from coordinator.chain.safe.configuration import APPROVE, DAILY, PURCHASES, TRANSFER, X402
from coordinator.chain.safe.limits import DisputeLimits, X402Limits
from coordinator.chain.safe.multisend import CALL
from coordinator.chain.safe.refusals import RoleRefusal, Violation, role_refusal
from coordinator.chain.safe.roles_storage import allowance_slot
from coordinator.domain.chain.events import EscrowState
from coordinator.domain.usdc import Usdc
from tests.integration.treasuries import SafeTreasury

HOUR: Final = 3600
DAY: Final = 24 * HOUR
DAILY_LIMIT: Final = Usdc("720")
ZERO: Final = Usdc("0")


@st.composite
def looks(draw: st.DrawFn) -> tuple[Allowance, int]:
    """Any stored allowance, and a time at which somebody looks at it."""
    amounts = st.integers(0, 100) | st.integers(0, 10**15)
    stored = Allowance(
        refill=draw(amounts),
        max_refill=draw(amounts),
        period=draw(st.integers(0, 5) | st.integers(0, 10**6)),
        balance=draw(amounts),
        timestamp=draw(st.integers(0, 10**10)),
    )
    edge = max(stored.timestamp + draw(st.just(1) | st.integers(0, 20)) * stored.period, 2)
    return stored, draw(st.just(edge) | st.integers(edge - 1, edge + 1) | st.integers(1, 10**10))


def check_looks(treasury: SafeTreasury, count: int) -> None:
    @settings(max_examples=count, deadline=None, suppress_health_check=[*HealthCheck])
    @given(looks())
    def compare(look: tuple[Allowance, int]) -> None:
        stored, time = look
        left = stored.left_at(time)
        taken = [approval_at(treasury, stored, time, amount) for amount in (left, left + 1)]
        assert taken[0] is None
        assert taken[1] is not None and taken[1].violation is Violation.ALLOWANCE_EXCEEDED
        assert taken[1].info == DAILY

    compare()


def test_the_contract_counts_an_allowance_as_we_do(
    make_treasury: Callable[..., SafeTreasury],
) -> None:
    check_looks(make_treasury(total=None), 100)


@pytest.mark.campaign
def test_the_contract_counts_many_allowances_as_we_do(
    make_treasury: Callable[..., SafeTreasury],
) -> None:
    check_looks(make_treasury(total=None), 2000)


def approval_at(
    treasury: SafeTreasury, stored: Allowance, time: int, amount: int
) -> RoleRefusal | None:
    """What the contract says to this approval at this time, were the allowance stored like this."""
    first, second = stored_words(stored)
    slot = allowance_slot(DAILY)
    changed = {f"0x{slot:064x}": f"0x{first:064x}", f"0x{slot + 1:064x}": f"0x{second:064x}"}
    call = APPROVE.call(treasury.places.vault, amount)
    data = roles.execute(treasury.places.usdc, call, operation=CALL, role=PURCHASES)
    asked = {"from": treasury.member, "to": treasury.places.roles, "data": "0x" + data.hex()}
    state = {treasury.places.roles: {"stateDiff": changed}}
    (answer,) = treasury.chain.rpc.batch(
        [("eth_call", [asked, "latest", state, {"time": hex(time)}])]
    )
    return role_refusal(answer.data) if isinstance(answer, RpcRefusal) else None


def stored_words(stored: Allowance) -> tuple[int, int]:
    second = stored.period | stored.balance << 64 | stored.timestamp << 192
    return stored.refill | stored.max_refill << 128, second


class Thief:
    """Whoever has the key and wants as much as possible out of the Safe."""

    def __init__(self, treasury: SafeTreasury) -> None:
        self.treasury = treasury
        self.chain = treasury.chain
        self.moves: list[tuple[int, Usdc]] = []

    @property
    def left(self) -> Usdc:
        stored = treasury_allowance(self.treasury)
        return Usdc.from_base_units(stored.left_at(self.chain.time))

    @property
    def seconds_to_edge(self) -> int:
        """Until the allowance is filled again, were it not full."""
        return HOUR - (self.chain.time - treasury_allowance(self.treasury).timestamp) % HOUR

    def keep_an_approval(self, amount: Usdc | None = None) -> None:
        """Approve and buy nothing, so as to use it another day."""
        call = self.treasury.approve(str(amount or self.left))
        self.treasury.do(call.to, call.data)

    def use_the_approval(self) -> None:
        approved = self.chain.allowance(self.treasury.address)
        if approved:
            self._moving(approved, [])

    def buy(self) -> None:
        if self.left:
            self._moving(self.left, [self.treasury.approve(str(self.left))])

    def _moving(self, amount: Usdc, before: Sequence[Any]) -> None:
        _, calls = self.treasury.create_and_link(str(amount))
        balance = self.chain.balance(self.treasury.address)
        self.treasury.do_together([*before, *calls])
        moved = balance - self.chain.balance(self.treasury.address)
        self.moves.append((self.chain.time, moved))

    def most_in_a_day(self) -> Usdc:
        """The most that went in any 24 hours, both ends of them taken."""
        return max(
            Usdc.sum(moved for time, moved in self.moves if begin <= time <= begin + DAY)
            for begin, _ in self.moves
        )


def treasury_allowance(treasury: SafeTreasury) -> Allowance:
    asked = {"to": treasury.places.roles, "data": "0x" + roles.ALLOWANCES.call(DAILY).hex()}
    raw = bytes.fromhex(treasury.chain.rpc.call("eth_call", asked, "latest")[2:])
    return roles.stored_allowance(raw)


@pytest.fixture
def thief(make_treasury: Callable[..., SafeTreasury]) -> Thief:
    return Thief(make_treasury(daily=DAILY_LIMIT, purchase_max=Usdc("240"), total=None))


def test_the_greediest_key_moves_the_days_limit_and_no_unit_more(thief: Thief) -> None:
    thief.keep_an_approval()
    thief.chain.pass_time(DAY)
    # So that the hour's edge is crossed 24 times within the day.
    thief.chain.pass_time(thief.seconds_to_edge - 20)
    edge = thief.chain.time + thief.seconds_to_edge
    thief.use_the_approval()
    thief.buy()
    for hour in range(24):
        thief.chain.pass_time(edge + hour * HOUR + 20 - thief.chain.time)
        thief.buy()
    assert thief.most_in_a_day() == DAILY_LIMIT

    refusal = thief.treasury.refusal(
        thief.treasury.places.usdc, thief.treasury.approve("0.000001").data
    )
    assert refusal is not None and refusal.violation is Violation.ALLOWANCE_EXCEEDED


def run_greedy(thief: Thief, seed: int, steps: int) -> None:
    random = Random(seed)
    acts = [thief.keep_an_approval, thief.use_the_approval, thief.buy]
    for _ in range(steps):
        edge = thief.seconds_to_edge
        waits = [1, max(edge - 2, 1), edge, edge + 1, random.randint(1, 3 * HOUR)]
        waits.append(random.randint(1, DAY))
        thief.chain.pass_time(random.choice(waits))
        for act in random.sample(acts, random.randint(1, 3)):
            act()
    assert thief.moves
    assert thief.most_in_a_day() <= DAILY_LIMIT


@pytest.mark.parametrize("seed", range(2))
def test_a_greedy_key_never_moves_more_than_the_days_limit(thief: Thief, seed: int) -> None:
    run_greedy(thief, seed, 25)


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(100, 108))
def test_a_greedy_key_never_does_in_a_long_run(thief: Thief, seed: int) -> None:
    run_greedy(thief, seed, 100)


def test_hoarded_creates_need_approvals_that_the_limit_counts(thief: Thief) -> None:
    """Empty escrows are free to make, and none is funded beyond the limit later."""
    treasury = thief.treasury
    made = [treasury.create_and_link("100", number)[1] for number in range(6)]
    treasury.do_together([create for create, _ in made])
    thief.chain.pass_time(3 * HOUR)

    links = [link for _, link in made]
    refusal = treasury.refusal_together([treasury.approve("600"), *links])

    assert refusal is not None and refusal.violation is Violation.ALLOWANCE_EXCEEDED
    assert treasury.refusal_together([treasury.approve("200"), *links[:2]]) is None
    told = treasury.refusal_together([treasury.approve("200"), *links[:3]])
    assert told is not None and told.name == "ModuleTransactionFailed"


def test_what_a_purchase_gives_back_is_not_given_to_the_allowance(thief: Thief) -> None:
    (escrow_id,) = thief.treasury.buy("100")
    thief.chain.move(thief.chain.provider, escrow_id, EscrowState.CANCELLED)
    assert thief.left == Usdc("140")


def test_the_x402_wallet_is_paid_its_days_limit_and_nobody_else(
    treasury: SafeTreasury,
) -> None:
    limits = treasury.limits.x402
    assert limits is not None
    moved = ZERO
    for _ in range(25):
        data = roles.ALLOWANCES.call(X402)
        asked = {"to": treasury.places.roles, "data": "0x" + data.hex()}
        raw = bytes.fromhex(treasury.chain.rpc.call("eth_call", asked, "latest")[2:])
        left = roles.stored_allowance(raw).left_at(treasury.chain.time)
        treasury.do(treasury.places.usdc, TRANSFER.call(limits.wallet, left))
        moved += Usdc.from_base_units(left)
        treasury.chain.pass_time(HOUR)

    assert treasury.chain.balance(limits.wallet) == moved == limits.daily


def test_limits_that_contradict_each_other_are_refused(treasury: SafeTreasury) -> None:
    from dataclasses import replace

    usual = treasury.limits
    for changes, told in (
        ({"threshold": 4}, "4 of 3 owners can't sign"),
        ({"owners": (usual.owners[0],) * 2}, "an owner is named twice"),
        ({"providers": ()}, "a provider is named twice, or there is none"),
        ({"member": usual.owners[0]}, "must not own the Safe"),
        ({"purchase_max": Usdc("240.000001")}, "a third, 240.00 USDC, may go at once"),
        ({"daily": Usdc("0.000071")}, "an allowance of 0 would be an unlimited one"),
    ):
        with pytest.raises(ValueError, match=told):
            replace(usual, **changes)
    with pytest.raises(ValueError, match="unlimited"):
        _ = DisputeLimits(bonds_daily=Usdc("1"), count_daily=0).count
    with pytest.raises(ValueError, match="unlimited"):
        _ = X402Limits(wallet=treasury.member, daily=Usdc("0.000001")).transfers
