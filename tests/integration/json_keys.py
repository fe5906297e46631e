"""The keys of each command's ``--json`` output: ``python -m tests.integration.json_keys``.

``json_keys.json`` keeps them; what differs from that file is a change that programs notice.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from coordinator.chain.local.anvil import Anvil
from coordinator.chain.rpc.client import Rpc
from coordinator.chain.signers.signers import Signer
from tests.integration.test_cli import BUY, PAYEE, Shell, _deliver
from tests.public_face import KEPT

FILE: Final = Path(__file__).with_name("json_keys.json")
# They print no JSON, ask at a terminal, or only start something that goes on.
SILENT: Final = frozenset(
    {"approvals review", "approvals watch", "demo", "mcp", "policy export", "serve"}
)
_POLICY: Final = """
[pools.readers]
agents = ["research-agent", "data-agent"]
daily_limit = "400"
rebalance = {{ every = "24h" }}
[tasks]
[increases]
maximum = "10"
[reviews]
[x402]
top_up_daily_limit = "5"
[treasury]
owners = ["{owner}"]
threshold = 1
daily_limit = "300"
per_purchase_limit = "50"
deadline_before = "2036-01-01"
x402_daily_limit = "5"
"""
_WALLET: Final = """
COORDINATOR_X402_SIGNER=env:X402_PRIVATE_KEY
X402_PRIVATE_KEY=0x{key}
OWNER_KEY=0x{owner}
"""
_OWNER: Final = "5d" * 32
_SIGNED: Final = ("--signer", "env:OWNER_KEY", "--yes")
_ALICE: Final = ("--approver", "alice")
_BY: Final = ("--by", "alice", "--reason", "a test")
_SPEND: Final = ("--agent", "research-agent", "--amount")


@dataclass
class Recorder:
    """Runs commands and keeps the keys that they print, by command."""

    shell: Shell
    found: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def __call__(self, *arguments: str, code: int = 0, **settings: str) -> Any:
        told = self.shell.json(*arguments, code=code, **settings)
        self.found[command_of(arguments)] |= set(_keys(told))
        return told


def command_of(arguments: tuple[str, ...]) -> str:
    """The command that the arguments call, without the program's name."""
    commands = [tuple(name.split()[1:]) for name in KEPT["commands"]]
    called = max((c for c in commands if arguments[: len(c)] == c), key=len)
    return " ".join(called)


def keys_of_every_command(folder: Path) -> dict[str, list[str]]:
    """Run every command in a fresh treasury on an Anvil; the keys that each printed."""
    with Anvil.start() as anvil:
        run = Recorder(Shell(folder, anvil.url))
        _set_up(run)
        _spend(run)
        _decide(run)
        _limit(run)
        _oversee(run)
        _recover(run)
        _rotate(run, anvil)
        _own(run, anvil)
    return {name: sorted(keys) for name, keys in sorted(run.found.items())}


def _keys(told: Any, path: str = "") -> Iterator[str]:
    if isinstance(told, list):
        for one in told:
            yield from _keys(one, f"{path}[]")
    elif isinstance(told, dict):
        for name, value in told.items():
            yield (key := f"{path}.{name}".removeprefix("."))
            # An audit row's body is what its event says: none of it is a column of the output.
            if name != "body":
                yield from _keys(value, key)


def _set_up(run: Recorder) -> None:
    run("init", "--yes", "--network", "anvil", "--rpc-url", run.shell.url)
    policy = run.shell.folder / "policy.toml"
    # A target that this process lacks the URL of: nothing is sent.
    text = policy.read_text().replace("[alerts]", '[alerts]\nnotify = ["env:NOBODYS_URL"]')
    policy.write_text(text + _POLICY.format(owner=Signer.of_key(bytes.fromhex(_OWNER)).address))
    with (run.shell.folder / ".env").open("a") as env:
        env.write(_WALLET.format(key="5c" * 32, owner=_OWNER))
    run("migrate")
    run("policy", "check")
    run("deploy", "--dry-run")
    run("deploy")
    run("fund", "--dry-run")
    run("fund")
    run("doctor")
    run("policy", "apply", "policy.toml", *_BY)
    run("policy", "show")
    run("policy", "show", "--agent", "research-agent")
    password = {"COORDINATOR_KEYSTORE_PASSWORD": "long enough"}
    made = run("wallet", "new", "--folder", "keys", **password)
    run("wallet", "import", "--file", made["path"], "--folder", "more keys", **password)
    run("wallet", "list", "--folder", "keys")
    run("wallet", "address", made["path"], **password)
    password["COORDINATOR_KEYSTORE_NEW_PASSWORD"] = "longer still"
    run("wallet", "change-password", made["path"], **password)


