"""coordinator alerts, and the doctor's line about them, through the command line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from coordinator import doctor
from coordinator.cli import main
from coordinator.ledger.store.opening import open_database
from coordinator.ledger.tx.notices import NoticeBook
from tests.integration.ledger.deciding import ID_SECRET, PROVIDER, SIGNER_KEY
from tests.integration.ledger.receiver import TOKEN, Receiver, receiving

POLICY = """
[organisation]
total_limit = "1000"

[agents.ada]
per_purchase_limit = "unlimited"
total_limit = "100"
approval_threshold = "1000"

[providers.paper-api]
address = "{provider}"

[alerts]
notify = [{notify}]
"""
Run = Callable[..., Any]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    settings = {
        "COORDINATOR_NETWORK": "base-sepolia",
        "COORDINATOR_ID_SECRET": ID_SECRET,
        "TREASURY_PRIVATE_KEY": SIGNER_KEY,
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(folder: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str, code: int = 0) -> Any:
        ended = main([*arguments, "--json"])
        printed = capsys.readouterr()
        assert ended == code, printed
        assert TOKEN not in printed.out + printed.err
        return json.loads(printed.out)

    return run


def write_policy(folder: Path, *notify: str) -> None:
    targets = ", ".join(f'"{url}"' for url in notify)
    (folder / "policy.toml").write_text(POLICY.format(provider=PROVIDER, notify=targets))


def buy(run: Run, amount: str, **options: int) -> None:
    asked = ("--agent", "ada", "--provider", "paper-api", "--amount", amount, "--purpose", "x")
    run("purchase", "request", *asked, "--no-wait", **options)


def test_alerts_are_listed_newest_first_by_kind_and_time(folder: Path, run: Run) -> None:
    write_policy(folder)
    assert run("alerts", "list") == []
    buy(run, "85")
    buy(run, "50", code=3)
    denied, crossed = run("alerts", "list")
    assert (crossed["kind"], crossed["severity"]) == ("limit_threshold", "warning")
    assert (denied["kind"], denied["delivery"]) == ("purchase_denied", "waits")
    assert "ada asked to pay paper-api 50.00 USDC" in denied["message"]
    assert run("alerts", "list", "--kind", "purchase_denied", "--since", "1h") == [denied]
    assert run("alerts", "list", "--since", "2999-01-01") == []
    assert main(["alerts", "list"]) == 0


def test_a_test_tells_which_target_failed(folder: Path, run: Run, receiver: Receiver) -> None:
    write_policy(folder)
    assert run("alerts", "test", code=2)["error"]["message"].endswith("set [alerts] notify")
    write_policy(folder, receiver.url)
    assert run("alerts", "test") == [{"target": "json://127.0.0.1", "ok": True, "fault": None}]
    assert receiver.messages() == ["this is a test of notifications"]
    write_policy(folder, receiver.url, f"slack://{TOKEN}")
    found = run("alerts", "test", code=1)
    assert [(one["target"], one["ok"]) for one in found] == [
        ("json://127.0.0.1", True),
        ("slack://…", False),
    ]


def test_the_doctor_tells_targets_and_a_failed_delivery(
    folder: Path, run: Run, receiver: Receiver
) -> None:
    def line() -> tuple[str, str]:
        (check,) = (check for check in doctor.run() if check.name == "alerts")
        return check.status, check.found

    write_policy(folder)
    buy(run, "85")
    assert line() == ("ok", "no targets: notices are kept, not delivered")
    write_policy(folder, receiver.url)
    run("policy", "apply")
    assert line() == ("ok", "targets: 1; nothing delivered yet")
    (first, *_) = run("alerts", "list")
    database = open_database("sqlite:///coordinator.db")
    book = NoticeBook(database)
    book.failed(first["seq"], "json://127.0.0.1 did not take it", 10)
    assert line() == ("warn", "targets: 1; json://127.0.0.1 did not take it")
    book.delivered(first["seq"], 20)
    assert line() == ("ok", "targets: 1; the last notice was delivered")
    database.close()


def test_the_policy_is_shown_and_exported_without_tokens(
    folder: Path, run: Run, receiver: Receiver
) -> None:
    write_policy(folder, receiver.url, f"slack://{TOKEN}/b/c")
    run("policy", "apply")
    shown = run("policy", "show")["policy"]["alerts"]["notify"]
    assert shown == ["json://127.0.0.1", "slack://…"]
    assert run("policy", "diff") == []
    assert TOKEN.encode() not in Path("coordinator.db").read_bytes()
