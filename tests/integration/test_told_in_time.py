"""An approver who comes too late, or signed what has changed, is told so with who and when."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coordinator.cli.command import mode
from coordinator.cli.decisions import decide, find_decision, shown_statement
from coordinator.cli.signing import Means
from tests.integration.signers_of_approvers import key_of, signing
from tests.integration.world import World


@pytest.fixture(autouse=True)
def _for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mode, "json", False)


@pytest.fixture
def signers(world: World) -> World:
    with_approvers(world, "alice", "bob")
    world.round()
    return world


def with_approvers(world: World, *names: str) -> None:
    terms = {"required": 1, "approvers": signing(*names)}
    approvals = world.policy.approvals.model_copy(update=terms)
    world.apply(world.policy.model_copy(update={"approvals": approvals}))


def signed(world: World, approval_id: str, name: str, folder: Path) -> Means:
    """What comes back from another device."""
    asked = world.coordinator.statement(approval_id)
    file = folder / f"{name}.json"
    file.write_text(json.dumps(asked.message.document()))
    return Means(None, (key_of(name).sign_typed(asked.message),), file)


def approve(world: World, approval_id: str, name: str, means: Means) -> int:
    found = find_decision(world.coordinator, approval_id)
    return decide(world.coordinator, found, name, means, yes=True)


def test_who_comes_second_is_told_who_came_first(
    signers: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = signers.buy("60.00").approval_id or ""
    both = [(name, signed(signers, asked, name, tmp_path)) for name in ("alice", "bob")]
    assert [approve(signers, asked, name, means) for name, means in both] == [0, 1]
    told = capsys.readouterr().err
    assert "does not wait for approval: it is approved" in told
    assert "approved by alice, " in told


def test_what_expired_is_told_with_when(
    signers: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = signers.buy("60.00").approval_id or ""
    means = signed(signers, asked, "alice", tmp_path)
    signers.pass_time(86_400)
    assert approve(signers, asked, "alice", means) == 1
    told = capsys.readouterr().err
    assert "the agent must ask again" in told and "it expired 2" in told


def test_rules_that_changed_after_signing_are_told(
    signers: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = signers.buy("60.00").approval_id or ""
    means = signed(signers, asked, "alice", tmp_path)
    with_approvers(signers, "alice", "carol")
    assert approve(signers, asked, "alice", means) == 3
    told = capsys.readouterr().err
    assert "the policy's rules on it have changed since" in told
    assert f"look at it again: coordinator approvals show {asked}" in told
    assert approve(signers, asked, "alice", signed(signers, asked, "alice", tmp_path)) == 0


def test_what_waits_again_says_why(
    signers: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = signers.buy("60.00").approval_id or ""
    assert approve(signers, asked, "alice", signed(signers, asked, "alice", tmp_path)) == 0
    before = find_decision(signers.coordinator, asked)
    with_approvers(signers, "bob", "carol")
    signers.pass_time(60)
    signers.go()
    again = find_decision(signers.coordinator, asked)
    assert again.expires_at > before.expires_at, "a watch would not tell it"
    assert again.show(shown_statement(signers.coordinator, asked))
    shown = " ".join(capsys.readouterr().out.split())
    assert "it has to be approved again" in shown and "nobody yet" in shown
