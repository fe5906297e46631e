"""A policy comes into force by signatures, and what moves money elsewhere takes effect late."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coordinator.cli.decisions import find_decision
from coordinator.cli.exits import ExitCode
from coordinator.cli.proposals import show_proposal
from coordinator.doctor.local import LocalPatient
from coordinator.domain.errors import ConfigurationError, InvalidRequest
from coordinator.domain.policy.export import to_toml
from coordinator.domain.policy.policy import Policy
from coordinator.domain.policy.tables import Withdrawals
from coordinator.domain.reasons import ReasonCode
from tests.integration.signed_story import Log
from tests.integration.signers_of_approvers import People, signing
from tests.integration.stores import on_either
from tests.integration.world import World

pytestmark = on_either
DAY = 86_400


def approvals(world: World, **terms: Any) -> Policy:
    asked = world.policy.approvals.model_copy(update=terms)
    return world.policy.model_copy(update={"approvals": asked})


@pytest.fixture
def people(world: World) -> Iterator[People]:
    """Two of three sign; a change of who is paid or decides takes a day.

    Whatever was done, the log proves that it might be.
    """
    world.apply(
        approvals(
            world,
            required=2,
            signatures="required",
            approvers=signing("alice", "bob", "carol"),
            change_delay=DAY,
        )
    )
    world.round()
    yield People(world)
    assert exported(world).faults() == []


def exported(world: World) -> Log:
    return Log(world, list(world.wiring.audit.export()))


def current(world: World) -> Policy:
    return world.coordinator.wiring.policies.current()


def with_payee(world: World, name: str = "new-api") -> Policy:
    policy = current(world)
    entry = policy.providers["other-api"].model_copy(update={"address": world.chain.stranger})
    return policy.model_copy(update={"providers": policy.providers | {name: entry}})


def test_nobody_applies_a_file_where_signatures_are_required(people: People) -> None:
    with pytest.raises(ConfigurationError, match="policy draft"):
        people.world.apply(with_payee(people.world))


def test_what_pays_nobody_else_is_in_force_with_the_last_signature(people: People) -> None:
    world = people.world
    changed = current(world).model_copy(
        update={"alerts": current(world).alerts.model_copy(update={"thresholds": [50]})}
    )
    people.put_in_force(changed, "alice", "bob")
    assert current(world).hash == changed.hash


def test_a_payee_is_paid_a_day_after_the_draft(people: People) -> None:
    world = people.world
    changed = with_payee(world)
    draft = world.coordinator.draft_policy(changed, by="olga", reason="a test")
    people.approve_proposal(draft.id, "alice")
    _, refusal = people.approve_proposal(draft.id, "bob")
    assert refusal is not None and refusal.code is ReasonCode.CHANGE_DELAYED
    assert "new-api" in refusal.message
    world.pass_time(DAY - 60)
    world.go()
    assert current(world).hash != changed.hash
    world.pass_time(120)
    world.wiring.treasury.put_policies_in_force()
    assert current(world).hash == changed.hash
    bought = world.buy("10.00", provider="new-api")
    world.go()
    assert world.status(bought) == "funded"
    log, early = exported(world), draft.created_at + DAY - 1
    forged = log.with_row(log.of("policy_activated", -1), lambda row: row.update(at=early))
    assert "it came into force before" in forged.faults()[0]


def test_one_approver_stops_a_draft_that_enough_have_signed(people: People) -> None:
    world = people.world
    changed = with_payee(world)
    draft = world.coordinator.draft_policy(changed, by="mallory", reason="a test")
    for name in ("alice", "bob"):
        people.approve_proposal(draft.id, name)
    why = "I was not asked"
    signature = people.sign(draft.id, "carol", reason=why)
    _, refusal = world.coordinator.reject_proposal(
        draft.id, approver="carol", reason=why, signature=signature
    )
    assert refusal is None
    world.pass_time(2 * DAY)
    world.wiring.treasury.put_policies_in_force()
    assert current(world).hash != changed.hash


def test_a_draft_of_a_version_that_was_replaced_meanwhile(people: People) -> None:
    world = people.world
    alerts = current(world).alerts.model_copy(update={"thresholds": [50]})
    old = world.coordinator.draft_policy(with_payee(world), by="olga", reason="a test")
    people.put_in_force(current(world).model_copy(update={"alerts": alerts}), "alice", "bob")
    assert world.coordinator.proposals() == []
    for _ in range(2):
        _, refusal = people.approve_proposal(old.id, "alice")
        assert refusal is not None and "draft it again" in refusal.message
    assert world.coordinator.proposal(old.id).status == "expired"


def test_the_last_signature_of_a_draft_that_is_late_asks_for_no_more(people: People) -> None:
    world = people.world
    draft = world.coordinator.draft_policy(with_payee(world), by="olga", reason="a test")
    codes = []
    for name in ("alice", "bob"):
        signature = people.sign(draft.id, name)
        codes.append(find_decision(world.coordinator, draft.id).approve(name, signature))
    assert codes == [ExitCode.AWAITING_APPROVAL, ExitCode.OK]


def test_withdrawals_go_to_listed_addresses_only(people: People) -> None:
    world = people.world
    listed = Withdrawals(listed_only=True, addresses={"cold": world.chain.payee})
    changed = current(world).model_copy(update={"withdrawals": listed})
    draft = world.coordinator.draft_policy(changed, by="olga", reason="a test")
    for name in ("alice", "bob"):
        people.approve_proposal(draft.id, name)
    world.pass_time(DAY + 1)
    world.wiring.treasury.put_policies_in_force()
    world.round()
    with pytest.raises(InvalidRequest, match="not among"):
        world.wiring.treasury.withdraw(
            to=world.chain.stranger, amount="5", approver="alice", reason="payday"
        )
    order = world.wiring.treasury.withdraw(
        to=world.chain.payee, amount="5", approver="alice", reason="payday"
    )
    assert order.status == "awaiting_approval"
    before = world.chain.balance(world.chain.payee)
    for name in ("alice", "bob"):
        people.approve_proposal(order.id, name)
    world.go()
    assert str(world.chain.balance(world.chain.payee) - before) == "5.00"


def test_the_treasurys_key_recovers_a_policy_in_72_hours(people: People) -> None:
    world = people.world
    approvals = current(world).approvals.model_copy(
        update={"approvers": signing("dora"), "required": 1}
    )
    changed = current(world).model_copy(update={"approvals": approvals})
    begun = world.coordinator.recover_policy(changed, by="root", reason="keys were lost")
    told = [one.notice.kind for one in world.coordinator.alerts()]
    assert "policy_recovery" in told
    world.pass_time(72 * 3600 - 60)
    world.wiring.treasury.put_policies_in_force()
    assert current(world).hash != changed.hash
    world.pass_time(120)
    world.wiring.treasury.put_policies_in_force()
    assert current(world).hash == changed.hash
    assert world.coordinator.proposal(begun.id).status.value == "approved"
    log, early = exported(world), begun.created_at + 72 * 3600 - 1
    forged = log.with_row(log.of("proposal_approved"), lambda row: row.update(at=early))
    assert "it was approved though 0 of 2 approvals count" in forged.faults()[0]
    made = log.of("proposal_made")
    forged = log.with_row(made, lambda row: row["body"]["terms"].update(recovery="0x" + "11" * 65))
    assert "it was approved though 0 of 2 approvals count" in forged.faults()[0]


def test_what_recovers_the_policy_says_that_nobody_has_to_approve_it(
    people: People, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = people.world.coordinator.recover_policy(
        with_payee(people.world), by="root", reason="keys were lost"
    )
    show_proposal(begun)
    shown = " ".join(capsys.readouterr().out.split())
    assert "without anybody's approval" in shown
    assert f"coordinator approvals reject {begun.id}" in shown
    assert "With the last approval" not in shown
    told = [one.notice.message for one in people.world.coordinator.alerts()]
    assert not any("proposes to policy" in message for message in told)


def test_the_doctor_says_that_approvers_sign_a_changed_file(world: World, tmp_path: Path) -> None:
    world.apply(approvals(world, signatures="required", approvers=signing("alice")))
    file = tmp_path / "policy.toml"
    found = {}
    for policy in (current(world), with_payee(world)):
        file.write_text(to_toml(policy))
        env = world.environment(policy_file=str(file)) | world.secrets
        patient = LocalPatient(env)
        (row,) = (c for c in patient.checks_before_the_chain() if c.name == "policy")
        assert patient.database is not None
        patient.database.close()
        found[row.status] = row.found
    assert "the file was changed" not in found["ok"]
    assert "run coordinator policy draft" in found["warn"]


def test_an_approver_rejects_a_recovery(people: People) -> None:
    world = people.world
    changed = with_payee(world)
    begun = world.coordinator.recover_policy(changed, by="root", reason="keys were lost")
    signature = people.sign(begun.id, "alice", reason="mine is here")
    _, refusal = world.coordinator.reject_proposal(
        begun.id, approver="alice", reason="mine is here", signature=signature
    )
    assert refusal is None
    world.pass_time(80 * 3600)
    world.wiring.treasury.put_policies_in_force()
    assert current(world).hash != changed.hash


def test_a_changed_file_changes_nothing_where_signatures_do(people: People) -> None:
    world = people.world
    before = current(world)
    world.policy = with_payee(world)
    with world.open() as opened:
        assert opened.wiring.policies.current().hash == before.hash
        bought = opened.agent("research-agent").purchase(
            provider="paper-api", amount="10.00", purpose="a paper", wait=False
        )
        assert bought.status == "approved"
