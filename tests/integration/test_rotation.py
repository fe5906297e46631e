"""The treasury's key is rotated: a new account pays, the former one ends what it began."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from coordinator import ConfigurationError, InvalidRequest, Purchase, Usdc
from coordinator.domain.chain.accounts import OwnAccount, account_name
from coordinator.domain.chain.journal import EntryKind
from coordinator.domain.errors import CoordinatorError
from coordinator.domain.ports import KillPoint
from coordinator.domain.usdc import ZERO
from coordinator.ledger.proofs.verification import verify
from tests.integration.signed_story import Log
from tests.integration.signers_of_approvers import People, credential
from tests.integration.stores import by_default, on_either
from tests.integration.test_rebuild import all_entries, export
from tests.integration.test_reorg import finalise
from tests.integration.test_worker_rules import signed_policy
from tests.integration.world import World

pytestmark = on_either

NEW_KEY = "NEW_TREASURY_KEY"
SETTINGS = {"signer": f"env:{NEW_KEY}", "former_signers": "env:TREASURY_PRIVATE_KEY"}
STATES = ("funded", "started", "delivered", "contested", "disputed")


class Rotated:
    """A treasury whose key is rotated while escrows are open in every state."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.former = world.treasury
        self.bought: dict[str, Purchase] = {}

    def live(self) -> None:
        """Buy what is then open, and what was asked and not paid yet."""
        world, chain = self.world, self.world.chain
        self.bought = {name: world.buy("20.00", idempotency_key=name) for name in STATES}
        world.go()
        ids = {name: world.get(p).escrow_id for name, p in self.bought.items()}
        chain.start(ids["started"])
        for name in ("delivered", "contested", "disputed"):
            chain.deliver(ids[name])
        world.go()
        disputed = self.bought["disputed"].id
        assert world.coordinator.dispute(disputed, approver="alice", reason="empty").done
        world.go()
        finalise(world)
        self.bought["waiting"] = world.buy("60.00", idempotency_key="waiting")
        self.bought["asked"] = world.buy("7.00", idempotency_key="asked")

    def set_up(self) -> None:
        """Change the settings, as an operator does once every process is stopped."""
        self.world.coordinator.close()
        self.world.secrets.setdefault(NEW_KEY, "0x" + secrets.token_hex(32))
        self.world._settings |= SETTINGS
        self.world.coordinator = self.world.open()
        self.world.treasury = self.world.coordinator.opened.signer.address

    def begin(self) -> bool:
        return self.world.coordinator.opened.rotation.begin(by="olga")

    def rotate(self) -> None:
        self.set_up()
        assert self.begin()
        self.world.chain.fund(self.world.treasury, usdc="0", wei=10**17)

    def end_everything(self) -> None:
        """Let every escrow of the former account come to its end."""
        world, chain = self.world, self.world.chain
        bought = {name: world.get(p) for name, p in self.bought.items()}
        assert world.coordinator.settle(bought["delivered"].id, approver="alice").done
        contest = world.coordinator.dispute(
            bought["contested"].id, approver="alice", reason="empty"
        )
        assert contest.done
        world.go()
        for name in ("contested", "disputed"):
            assert world.status(self.bought[name]) == "disputed"
            chain.resolve(
                bought[name].escrow_id, requester="20.00", provider="0.00", provider_at_fault=True
            )
        chain.deliver(bought["started"].escrow_id)
        assert bought["funded"].deadline is not None
        world.pass_time_until(bought["funded"].deadline)
        world.go()
        world.pass_time_until(chain.window_ends(bought["started"].escrow_id) + 1)
        world.go()
        ends = {name: world.status(self.bought[name]) for name in STATES}
        assert ends == {
            "funded": "cancelled",
            "started": "settled",
            "delivered": "settled",
            "contested": "settled",
            "disputed": "settled",
        }
        finalise(world)
        world.go()
        finalise(world)

    def check(self) -> None:
        """Chain, journal and log agree, account by account."""
        world = self.world
        world.check_books()
        held = world.chain.balance(self.former)
        assert world._booked(account_name(self.former)) == held
        assert verify(world.wiring.audit).ok

    @property
    def status(self) -> tuple[str, ...]:
        (former,) = self.world.wiring.rotation.status()
        assert former.address == self.former
        return former.waits_for


@pytest.fixture
def rotated(world: World) -> Rotated:
    made = Rotated(world)
    made.live()
    return made


