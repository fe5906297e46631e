"""Malformed input through the Python API: one sentence, the right error, and nothing written."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from json import dumps, loads
from pathlib import Path
from typing import Any

import pytest

from coordinator import (
    ConfigurationError,
    Coordinator,
    CoordinatorError,
    IdempotencyConflict,
    InvalidRequest,
    Policy,
    Status,
    Usdc,
)
from coordinator.domain.errors import ChainUnavailable, UnknownId
from tests.integration.ledger.deciding import (
    ID_SECRET,
    POLICY,
    PROVIDER,
    SIGNER_KEY,
    ask,
    contents,
    open_coordinator,
    policy,
)

TREASURY = "0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A"
# Some starts here go by the wall clock, and nothing may expire meanwhile.
USUAL = policy({"approvals": {"expires_after": "3650d"}})
ENVIRONMENT = {
    "COORDINATOR_NETWORK": "base-sepolia",
    "COORDINATOR_ID_SECRET": ID_SECRET,
    "TREASURY_PRIVATE_KEY": SIGNER_KEY,
}


# One database for all: what is refused leaves it as it was.
@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bad_input") / "coordinator.db"


@pytest.fixture(scope="module")
def coordinator(path: Path) -> Iterator[Coordinator]:
    """A coordinator that has written what a start writes, with one purchase and one that waits."""
    made = open_coordinator(path, USUAL)
    ask(made.agent("ada"), "5.00", idempotency_key="taken")
    ask(made.agent("ada"), "75.00", idempotency_key="waiting")
    yield made
    made.close()


def shown(value: object) -> str:
    """A short name of a parameter: its beginning, its end, and how long it is."""
    text = ascii(value)
    return text if len(text) <= 50 else f"{text[:24]}..{text[-6:]}({len(text)})"


def refused(
    path: Path, fault: type[CoordinatorError], act: Callable[[], object], *, says: str | None = None
) -> CoordinatorError:
    """The error of ``act``, which is one clear sentence and left every row as it was."""
    before = contents(path)
    with pytest.raises(fault, match=says) as told:
        act()
    assert contents(path) == before
    message = str(told.value)
    assert message
    assert "\n" not in message
    assert len(message) < 400
    assert not message.startswith("Traceback")
    assert told.value.money_moved is False
    return told.value


# Amounts


@pytest.mark.parametrize(
    "amount",
    [
        "abc",
        "-1",
        "0",
        "0.000000",
        "1e3",
        "NaN",
        "Infinity",
        "0.0000001",
        " 25",
        "25 ",
        "25\n",
        "1,000",
        "1_000",
        "+5",
        ".5",
        "5.",
        "0x10",
        "٢٥",
        "25\x00",
        "9" * 13 + ".00",
        "9" * 5000,
        "",
        25,
        25.0,
        True,
        None,
        b"25",
        ["25"],
        Usdc("0"),
        Usdc.from_base_units(-1),
    ],
    ids=shown,
)
def test_what_is_no_amount_is_refused(coordinator: Coordinator, path: Path, amount: Any) -> None:
    agent = coordinator.agent("ada")

    told = refused(path, InvalidRequest, lambda: ask(agent, amount))

    assert told.code == "invalid_amount"
    refused(
        path, InvalidRequest, lambda: agent.check(provider="paper-api", amount=amount, purpose="x")
    )


def test_a_number_is_refused_with_both_things_that_it_could_mean(
    coordinator: Coordinator, path: Path
) -> None:
    for amount in (25, 25.0):
        refused(
            path,
            InvalidRequest,
            lambda amount=amount: ask(coordinator.agent("ada"), amount),
            says=rf"{amount} could mean USDC or base units",
        )


# Providers


@pytest.mark.parametrize(
    ("provider", "says"),
    [
        ("0x70997970C51812dc3A010C7d01b50e0d17dc79c8", "wrong checksum"),
        ("0x0000000000000000000000000000000000000000", "zero address"),
        (TREASURY, "can't pay itself"),
        (TREASURY.lower(), "can't pay itself"),
        ("0x70997970C51812dc3A010C7d01b50e0d17dc79C", "is not an address"),
        ("0x70997970C51812dc3A010C7d01b50e0d17dc79C8 ", "is not an address"),
        ("0x" + "g" * 40, "is not an address"),
        ("0X70997970C51812DC3A010C7D01B50E0D17DC79C8", "is not an address"),
        ("0x" + "1" * 100_000, "is not an address"),
        ("", "the provider must be"),
        (" paper-api", "the provider must be"),
        ("paper api", "the provider must be"),
        ("papér", "the provider must be"),
        ("p" * 65, "the provider must be"),
        (None, "provider must be text"),
        (5, "provider must be text"),
    ],
    ids=shown,
)
def test_what_is_no_provider_is_refused(
    coordinator: Coordinator, path: Path, provider: Any, says: str
) -> None:
    told = refused(
        path,
        InvalidRequest,
        lambda: ask(coordinator.agent("ada"), provider=provider),
        says=says,
    )
    assert told.code == "invalid_provider"


@pytest.mark.parametrize("provider", [PROVIDER, PROVIDER.lower(), "0x" + PROVIDER[2:].upper()])
def test_every_proper_way_to_write_the_address_is_the_provider(
    coordinator: Coordinator, provider: str
) -> None:
    purchase = ask(coordinator.agent("ada"), provider=provider)

    assert (purchase.status, purchase.provider) == (Status.APPROVED, PROVIDER)


# Purposes and other texts


@pytest.mark.parametrize(
    "purpose",
    ["", "   ", "x" * 2**20, "a\x00b", "a\x1b[31mred", "a\nb", "a\x7fb", "a\ud800b", None, 5, b"x"],
    ids=shown,
)
def test_a_purpose_that_people_could_not_read_is_refused(
    coordinator: Coordinator, path: Path, purpose: Any
) -> None:
    told = refused(
        path,
        InvalidRequest,
        lambda: ask(coordinator.agent("ada"), purpose=purpose),
        says="^purpose ",
    )
    assert told.code == "invalid_purpose"


@pytest.mark.parametrize("name", ["service", "task", "session", "category"])
@pytest.mark.parametrize("value", ["", " ", "x" * 201, "a\nb", "a\ud800", 5, b"x"], ids=shown)
def test_other_terms_of_bad_form_are_refused(
    coordinator: Coordinator, path: Path, name: str, value: Any
) -> None:
    refused(
        path,
        InvalidRequest,
        lambda: ask(coordinator.agent("ada"), **{name: value}),
        says=f"^{name} ",
    )


@pytest.mark.parametrize("agent", ["", " ", "a b", "a" * 65, "-a", "ä", "a\n", None, 5], ids=shown)
def test_an_agents_id_of_bad_form_is_refused(
    coordinator: Coordinator, path: Path, agent: Any
) -> None:
    refused(path, InvalidRequest, lambda: ask(coordinator.agent(agent)), says="^agent ")


# Keys and ids


@pytest.mark.parametrize(
    "key", ["", " ", "k" * 201, "a\nb", "a\x00", "a\ud800", 5, b"k"], ids=shown
)
def test_an_idempotency_key_of_bad_form_is_refused(
    coordinator: Coordinator, path: Path, key: Any
) -> None:
    refused(
        path,
        InvalidRequest,
        lambda: ask(coordinator.agent("ada"), idempotency_key=key),
        says="^idempotency key ",
    )


@pytest.mark.parametrize(
    "other",
    [
        {"amount": "5.01"},
        {"service": "other"},
        {"category": "data"},
        {"task": "t"},
        {"session": "s"},
        {"provider": "0x15d34AAf54267DB7D7c367839AAf71A00a2C6A65"},
    ],
    ids=lambda terms: next(iter(terms)),
)
def test_a_key_with_other_terms_is_a_conflict(
    coordinator: Coordinator, path: Path, other: dict[str, str]
) -> None:
    terms = {"amount": "5.00", "idempotency_key": "taken", **other}

    told = refused(
        path, IdempotencyConflict, lambda: ask(coordinator.agent("ada"), **terms), says="taken"
    )
    assert told.code == "idempotency_conflict"


@pytest.mark.parametrize(
    "unknown", ["", "pur_0", "x" * 100_000, "pur_'; DROP TABLE purchases"], ids=shown
)
def test_an_unknown_id_is_told_and_writes_nothing(
    coordinator: Coordinator, path: Path, unknown: str
) -> None:
    c, agent = coordinator, coordinator.agent("ada")
    acts: list[Callable[[], object]] = [
        lambda: c.get(unknown),
        lambda: agent.get(unknown),
        lambda: agent.cancel(unknown),
        lambda: agent.settle(unknown),
        lambda: agent.wait_for(unknown),
        lambda: c.cancel(unknown, by="olga"),
        lambda: c.settle(unknown, approver="alice"),
        lambda: c.receipt(unknown),
        lambda: c.approve(unknown, approver="alice"),
        lambda: c.reject(unknown, approver="alice", reason="no"),
        lambda: c.dispute(unknown, approver="alice", reason="bad"),
    ]
    for act in acts:
        told = refused(path, UnknownId, act)
        assert told.code == "not_found"


def test_another_agents_purchase_is_unknown_to_an_agent(
    coordinator: Coordinator, path: Path
) -> None:
    bought = coordinator.agent("ada").get(idempotency_key="taken")
    other = coordinator.agent("bert")

    refused(path, UnknownId, lambda: other.get(bought.id))
    refused(path, UnknownId, lambda: other.cancel(bought.id))
    refused(path, UnknownId, lambda: other.get(idempotency_key="taken"))


@pytest.mark.parametrize(
    "terms",
    [{}, {"purchase_id": "pur_0", "idempotency_key": "taken"}],
    ids=["neither", "both"],
)
def test_a_purchase_is_named_by_one_thing(
    coordinator: Coordinator, path: Path, terms: dict[str, str]
) -> None:
    refused(path, InvalidRequest, lambda: coordinator.agent("ada").get(**terms))


# People


@pytest.mark.parametrize("name", ["", " ", "a b", "x" * 65, "alice\n", None, 5], ids=shown)
def test_a_persons_name_of_bad_form_is_refused(
    coordinator: Coordinator, path: Path, name: Any
) -> None:
    c = coordinator
    (pending,) = c.approvals()
    acts: list[Callable[[], object]] = [
        lambda: c.approve(pending.id, approver=name),
        lambda: c.reject(pending.id, approver=name, reason="no"),
        lambda: c.pause("a look", by=name),
        lambda: c.unpause("all is well", by=name),
    ]
    for act in acts:
        refused(path, InvalidRequest, act)


@pytest.mark.parametrize("why", ["", " ", "x" * 2001, "a\nb", None, 5], ids=shown)
def test_a_reason_of_bad_form_is_refused(coordinator: Coordinator, path: Path, why: Any) -> None:
    c = coordinator
    (pending,) = c.approvals()
    refused(path, InvalidRequest, lambda: c.reject(pending.id, approver="alice", reason=why))
    refused(path, InvalidRequest, lambda: c.pause(why, by="olga"))
    refused(path, InvalidRequest, lambda: c.unpause(why, by="alice"))


def test_who_is_no_approver_decides_nothing(coordinator: Coordinator, path: Path) -> None:
    (pending,) = coordinator.approvals()
    before = contents(path)

    for answer in (
        coordinator.approve(pending.id, approver="mallory"),
        coordinator.reject(pending.id, approver="mallory", reason="no"),
    ):
        assert not answer.done
        assert answer.reason and answer.reason.code == "not_an_approver"
    assert coordinator.unpause("please", by="mallory") is False
    assert contents(path) == before


# Questions


@pytest.mark.parametrize(
    "terms",
    [
        {"status": "paid"},
        {"status": ["funded", "paid"]},
        {"limit": 0},
        {"limit": -1},
        {"limit": 10_001},
    ],
    ids=shown,
)
def test_a_question_of_bad_form_is_refused(
    coordinator: Coordinator, path: Path, terms: dict[str, Any]
) -> None:
    refused(path, InvalidRequest, lambda: coordinator.purchases(**terms))


def test_a_time_without_its_zone_is_refused(coordinator: Coordinator, path: Path) -> None:
    naive = datetime(2026, 1, 1)
    refused(path, InvalidRequest, lambda: coordinator.purchases(since=naive), says="zone")
    refused(path, InvalidRequest, lambda: coordinator.report(until=naive), says="zone")


def test_waiting_for_what_never_comes_is_refused(coordinator: Coordinator, path: Path) -> None:
    bought = coordinator.agent("ada").get(idempotency_key="taken")
    refused(path, InvalidRequest, lambda: coordinator.wait_for(bought.id, until="paid"))


# What is well-formed and not allowed is a recorded denial, not an error


@pytest.mark.parametrize(
    ("agent", "terms", "code"),
    [
        ("mallory", {}, "agent_not_registered"),
        ("ada", {"provider": "unknown-api"}, "provider_not_allowed"),
        (
            "ada",
            {"provider": "0x15d34AAf54267DB7D7c367839AAf71A00a2C6A65"},
            "provider_not_allowed",
        ),
        ("ada", {"category": "travel"}, "category_not_allowed"),
        ("ada", {"amount": "0.999999"}, "below_minimum"),
    ],
)
def test_what_policy_forbids_is_denied_recorded_and_holds_nothing(
    coordinator: Coordinator, path: Path, agent: str, terms: dict[str, str], code: str
) -> None:
    before = contents(path)

    purchase = ask(coordinator.agent(agent), **terms)

    assert purchase.status is Status.DENIED
    assert purchase.reason and purchase.reason.code == code
    after = contents(path)
    changed = {name for name in after if after[name] != before[name]}
    # How many purchases are in each status is counted as they are made.
    # A denial is told once an hour for each agent and code.
    assert changed - {"notices"} == {"purchases", "purchase_totals", "audit"}


# Policies


GOOD = f"""
[organisation]
total_limit = "1000"

