"""The policy as code: shown with its sources, exported, replayed over what really happened."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from coordinator import cli
from coordinator.api.coordinator import Coordinator
from coordinator.domain.errors import ConfigurationError, InvalidRequest, UnknownId
from coordinator.domain.policy.export import to_toml
from coordinator.domain.policy.text import parse_policy
from tests.integration.ledger.conftest import Opener
from tests.integration.ledger.deciding import (
    DAY,
    ID_SECRET,
    NOON,
    SIGNER_KEY,
    USDC,
    Clock,
    ask,
    contents,
    lay_over,
    policy,
)
from tests.integration.stores import on_both

NOTIFY = ["slack://T1/B2/hunter2"]
PLAIN = {"agents": {"ada": {"daily_limit": "30"}}, "alerts": {"notify": NOTIFY}}


@on_both
def test_a_replay_of_the_policy_in_force_differs_in_nothing(
    coordinator: Coordinator, database: str, clock: Clock
) -> None:
    live(coordinator, clock)
    before = contents(database)
    found = coordinator.replay(policy(), days=30)
    assert contents(database) == before
    assert found.judged == 8
    assert [one.as_dict() for one in found.differences] == []


def live(coordinator: Coordinator, clock: Clock) -> None:
    """Two days of every kind of answer that people and the policy give."""
    agent = coordinator.agent("ada")
    ask(agent, "20.00")
    ask(agent, "5.00", provider="0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed")
    agent.cancel(ask(agent, "30.00").id)
    rejected, approved = ask(agent, "60.00"), ask(agent, "70.00", task="t", category="data")
    ask(agent, "80.00")
    assert rejected.approval_id is not None
    assert approved.approval_id is not None
    coordinator.reject(rejected.approval_id, approver="alice", reason="no")
    clock.now += 600
    assert coordinator.approve(approved.approval_id, approver="alice").done
    clock.now += DAY
    ask(coordinator.agent("bert"), "40.00", session="s")
    ask(agent, "10.00")


@on_both
def test_a_replay_tells_what_another_policy_would_have_said(
    coordinator: Coordinator, clock: Clock
) -> None:
    live(coordinator, clock)
    other = policy(
        {
            "agents": {"ada": {"daily_limit": "75"}, "bert": {"approval_threshold": "39"}},
            "providers": {"q": {"address": "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"}},
        }
    )
    found = coordinator.replay(other, days=2)
    assert [(str(one.request.amount), one.before, one.after) for one in found.differences] == [
        ("5.00", "denied", "approved"),
        # 25 are held then: none of the three fits beside them.
        ("60.00", "awaiting_approval", "denied"),
        ("70.00", "awaiting_approval", "denied"),
        ("80.00", "awaiting_approval", "denied"),
        ("40.00", "approved", "awaiting_approval"),
    ]
    # The second day alone: the approval of the first is not asked again, its money counts.
    second = coordinator.replay(policy({"agents": {"ada": {"total_limit": "99"}}}), days=1)
    assert [(str(one.request.amount), one.after) for one in second.differences] == [
        ("10.00", "denied")
    ]
    fits = coordinator.replay(policy({"agents": {"ada": {"total_limit": "100"}}}), days=1)
    assert not fits.differences


def test_a_replay_takes_a_file_and_refuses_what_is_no_policy(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    file = tmp_path / "other.toml"
    file.write_text(to_toml(policy()))
    assert coordinator.replay(file, days=1).judged == 0
    file.write_text("[organisation]\n")
    with pytest.raises(ConfigurationError):
        coordinator.replay(str(file), days=1)
    for days in (0, 3651, True):
        with pytest.raises(InvalidRequest):
            coordinator.replay(policy(), days=days)


def test_the_book_tells_an_agent_s_effective_limits(opener: Opener, database: str) -> None:
    coordinator = opener(PLAIN)
    lay_over(coordinator, "ovl_1", "grant", "agent:ada", "daily", 5 * USDC, ends_at=NOON + DAY)
    limits = coordinator.wiring.limits.effective("ada", now=NOON)
    (daily,) = [e for e in limits if e.source == "agents.ada.daily_limit"]
    assert (str(daily.limit.amount), daily.grants[0].id) == ("35.00", "ovl_1")
    with pytest.raises(UnknownId):
        coordinator.wiring.limits.effective("zoe", now=NOON)


# --- the command line ---


@pytest.fixture
def terminal(opener: Opener, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder with the settings of a database in which something is laid over the policy."""
    coordinator = opener(PLAIN)
    ask(coordinator.agent("ada"), "20.00")
    day: dict[str, Any] = {"reason": "a\nbig day"}
    grant = ("grant", "agent:ada", "daily")
    lay_over(coordinator, "ovl_1", *grant, 5 * USDC, **day)
    lay_over(coordinator, "ovl_2", *grant, 6 * USDC, ends_at=NOON + DAY, **day)
    lay_over(coordinator, "ovl_3", "disabled", "agent:bert", **day)
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "COORDINATOR_NETWORK": "base-sepolia",
        "COORDINATOR_DATABASE_URL": database,
        "TREASURY_PRIVATE_KEY": SIGNER_KEY,
        "COORDINATOR_ID_SECRET": ID_SECRET,
    }.items():
        monkeypatch.setenv(name, value)
    return database


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(arguments) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def test_export_writes_a_file_that_is_the_policy_with_its_overlays_as_comments(
    terminal: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = said(capsys, "policy", "export")
    assert parse_policy(text).document() == policy(PLAIN).document()
    comments = [line for line in text.splitlines() if line.startswith("#")]
    assert len(comments) == 4
    assert "grant ovl_1: agent:ada daily +5.00 USDC" in comments[1]
    assert comments[3].endswith("by olga: a big day")
    said(capsys, "policy", "export", "--output", "exported.toml")
    assert (tmp_path / "exported.toml").read_text() == text
    assert cli.main(["policy", "export", "--output", "exported.toml"]) == 2


def test_a_merged_export_has_what_lasts_and_tells_what_is_left(
    terminal: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = said(capsys, "policy", "export", "--merged")
    whole = parse_policy(text)
    assert str(whole.agents["ada"].daily_limit) == "35.00"
    assert not whole.agents["bert"].enabled
    assert "ovl_1" not in text
    assert "ovl_2" in text
    assert "ovl_3" not in text


def test_export_as_json_is_the_policy_and_its_overlays(
    terminal: str, capsys: pytest.CaptureFixture[str]
) -> None:
    told = json.loads(said(capsys, "policy", "export", "--json"))
    assert told["policy"] == policy(PLAIN).document()
    assert [one["id"] for one in told["overlays"]] == ["ovl_1", "ovl_2", "ovl_3"]


def test_no_screen_shows_the_secret_of_a_notification_url(
    terminal: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    file = tmp_path / "other.toml"
    file.write_text(to_toml(policy({**PLAIN, "alerts": {"notify": ["slack://T1/B2/hunter3"]}})))
    for json_too in ((), ("--json",)):
        assert "slack://…" in said(capsys, "policy", "show", *json_too).replace("\\u2026", "…")
        told = said(capsys, "policy", "diff", str(file), *json_too)
        assert "hunter" not in told
        assert "hunter" not in said(capsys, "policy", "show", *json_too)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert "hunter" not in said(capsys, "policy", "export")


def test_show_tells_an_agent_s_limits_with_their_sources(
    terminal: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = json.loads(said(capsys, "policy", "show", "--agent", "ada", "--json"))
    (daily,) = [one for one in told["limits"] if one["source"] == "agents.ada.daily_limit"]
    assert daily["limit"] == "35.00"
    assert "agents.ada.daily_limit + 5.00 granted" in said(
        capsys, "policy", "show", "--agent", "ada"
    )
    assert cli.main(["policy", "show", "--agent", "zoe"]) == 2


def test_replay_prints_counts_and_a_table(
    terminal: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "other.toml"
    file.write_text(to_toml(policy({"agents": {"ada": {"daily_limit": "4"}}})))
    told = json.loads(said(capsys, "policy", "replay", str(file), "--days", "3650", "--json"))
    assert (told["judged"], told["newly_denied"]) == (1, 1)
    assert told["differences"][0]["reason"]["code"] == "daily_limit"
    text = said(capsys, "policy", "replay", str(file), "--days", "3650")
    assert "newly denied" in text
    assert "ada may spend" in text