def test_a_key_is_rotated_while_escrows_are_open_in_every_state(
    rotated: Rotated, tmp_path: Path
) -> None:
    world, chain, former = rotated.world, rotated.world.chain, rotated.former
    in_all = chain.balance(former)
    rotated.rotate()
    rotated.world.go()
    rotated.check()

    # USDC is moved but for the bonds that contesting the open escrows may take.
    left = chain.balance(former)
    assert ZERO < left < Usdc("10") < chain.balance(world.treasury) < in_all
    # What was asked before is paid by the new account, and so is what is asked now.
    assert world.status(rotated.bought["asked"]) == "funded"
    assert world.coordinator.approve(rotated.bought["waiting"].approval_id, approver="alice").done
    world.go()
    for name in ("asked", "waiting"):
        assert requester(world, world.get(rotated.bought[name])) == world.treasury.lower()
    assert requester(world, world.fund("3.00")) == world.treasury.lower()
    assert rotated.status[0] == "5 escrows of 100.00 USDC open"
    with pytest.raises(InvalidRequest, match="has something left to do"):
        world.wiring.rotation.finish(by="olga", timeout_seconds=0)

    rotated.end_everything()
    rotated.check()
    assert chain.balance(former) == ZERO
    assert rotated.status == ()

    finish(rotated)
    chain.mine()
    world.go()
    rotated.check()
    assert chain.gas_balance_wei(former) < 10**15
    kinds = [e.kind for e in world.entries() if account_name(former) in (e.debit, e.credit)]
    assert kinds.count(EntryKind.CLOSING) == 1 and EntryKind.INTERNAL in kinds
    assert EntryKind.OUTFLOW not in [e.kind for e in world.entries()]

    # What happens to the former account from now on is nobody's business of ours.
    with mining(world):
        chain.fund(former, usdc="5", wei=10**16)
    world.go()
    world.check_books()
    rebuild(rotated, tmp_path)


def test_a_former_account_without_eth_is_told_of_until_it_has_some(rotated: Rotated) -> None:
    world = rotated.world
    rotated.rotate()
    world.chain.rpc.call("anvil_setBalance", rotated.former, "0x1")
    # Its account is ours from a later block on.
    for _ in range(3):
        world.round()
        world.chain.mine()
    low = "former_gas_balance_low"
    (told,) = (kept.notice for kept in world.coordinator.alerts(kind=low))
    assert told.subject == rotated.former and "send it ETH" in told.message
    world.chain.rpc.call("anvil_setBalance", rotated.former, hex(10**17))
    world.chain.mine()
    world.round()
    assert len(world.coordinator.alerts(kind=low)) == 1
    assert len(world.coordinator.alerts(kind=f"{low}_over")) == 1


def test_the_worker_counts_the_nonces_of_each_account_by_itself(rotated: Rotated) -> None:
    world, chain = rotated.world, rotated.world.chain
    rotated.rotate()
    world.go()
    world.fund("3.00")
    before, after = chain.nonce(rotated.former), chain.nonce(world.treasury)
    assert 0 < after < before
    nonces = world.wiring.checkpoint.nonces
    assert (nonces(rotated.former), nonces(world.treasury)) == (before, after)
    world.restart()
    world.round()
    assert world.wiring.checkpoint.nonces(world.treasury) == after


def test_a_log_tells_that_each_key_has_named_the_next(rotated: Rotated) -> None:
    world = rotated.world
    rotated.rotate()
    world.go()
    world.fund("3.00")
    log = Log(world, list(world.wiring.audit.export()))
    assert log.faults() == []
    place, stranger = log.of("treasury_rotated"), world.chain.stranger

    def forged(change: Callable[[dict[str, Any]], object]) -> str:
        return " ".join(log.with_row(place, lambda row: change(row["body"])).faults())

    assert "the former key has not signed it" in forged(lambda body: body.update(after_row=1))
    assert "the former key's signature does not count" in forged(
        lambda body: body.update(signature="0x00")
    )
    assert f"not {stranger}" in forged(lambda body: body.update(former=stranger))
    assert "who signed, was no account" in forged(lambda body: body.update(to=stranger))
    gone = " ".join(log.without(place).faults())
    assert f"no rotation names {world.treasury}" in gone
    assert f"{world.treasury}, who signed, was no account of this treasury" in gone
    last = log.of("link_signed", -1)
    other = log.with_row(last, lambda row: row["body"].update(signer=stranger)).faults()
    assert f"{stranger}, who signed, was no account of this treasury" in " ".join(other)