def _spend(run: Recorder) -> None:
    run("tasks", "open", "t", "--agent", "research-agent", "--limit", "total=50", "--by", "alice")
    run(
        "sessions", "open", "s", "--agent", "research-agent", "--limit", "total=50", "--by", "alice"
    )
    terms = (*BUY, "--purpose", "A paper", "--category", "api", "--service", "papers", "--amount")
    run(*terms, "10.00", "--task", "t", "--dry-run")
    bought = run(*terms, "10.00", "--task", "t", "--session", "s", "--idempotency-key", "k")
    run(*terms, "11.00", "--idempotency-key", "k", code=2)
    run(*terms, "120.00", code=3)
    run("purchase", "cancel", bought["purchase_id"], "--by", "alice", "--yes", code=1)
    _deliver(run.shell, bought)
    run("purchase", "settle", bought["purchase_id"], *_ALICE, "--dry-run")
    run("purchase", "dispute", bought["purchase_id"], *_ALICE, "--reason", "x", "--dry-run")
    run("purchase", "settle", bought["purchase_id"], *_ALICE, "--yes")
    run("purchase", "wait", bought["purchase_id"])
    run("purchase", "show", bought["purchase_id"])
    run("purchase", "receipt", bought["purchase_id"])
    contested = run(*terms, "4.00")
    _deliver(run.shell, contested)
    run("purchase", "dispute", contested["purchase_id"], *_ALICE, "--reason", "x", "--yes")
    waiting = run(*terms, "2.00", "--no-wait")
    run("purchase", "cancel", waiting["purchase_id"], "--by", "alice", "--yes")
    run("purchase", "list")
    run("x402", "wallet")
    run("x402", "top-up", "--amount", "1", "--by", "alice", "--yes")
    held = run("costs", "hold", *_SPEND, "3", "--task", "t", "--provider", "model")
    run("costs", "hold", *_SPEND, "3", "--dry-run")
    run("costs", "hold", *_SPEND, "300", code=3)
    run("costs", "post", held["cost_id"], "--amount", "2")
    run("costs", "void", held["cost_id"], code=1)
    run("costs", "void", run("costs", "hold", *_SPEND, "1")["cost_id"])
    run("costs", "record", *_SPEND, "0.5", "--session", "s")
    run("costs", "list")


def _decide(run: Recorder) -> None:
    terms = (*BUY, "--purpose", "A large set", "--amount")
    asked = run(*terms, "60.00", code=4)["approval_id"]
    run("approvals", "list")
    run("approvals", "show", asked)
    run("approvals", "statement", asked)
    run("approvals", "approve", asked, *_ALICE, "--dry-run")
    run("approvals", "approve", asked, "--approver", "eve", "--yes", code=3)
    run("approvals", "approve", asked, *_ALICE, "--yes")
    asked = run(*terms, "61.00", code=4)["approval_id"]
    run("approvals", "reject", asked, *_ALICE, "--reason", "too dear", "--dry-run")
    run("approvals", "reject", asked, *_ALICE, "--reason", "too dear", "--yes")
    more = ("increases", "ask", *_SPEND, "5", "--reason", "x")
    first, second = (run(*more, code=4)["increase_id"] for _ in range(2))
    run("increases", "list")
    run("approvals", "list")
    run("approvals", "show", first)
    run("increases", "approve", first, *_ALICE, "--dry-run")
    run("increases", "approve", first, *_ALICE, "--yes")
    run("increases", "reject", second, *_ALICE, "--reason", "x", "--yes")
    out = ("withdraw", "--to", PAYEE, "--amount", "1", "--reason", "payday", *_ALICE)
    run(*out, "--dry-run")
    run(*out, "--yes")
    run("pause", *_BY)
    run("unpause", *_BY)