[agents.ada]
per_purchase_limit = "100"
daily_limit = "300"

[providers.paper-api]
address = "{PROVIDER}"
"""


@pytest.mark.parametrize(
    ("wrong", "right", "says"),
    [
        ('daily_limt = "300"', 'daily_limit = "300"', "7: agents.ada.daily_limt is not a key"),
        ("daily_limit = 300", 'daily_limit = "300"', "7: agents.ada.daily_limit: write the amount"),
        ('daily_limit = "3e2"', 'daily_limit = "300"', "7: agents.ada.daily_limit: "),
        ('daily_limit = "-3"', 'daily_limit = "300"', "7: agents.ada.daily_limit: "),
        ('daily_limit = "50"', 'daily_limit = "300"', "7: agents.ada.daily_limit: 50.00 is below"),
        ('hourly_limit = "9"', 'daily_limit = "300"', "7: agents.ada.hourly_limit: 9.00 is below"),
        (
            'rolling_24_limit = "9"',
            'daily_limit = "300"',
            "7: agents.ada.rolling_24_limit: a rolling",
        ),
        ('role = "boss"', 'daily_limit = "300"', "7: agents.ada.role: there is no role 'boss'"),
        ("", 'daily_limit = "300"', "5: agents.ada has neither a daily_limit nor a total_limit"),
        ("[organization]", "[organisation]", "organization is not a key of the policy"),
        (
            "",
            'total_limit = "1000"',
            '2: organisation.total_limit is missing: give an amount, or "unlimited"',
        ),
        (PROVIDER[:-1] + "7", PROVIDER, "10: providers.paper-api.address: "),
        ("0x" + "0" * 40, PROVIDER, "10: providers.paper-api.address: "),
        ("[provider.paper-api]", "[providers.paper-api]", "9: provider is not a key"),
        ("[agents.ada", "[agents.ada]", "policy.toml: "),
        ("[agents.'a da']", "[agents.ada]", "5: agents.a da"),
    ],
    ids=shown,
)
def test_a_policy_with_a_typo_names_the_line_and_the_key_and_nothing_is_written(
    coordinator: Coordinator, path: Path, tmp_path: Path, wrong: str, right: str, says: str
) -> None:
    file = tmp_path / "policy.toml"
    assert right in GOOD
    file.write_text(GOOD.replace(right, wrong))
    before = contents(path)

    other = open_coordinator(path, file)
    with pytest.raises(ConfigurationError) as told:
        ask(other.agent("ada"))

    assert any(says in fault for fault in told.value.faults), told.value.faults
    assert all(fault.startswith("policy.toml") for fault in told.value.faults)
    assert all("\n" not in fault for fault in told.value.faults)
    assert contents(path) == before
    other.close()


def test_every_fault_of_a_policy_is_told_at_once(
    coordinator: Coordinator, tmp_path: Path, path: Path
) -> None:
    file = tmp_path / "policy.toml"
    text = GOOD.replace("daily_limit", "daily_limt").replace("total_limit", "total_limitt")
    file.write_text(text.replace(PROVIDER, "0x12"))

    other = open_coordinator(path, file)
    with pytest.raises(ConfigurationError) as told:
        ask(other.agent("ada"))

    lines = sorted(int(fault.split(":")[1]) for fault in told.value.faults)
    assert lines == [2, 3, 7, 10]
    other.close()


@pytest.mark.parametrize("what", ["missing", "folder", "bytes"])
def test_a_policy_file_that_can_not_be_read_is_told_by_name(
    coordinator: Coordinator, tmp_path: Path, path: Path, what: str
) -> None:
    file = tmp_path / "policy.toml"
    if what == "folder":
        file.mkdir()
    if what == "bytes":
        file.write_bytes(b"\xff\xfe[organisation]")
    other = open_coordinator(path, file)

    refused(path, ConfigurationError, lambda: ask(other.agent("ada")), says="policy.toml")
    other.close()


def test_a_policy_built_in_code_is_checked_like_a_file(
    coordinator: Coordinator, path: Path
) -> None:
    document = {**POLICY, "agents": {"ada": {"per_purchase_limit": "5"}}}

    with pytest.raises(ConfigurationError, match="neither a daily_limit"):
        Policy.from_dict(document)
    unchecked = Policy.model_validate(document)
    other = open_coordinator(path, unchecked)
    refused(path, ConfigurationError, lambda: ask(other.agent("ada")), says="neither a daily_limit")
    other.close()


# Keys and settings of the environment


@pytest.fixture
def start(
    tmp_path: Path, path: Path, coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    """Starts on the database, by an environment of the test's own, and asks to buy.

    A None takes a name out of the environment.
    """
    for name in (*ENVIRONMENT, "COORDINATOR_ID_SECRET_FILE", "TREASURY_PRIVATE_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)

    def started(**changes: str | None) -> None:
        values = {**ENVIRONMENT, "COORDINATOR_DATABASE_URL": f"sqlite:///{path}", **changes}
        lines = [f"{name}='{value}'\n" for name, value in values.items() if value is not None]
        (tmp_path / ".env").write_text("".join(lines))
        with Coordinator.from_env(policy=USUAL, act=False) as coordinator:
            ask(coordinator.agent("ada"), "5.00", idempotency_key="taken")

    return started


def test_the_environment_of_these_tests_starts(start: Callable[..., None], path: Path) -> None:
    before = contents(path)
    start()
    assert contents(path) == before


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"TREASURY_PRIVATE_KEY": None}, "TREASURY_PRIVATE_KEY is not set"),
        ({"TREASURY_PRIVATE_KEY": "0x12"}, "TREASURY_PRIVATE_KEY is not a private key"),
        ({"TREASURY_PRIVATE_KEY": "zz" * 32}, "TREASURY_PRIVATE_KEY is not a private key"),
        ({"TREASURY_PRIVATE_KEY": "00" * 32}, "TREASURY_PRIVATE_KEY is not a private key"),
        ({"TREASURY_PRIVATE_KEY": "ff" * 32}, "TREASURY_PRIVATE_KEY is not a private key"),
        ({"COORDINATOR_ID_SECRET": None}, "COORDINATOR_ID_SECRET is not set"),
        ({"COORDINATOR_ID_SECRET": "short"}, "COORDINATOR_ID_SECRET must be at least 64 hex"),
        ({"COORDINATOR_ID_SECRET": "zz" * 32}, "COORDINATOR_ID_SECRET must be at least 64 hex"),
        (
            {"COORDINATOR_SIGNER": "ledger"},
            "COORDINATOR_SIGNER must be env:NAME, keystore:PATH, aws-kms:KEY_ID, pkcs11:URI,",
        ),
        ({"COORDINATOR_SIGNER": "env:"}, "COORDINATOR_SIGNER must be"),
        ({"COORDINATOR_SIGNER": "env:OTHER_KEY"}, "OTHER_KEY is not set"),
        ({"COORDINATOR_SIGNER": "keystore:nowhere.json"}, "nowhere.json"),
        ({"COORDINATOR_NETWORK": "base"}, "refused on base"),
        ({"COORDINATOR_NETWORK": "mainnet"}, "COORDINATOR_NETWORK must be"),
        ({"COORDINATOR_NETWRK": "base"}, "COORDINATOR_NETWRK is not a setting"),
        ({"COORDINATOR_RAIL": "x"}, "COORDINATOR_RAIL must be"),
        ({"COORDINATOR_PAYER": "x"}, "COORDINATOR_PAYER must be"),
        ({"COORDINATOR_KERNEL_ADDRESS": "0x12"}, "COORDINATOR_KERNEL_ADDRESS: "),
        ({"COORDINATOR_VAULT_ADDRESS": "0x" + "0" * 40}, "COORDINATOR_VAULT_ADDRESS: "),
        ({"COORDINATOR_USDC_ADDRESS": PROVIDER[:-1] + "7"}, "COORDINATOR_USDC_ADDRESS: "),
        ({"COORDINATOR_START_BLOCK": "-1"}, "COORDINATOR_START_BLOCK must be"),
        ({"COORDINATOR_START_BLOCK": "latest"}, "COORDINATOR_START_BLOCK must be"),
        ({"COORDINATOR_CONFIRMATIONS": "0"}, "COORDINATOR_CONFIRMATIONS must be"),
        ({"COORDINATOR_CONFIRMATIONS": "1.5"}, "COORDINATOR_CONFIRMATIONS must be"),
        ({"COORDINATOR_FINALITY": "soon"}, "COORDINATOR_FINALITY must be"),
        ({"COORDINATOR_FINALITY": "0"}, "COORDINATOR_FINALITY must be"),
        ({"COORDINATOR_FINALITY": "-1"}, "COORDINATOR_FINALITY must be"),
        ({"COORDINATOR_ALLOWANCE_LIMIT": "1e3"}, "COORDINATOR_ALLOWANCE_LIMIT: "),
        ({"COORDINATOR_MAX_FEE_GWEI": "-1"}, "COORDINATOR_MAX_FEE_GWEI must be"),
        ({"COORDINATOR_MAX_FEE_GWEI": "cheap"}, "COORDINATOR_MAX_FEE_GWEI must be"),
        ({"COORDINATOR_LOG_LEVEL": "loud"}, "COORDINATOR_LOG_LEVEL must be"),
        ({"COORDINATOR_DATABASE_URL": "coordinator.db"}, "COORDINATOR_DATABASE_URL must be"),
        ({"COORDINATOR_DATABASE_URL": "mysql://h/d"}, "COORDINATOR_DATABASE_URL must be"),
    ],
    ids=shown,
)
def test_a_wrong_or_missing_setting_is_named_and_nothing_is_written(
    start: Callable[..., None], path: Path, changes: dict[str, str | None], says: str
) -> None:
    told = refused(path, ConfigurationError, lambda: start(**changes), says=says)

    assert told.code == "configuration"
    for value in (SIGNER_KEY, ID_SECRET, *(v for k, v in changes.items() if "KEY" in k and v)):
        assert value not in str(told) or len(value) < 5 or "ADDRESS" in str(told)


@pytest.mark.parametrize("name", ["TREASURY_PRIVATE_KEY", "COORDINATOR_ID_SECRET"])
def test_a_first_start_without_a_secret_holds_and_decides_nothing(
    start: Callable[..., None], tmp_path: Path, name: str
) -> None:
    path = tmp_path / "fresh.db"
    with pytest.raises(ConfigurationError, match=f"{name} is not set"):
        start(**{name: None, "COORDINATOR_DATABASE_URL": f"sqlite:///{path}"})

    written = (
        {table for table, found in contents(path).items() if found} if path.exists() else set()
    )
    assert written <= {"alembic_version"}


@pytest.mark.parametrize("what", ["missing", "folder", "bytes"])
@pytest.mark.parametrize("name", ["TREASURY_PRIVATE_KEY", "COORDINATOR_ID_SECRET"])
def test_a_secrets_file_that_can_not_be_read_is_named(
    start: Callable[..., None], path: Path, tmp_path: Path, name: str, what: str
) -> None:
    file = tmp_path / "secret"
    if what == "folder":
        file.mkdir()
    if what == "bytes":
        file.write_bytes(b"\xff\xfe\x00")

    refused(
        path,
        ConfigurationError,
        lambda: start(**{name: None, f"{name}_FILE": str(file)}),
        says=f"{name}_FILE ",
    )


def test_all_wrong_settings_are_told_at_once(start: Callable[..., None]) -> None:
    with pytest.raises(ConfigurationError) as told:
        start(COORDINATOR_NETWORK="x", COORDINATOR_FINALITY="x", COORDINATOR_NETWRK="x")

    assert len(told.value.faults) == 3


# Endpoints


@pytest.fixture
def endpoint() -> Iterator[Callable[[dict[str, Any]], str]]:
    """Starts a node that knows only the answers given, by method."""
    servers: list[HTTPServer] = []

    def serve(answers: dict[str, Any]) -> str:
        class Node(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                calls = loads(self.rfile.read(int(self.headers["Content-Length"])))
                told = [
                    {"jsonrpc": "2.0", "id": call["id"], "result": answers[call["method"]]}
                    if call["method"] in answers
                    else {"jsonrpc": "2.0", "id": call["id"], "error": {"code": -1, "message": ""}}
                    for call in calls
                ]
                body = dumps(told).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        server = HTTPServer(("127.0.0.1", 0), Node)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/secret-path"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def test_an_endpoint_that_is_down_is_told_before_anything_is_held(
    coordinator: Coordinator, path: Path
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    acting = open_coordinator(path, USUAL, rpc_url=f"http://127.0.0.1:{port}/secret-path")
    acting.acts = True

    told = refused(
        path,
        ChainUnavailable,
        lambda: ask(acting.agent("ada"), wait=True),
        says=f"127.0.0.1:{port}",
    )

    assert "secret-path" not in str(told)
    acting.close()


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ({"eth_chainId": "0x1", "web3_clientVersion": "Geth"}, "chain"),
        ({"eth_chainId": "0x2105", "web3_clientVersion": "Geth"}, "chain"),
    ],
    ids=["ethereum", "base"],
)
def test_an_endpoint_of_another_chain_is_refused_before_anything_is_held(
    coordinator: Coordinator,
    path: Path,
    endpoint: Callable[[dict[str, Any]], str],
    answers: dict[str, Any],
    says: str,
) -> None:
    acting = open_coordinator(path, USUAL, rpc_url=endpoint(answers))
    acting.acts = True

    told = refused(path, ConfigurationError, lambda: ask(acting.agent("ada"), wait=True), says=says)

    assert "secret-path" not in str(told)
    acting.close()


# Names that nothing has


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (lambda a: a.check(provider="p", amout="1", purpose="x"), "no amout .did you mean amount"),
        (lambda a: a.hold("1", categroy="data"), "no categroy .did you mean category"),
        (lambda a: a.record("1", categroy="data"), "no categroy"),
        (lambda a: a.check_hold("1", provder="p"), "no provder"),
        (lambda a: a.check(amount="1"), "provider is missing; purpose is missing"),
        (
            lambda a: asyncio.run(a.apurchase(provider="p", amuont="1", purpose="x")),
            "no amuont .did you mean amount.*amount is missing",
        ),
        (lambda a: asyncio.run(a.await_for("pur_1", untill="final")), "no untill"),
    ],
    ids=["check", "hold", "record", "check_hold", "missing", "apurchase", "await_for"],
)
def test_terms_that_nothing_has_are_all_refused_by_name(
    coordinator: Coordinator, path: Path, act: Callable[[Any], object], says: str
) -> None:
    refused(path, InvalidRequest, lambda: act(coordinator.agent("ada")), says=says)


# A start that can't work


def test_a_start_without_settings_tells_all_that_is_missing_and_makes_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (*ENVIRONMENT, "COORDINATOR_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)

    with pytest.raises(ConfigurationError) as told:
        Coordinator.from_env(network="base-sepolia")

    assert [fault.split()[0] for fault in told.value.faults] == [
        "COORDINATOR_ID_SECRET",
        "TREASURY_PRIVATE_KEY",
    ]
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"env_file": "nowhere.env"}, "no settings file nowhere.env"),
        ({"env_file": 5}, "env_file must be a path, not int"),
        ({"policy": {"agents": {}}}, "policy must be a path or a Policy, not dict"),
        ({"confirmations": 3}, "confirmations must be text, not int"),
    ],
    ids=shown,
)
def test_an_argument_of_a_start_that_is_of_another_kind_is_named(
    given: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigurationError, match=says):
        Coordinator.from_env(**given)


@pytest.mark.parametrize(
    "act",
    [
        lambda c: c.get(None),
        lambda c: c.agent("ada").get(5),
        lambda c: c.agent("ada").get(idempotency_key=5),
        lambda c: c.wait_for(None),
        lambda c: c.cancel(None, by="olga"),
        lambda c: c.judge_approval(None),
        lambda c: c.approve(None, approver="alice"),
        lambda c: c.reject(5, approver="alice", reason="no"),
    ],
    ids=["get", "own", "key", "wait_for", "cancel", "judge_approval", "approve", "reject"],
)
def test_an_id_that_is_no_text_is_refused(
    coordinator: Coordinator, path: Path, act: Callable[[Any], object]
) -> None:
    refused(path, InvalidRequest, lambda: act(coordinator), says="must be text")