def requester(world: World, purchase: Purchase) -> str:
    ((found,),) = world.rows(
        "SELECT requester FROM escrows WHERE escrow_id = ?", purchase.escrow_id
    )
    return str(found)


def finish(rotated: Rotated) -> None:
    """Finish, and see the ETH arrive."""
    with mining(rotated.world):
        (found,) = rotated.world.wiring.rotation.finish(by="olga", timeout_seconds=30)
    assert found.last_block is not None


@contextmanager
def mining(world: World) -> Iterator[None]:
    """Mine each transaction at once."""
    world.chain.rpc.call("evm_setAutomine", True)
    yield
    world.chain.rpc.call("evm_setAutomine", False)


def rebuild(rotated: Rotated, folder: Path) -> None:
    """The rotated treasury's books are the same again, from chain and export."""
    world = rotated.world
    before, file = all_entries(world.coordinator), export(world, folder / "audit.jsonl")
    world.restart(world.store.url("rebuilt"))
    assert world.coordinator.rebuild(audit=file).discrepancies == ()
    assert all_entries(world.coordinator) == before
    world.unpause()
    world.fund("2.00")
    world.check_books()


def test_a_rotated_treasury_is_rebuilt_from_the_chain_and_the_settings_alone(
    rotated: Rotated,
) -> None:
    world = rotated.world
    rotated.rotate()
    world.go()
    world.change_host()
    world.restart(world.store.url("rebuilt"))
    found = {d.kind for d in world.coordinator.rebuild().discrepancies}
    # Without the log nobody is known to have asked; both accounts are ours all the same.
    assert found == {"unknown_escrow"}
    world.unpause()
    world.go()
    for account in (rotated.former, world.treasury):
        assert world._booked(account_name(account)) == world.chain.balance(account)
    assert verify(world.wiring.audit).ok


def test_the_key_is_not_rotated_before_what_was_created_is_funded_for_good(world: World) -> None:
    rotated = Rotated(world)
    world.buy_and_send()
    rotated.set_up()
    with pytest.raises(InvalidRequest, match="2 transactions that create or fund"):
        rotated.begin()
    world._settings.clear()
    world.coordinator = world.open()
    world.chain.mine()
    world.round()
    rotated.set_up()
    with pytest.raises(InvalidRequest, match="1 escrows were funded in blocks that are not final"):
        rotated.begin()
    assert [a.address for a in accounts_of(world)] == [rotated.former]


def accounts_of(world: World) -> list[OwnAccount]:
    """The accounts by the database, read as the former settings read them."""
    world._settings.clear()
    world.coordinator = world.open()
    return list(world.wiring.books.accounts())


@pytest.mark.campaign
def test_nothing_goes_on_between_new_settings_and_the_rotation(rotated: Rotated) -> None:
    world = rotated.world
    rotated.set_up()
    with pytest.raises(ConfigurationError, match="coordinator rotate begin"):
        world.buy("1.00")
    assert rotated.begin()
    assert not rotated.begin()


def test_a_worker_that_goes_on_with_the_former_key_writes_and_signs_nothing(
    rotated: Rotated,
) -> None:
    world = rotated.world
    old = world.open()
    old.wiring.books.cursor()
    rotated.rotate()
    sent = world.chain.nonce(rotated.former)
    with pytest.raises(CoordinatorError):
        old.wiring.executor.run_once()
    with pytest.raises(CoordinatorError):
        old.agent("research-agent").purchase(
            provider="paper-api", amount="1.00", purpose="a test", wait=False
        )
    world.chain.mine()
    assert world.chain.nonce(rotated.former) == sent
    old.close()
    world.go()
    rotated.check()
    assert not world.wiring.operations.pauses()


def test_a_rotation_waits_for_the_worker_to_stop(rotated: Rotated) -> None:
    world = rotated.world
    world.round()
    world._settings |= SETTINGS
    world.secrets[NEW_KEY] = "0x" + secrets.token_hex(32)
    other = world.open()
    with pytest.raises(InvalidRequest, match="stop it first"):
        other.opened.rotation.begin(by="olga")