def _limit(run: Recorder) -> None:
    run("limits")
    run("limits", "usage")
    run("limits", "rebalance", "--pool", "readers", *_BY, "--dry-run")
    run("limits", "rebalance", "--pool", "readers", *_BY, "--yes")
    overlay = run("limits", "overlays")[0]["id"]
    run("limits", "withdraw", overlay, *_BY, "--dry-run")
    run("limits", "withdraw", overlay, *_BY, "--yes")
    run("review")
    for kind, name in (("tasks", "t"), ("sessions", "s")):
        run(kind, "list")
        run(kind, "report", name)
        run(kind, "close", name, "--by", "alice", "--dry-run")
        run(kind, "close", name, "--by", "alice", "--yes")
    run("agents", "list")
    run("agents", "show", "research-agent")
    run("agents", "disable", "data-agent", *_BY)
    run("agents", "enable", "data-agent", *_BY)
    made = run("keys", "create", "--agent", "research-agent", "--expires", "90d")
    run("keys", "rotate", made["key_id"])
    run("keys", "revoke", made["key_id"])
    run("keys", "list", "--all")
    made = run("webhooks", "add", "https://hooks.example/in", "--type", "purchase.funded")
    run("webhooks", "list")
    run("webhooks", "deliveries", made["webhook_id"])
    run("webhooks", "rotate", made["webhook_id"])
    run("webhooks", "replay", made["webhook_id"], "--after", "0")
    run("webhooks", "remove", made["webhook_id"])
    run("hosts", "key")
    run("hosts", "add", "server", "ab" * 32)
    run("hosts", "revoke", "server", "--reason", "sold")
    run("hosts", "list", "--all")
    text = (run.shell.folder / "policy.toml").read_text()
    (run.shell.folder / "other.toml").write_text(text.replace('"500.00"', '"5.00"', 1))
    run("policy", "diff", "other.toml")
    run("policy", "replay", "other.toml")
    made = run("policy", "draft", "other.toml", *_BY)
    run("policy", "diff", "--draft", made["approval_id"])
    run("policy", "recover", "other.toml", *_BY, "--reason", "keys were lost", "--yes")
    run("policy", "apply", "other.toml", *_BY, "--dry-run")
    run("policy", "apply", "other.toml", *_BY)


def _oversee(run: Recorder) -> None:
    run("report")
    run("gas")
    run("reconcile")
    run("audit", "show")
    run("audit", "head")
    run("audit", "verify")
    run("audit", "export", "--output", "audit.jsonl")
    run("backup", "copy.db")
    run("alerts", "list")
    run("alerts", "test", code=1)
    run("worker", "--once")


def _recover(run: Recorder) -> None:
    run("recover")
    other = {"COORDINATOR_DATABASE_URL": "sqlite:///rebuilt.db"}
    run("rebuild", "--audit", "audit.jsonl", "--dry-run", **other)
    run("rebuild", "--audit", "audit.jsonl", "--yes", **other)
    run("recover", **other)
    alone = {"COORDINATOR_DATABASE_URL": "sqlite:///alone.db"}
    found = run("rebuild", "--yes", code=6, **alone)["discrepancies"]
    run("reconcile", "explain", found[0]["id"], *_BY, **alone)


def _rotate(run: Recorder, anvil: Anvil) -> None:
    # What was funded has to be final.
    Rpc([anvil.url]).call("anvil_mine", "0x40")
    run("recover")
    run("recover")
    keys = {
        "NEXT_KEY": "0x" + "5" * 64,
        "COORDINATOR_SIGNER": "env:NEXT_KEY",
        "COORDINATOR_FORMER_SIGNERS": "env:TREASURY_PRIVATE_KEY",
    }
    run("rotate", "begin", "--by", "alice", "--yes", **keys)
    run("rotate", "status", **keys)
    run("rotate", "finish", "--by", "alice", "--yes", code=5, **keys)


def _own(run: Recorder, anvil: Anvil) -> None:
    """What the owners of a Safe do."""
    owner = Signer.of_key(bytes.fromhex(_OWNER)).address
    Rpc([anvil.url]).call("anvil_setBalance", owner, hex(10**18))
    run("treasury", "plan")
    run("treasury", "deploy", "--dry-run")
    run("treasury", "deploy", *_SIGNED)
    run("treasury", "show")
    text = (run.shell.folder / "policy.toml").read_text()
    (run.shell.folder / "policy.toml").write_text(
        text.replace('daily_limit = "300"', 'daily_limit = "240"')
    )
    run("treasury", "propose", "--dry-run")
    file = run("treasury", "propose", code=4)["file"]
    run("treasury", "execute", file, "--yes", code=4)
    run("treasury", "sign", file, *_SIGNED)
    run("treasury", "execute", file, *_SIGNED)
    run("treasury", "propose")
    run("treasury", "rotate-key", PAYEE, *_SIGNED)
    run("treasury", "revoke", *_SIGNED)


if __name__ == "__main__":
    with TemporaryDirectory() as made:
        told = keys_of_every_command(Path(made))
    FILE.write_text(json.dumps(told, indent=1) + "\n")
    sys.exit(0)