CRASHES = (
    KillPoint.STEPS_ALLOCATED,
    KillPoint.ATTEMPTS_STORED,
    KillPoint.ATTEMPTS_SENT,
    KillPoint.EVENTS_STORED,
    KillPoint.RECEIPTS_STORED,
)


@pytest.mark.parametrize("point", by_default(CRASHES, {KillPoint.ATTEMPTS_SENT}))
def test_a_crash_after_the_rotation_moves_usdc_once_and_ends_every_escrow(
    rotated: Rotated, point: KillPoint
) -> None:
    world = rotated.world
    rotated.rotate()

    def crash() -> None:
        raise Crashed

    world.at(point, crash)
    with pytest.raises(Crashed):
        world.go()
    world.chain.mine()
    world.restart()
    world.go()
    rotated.check()
    rotated.end_everything()
    rotated.check()
    assert rotated.status == ()


class Crashed(BaseException):
    """A process ends where it stands."""


@pytest.mark.campaign
def test_hosts_certified_before_are_valid_and_those_revoked_stay_so(rotated: Rotated) -> None:
    world = rotated.world
    hosts, now = world.wiring.hosts, world.clock()
    for name in ("kept", "stolen"):
        hosts.add(name, secrets.token_hex(32), by="olga", now=now)
    hosts.revoke("stolen", reason="lost", by="olga", now=now)
    before = {(h.id, h.status) for h in hosts.list()}
    rotated.rotate()
    assert {(h.id, h.status) for h in world.wiring.hosts.list()} == before
    assert verify(world.wiring.audit).ok


def test_a_treasury_that_sql_puts_in_place_is_nobodys(rotated: Rotated) -> None:
    world = rotated.world
    thief = Rotated(world)
    world.coordinator.close()
    world.secrets[NEW_KEY] = "0x" + secrets.token_hex(32)
    world._settings |= SETTINGS
    address = world.open().opened.signer.address
    world._settings.clear()
    world.edit("UPDATE identity SET treasury = ?", address)
    world.coordinator = world.open()
    with pytest.raises(ConfigurationError, match="belongs to treasury"):
        world.buy("1.00")
    assert thief.former == world.coordinator.opened.signer.address


@pytest.mark.campaign
def test_a_key_is_rotated_again_before_the_first_rotation_is_finished(rotated: Rotated) -> None:
    world = rotated.world
    rotated.rotate()
    world.go()
    second = world.treasury
    started = world.fund("9.00")
    world.chain.start(started.escrow_id)
    finalise(world)
    world.secrets |= {"FIRST_KEY": world.secrets["TREASURY_PRIVATE_KEY"]}
    world.secrets |= {"SECOND_KEY": world.secrets.pop(NEW_KEY)}
    world.coordinator.close()
    world.secrets[NEW_KEY] = "0x" + secrets.token_hex(32)
    world._settings["former_signers"] = "env:SECOND_KEY, env:FIRST_KEY"
    world.coordinator = world.open()
    world.treasury = world.coordinator.opened.signer.address
    assert rotated.begin()
    world.chain.fund(world.treasury, usdc="0", wei=10**17)
    world.go()
    rotated.end_everything()
    for account in (rotated.former, second, world.treasury):
        assert world._booked(account_name(account)) == world.chain.balance(account)
    first, last = world.wiring.rotation.status()
    assert (first.address, first.waits_for) == (rotated.former, ())
    assert last.address == second and last.waits_for[0] == "1 escrows of 9.00 USDC open"
    assert requester(world, world.fund("3.00")) == world.treasury.lower()
    rotated.check()


@pytest.mark.campaign
@pytest.mark.parametrize("remembers", [True, False], ids=["same host", "another host"])
def test_what_people_signed_before_counts_for_a_worker_that_pins_them(
    make_world: Callable[..., World], remembers: bool
) -> None:
    pins = ",".join(str(credential(name)) for name in ("alice", "bob"))
    world = make_world(worker_approvers=pins)
    world.apply(signed_policy(world))
    people = People(world)
    people.put_in_force(world.wiring.policies.current(), "alice", "bob")
    world.round()
    waiting = world.buy("60.00")
    for name in ("alice", "bob"):
        people.approve(waiting.approval_id or "", name)
    rotated = Rotated(world)
    if not remembers:
        world.change_host()
    rotated.rotate()
    world.go()
    small = world.buy("10.00")
    world.go()
    assert [world.status(p) for p in (waiting, small)] == ["funded", "funded"]
    rotated.check()
