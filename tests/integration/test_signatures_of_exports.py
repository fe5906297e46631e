"""An export proves each approver's signature by itself, and names each that does not count."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coordinator.domain.signatures.safe_signatures import SafeState
from coordinator.domain.statements.pins import Pins
from coordinator.domain.statements.signed import Signed
from coordinator.domain.statements.statement import Statement
from coordinator.ledger.proofs.verification import compared, verify
from tests.integration import stores
from tests.integration.local_chain import LocalChain
from tests.integration.safes import owner_accounts
from tests.integration.signed_story import Log, Row, Story
from tests.integration.signers_of_approvers import credential, key_of
from tests.integration.stores import SqliteStore
from tests.integration.world import World

# What the host says of who came to it, and nobody signs.
UNSIGNED = {"host", "user"}
# What is recorded of a Safe and no signature of its owners depends on.
OF_THE_CHAIN = {"block_hash", "block_number", "version"}


@pytest.fixture(scope="module")
def story(
    _deployed_chain: LocalChain, tmp_path_factory: pytest.TempPathFactory, _migrated_file: Path
) -> Iterator[tuple[Story, Log]]:
    folder = tmp_path_factory.mktemp("story")
    world = World(_deployed_chain, folder, SqliteStore(folder, _migrated_file))
    told = Story.begun(world)
    yield told, told.told()
    world.close()
    _deployed_chain.reset()


@pytest.fixture
def log(story: tuple[Story, Log]) -> Log:
    return story[1]


def test_an_export_proves_what_everybody_signed(log: Log) -> None:
    found = log.verified()
    assert found.faults == ()
    assert found.signatures.counted == sum("signed" in row["body"] for row in log.rows)
    assert len(found.signatures.safes) == 3
    # The first versions nobody could sign.
    assert len(found.signatures.unsigned) == 2
    assert log.chained(log.rows).verified().faults == ()


def leaves(value: Any, *path: str) -> Iterator[tuple[str, ...]]:
    """The path of every field in JSON that has no fields itself."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from leaves(part, *path, name)
    elif path[-1] not in UNSIGNED:
        yield path


def changed(value: Any) -> Any:
    """Another value that could stand there."""
    if isinstance(value, int):
        return value + 1
    if isinstance(value, list):
        return value[1:]
    if value is None:
        return "something"
    if value.startswith(("0x", "address:0x", "safe:0x")):
        return value[:-1] + ("1" if value[-1] != "1" else "2")
    return value + "1"


def put(row: Row, path: tuple[str, ...], value: Any) -> None:
    *before, last = path
    part = row["body"]
    for name in before:
        part = part[name]
    part[last] = value


@pytest.mark.parametrize(
    ("event", "place"),
    [
        ("purchase_approved_by", 0),
        ("purchase_approved_by", 4),
        ("purchase_rejected_by", 0),
        ("proposal_approved_by", 0),
        ("proposal_approved_by", 1),
        ("increase_approved_by", 0),
        ("dispute_wanted", 0),
    ],
)
def test_a_changed_field_of_what_was_signed_is_named(
    story: tuple[Story, Log], event: str, place: int
) -> None:
    log = story[1]
    at, safes = log.of(event, place), story[0].world.wiring.chain.safes
    row = log.rows[at]
    paths = list(leaves(row["body"]))
    assert len(paths) >= 15
    missed = []
    for path in paths:
        part = row["body"]
        for name in path:
            part = part[name]
        forged = log.with_row(at, lambda r, p=path, v=part: put(r, p, changed(v)), last=True)
        found = forged.verified()
        if path[-1] in OF_THE_CHAIN:
            assert found.ok
            found = compared(found, safes)
        if not any(fault.startswith(f"row {at + 1} ({event} ") for fault in found.faults):
            missed.append(path)
    assert missed == []


def named(log: Log, at: int) -> list[str]:
    """The faults of one row."""
    return [fault for fault in log.faults() if fault.startswith(f"row {at + 1} (")]


def signed_by(log: Log, row: Row, name: str, **terms: Any) -> dict[str, Any]:
    """What was signed in the row, changed and signed by another key."""
    statement = Statement.from_dict(row["body"]["signed"]["statement"] | terms)
    trust = log.verified().trust
    assert trust is not None
    signature = key_of(name).sign_typed(statement.message(trust))
    return Signed(statement=statement, credential=credential(name), signature=signature).as_dict()


def unsigned(_: Log, row: Row) -> None:
    del row["body"]["signed"]


def empty(_: Log, row: Row) -> None:
    row["body"]["signed"]["signature"] = "0x"


def high_s(_: Log, row: Row) -> None:
    signed = row["body"]["signed"]
    raw = bytes.fromhex(signed["signature"][2:])
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    other = (order - int.from_bytes(raw[32:64])).to_bytes(32)
    signed["signature"] = "0x" + (raw[:32] + other + bytes([55 - raw[64]])).hex()


def by_nobody(log: Log, row: Row) -> None:
    row["body"]["signed"] = signed_by(log, row, "mallory")


def by_another_approver(log: Log, row: Row) -> None:
    row["body"]["signed"] = signed_by(log, row, "dora")


def of_another_amount(log: Log, row: Row) -> None:
    row["body"]["signed"] = signed_by(log, row, row["body"]["approver"], amount=1)


def of_other_rules(log: Log, row: Row) -> None:
    row["body"]["signed"] = signed_by(log, row, row["body"]["approver"], rules="00" * 32)


def of_another_purchase(log: Log, row: Row) -> None:
    other = log.rows[log.of("purchase_approved_by", 2)]["body"]["signed"]
    row["body"]["signed"] = other


def in_the_name_of_nobody(_: Log, row: Row) -> None:
    row["body"]["approver"] = "mallory"


FORGED: dict[str, tuple[Callable[[Log, Row], None], str]] = {
    "unsigned": (unsigned, "had to sign it and did not"),
    "empty": (empty, "malformed"),
    "high s": (high_s, "high_s"),
    "by nobody": (by_nobody, "not_a_credential"),
    "by another approver": (by_another_approver, "not_a_credential"),
    "of another amount": (of_another_amount, "other_statement"),
    "of other rules": (of_other_rules, "other_statement"),
    "of another purchase": (of_another_purchase, "not a credential|other_statement"),
    "in the name of nobody": (in_the_name_of_nobody, "no approver of the policy"),
}


@pytest.mark.parametrize("forgery", FORGED)
def test_a_signature_that_does_not_count_is_named_with_why(log: Log, forgery: str) -> None:
    forge, told = FORGED[forgery]
    at = log.of("purchase_approved_by", 0)
    forged = log.with_row(at, lambda row: forge(log, row))
    assert any(part in " ".join(named(forged, at)) for part in told.split("|"))
    # Two had to approve it, and one is left.
    place = forged.of("purchase_approved", 0)
    assert "though 1 of 2 approvals count" in " ".join(named(forged, place))
    assert "its create was signed though" in " ".join(named(forged, forged.of("create_signed")))


def test_what_was_given_when_its_time_was_over_is_named(log: Log) -> None:
    at = log.of("purchase_approved_by", 0)
    ends = log.rows[at]["body"]["signed"]["statement"]["expires_at"]
    forged = log.with_row(at, lambda row: row.update(at=ends))
    assert "given after it had expired" in " ".join(named(forged, at))
    assert log.with_row(at, lambda row: row.update(at=ends - 1)).faults() == []


def test_an_approval_that_was_taken_out_is_missed(log: Log) -> None:
    forged = log.without(log.of("purchase_approved_by", 0))
    assert "1 of 2 approvals count" in " ".join(named(forged, forged.of("purchase_approved", 0)))


def test_what_is_above_the_threshold_and_nobody_was_asked_of_is_named(log: Log) -> None:
    at = log.of("purchase_awaiting_approval", 0)
    wait = [log.of("purchase_approved_by", n) for n in (0, 1)] + [log.of("purchase_approved", 0)]

    def unasked(row: Row) -> None:
        row["event"] = "purchase_approved"
        row["body"]["approval"] = None

    forged = log.with_row(at, unasked).without(*wait)
    assert "60.00 USDC is above 50.00, and nobody was asked" in " ".join(named(forged, at))


def test_a_policy_that_nobody_signed_counts_for_nothing(log: Log) -> None:
    at = log.of("policy_activated", 2)

    def mine(row: Row) -> None:
        row["body"]["proposal"] = None

    forged = log.with_row(at, mine)
    assert "approvers had to sign it and did not" in " ".join(named(forged, at))
    # What the next approvals were signed under is not what they should have been.
    assert named(forged, forged.of("purchase_approved_by", 5)) != []


def test_another_document_than_the_signed_one_is_named(log: Log) -> None:
    at = log.of("policy_activated", 2)

    def mine(row: Row) -> None:
        row["body"]["document"]["agents"]["research-agent"]["approval_threshold"] = "900"

    forged = log.with_row(at, mine)
    assert "its document is not the one with this hash" in " ".join(named(forged, at))


THIEF = "0x" + "66" * 20


@pytest.mark.parametrize(
    ("event", "field", "value", "told"),
    [
        ("withdraw_ordered", "recipient", THIEF, "approvers agreed to"),
        ("withdraw_ordered", "amount", 10**9, "approvers agreed to"),
        ("withdraw_ordered", "reason", "rent", "its reason is 'rent'"),
        ("withdraw_ordered", "proposal", None, "had to sign it and did not"),
        ("withdraw_ordered", "proposal", "wdr_other", "no approver has agreed"),
        ("withdraw_ordered", "approved_by", ["carol"], "approved it, not ['carol']"),
        ("unpaused", "proposal", None, "had to sign it and did not"),
        ("settle_wanted", "proposal", None, "had to sign it and did not"),
        ("limit_granted", "amount", 10**9, "asked for 20.00 USDC"),
        ("limit_granted", "of", "inc_other", "nobody asked for it"),
    ],
    ids=str,
)
def test_what_nobody_signed_and_was_done_is_named(
    log: Log, event: str, field: str, value: Any, told: str
) -> None:
    at = log.of(event)
    forged = log.with_row(at, lambda row: row["body"].update({field: value}))
    assert told in " ".join(named(forged, at))


@pytest.mark.parametrize("event", ["withdraw_ordered", "unpaused", "settle_wanted"])
def test_what_was_agreed_to_once_is_done_once(log: Log, event: str) -> None:
    at = log.of(event)
    rows = log.rows
    forged = log.chained([*rows[: at + 1], rows[at], *rows[at + 1 :]])
    assert "no approver has agreed" in " ".join(named(forged, at + 1))


def test_a_pinned_approver_has_to_have_signed_the_first_signed_policy(log: Log) -> None:
    assert log.verified(pins=Pins((credential("alice"),), 1)).ok
    (fault, *_) = log.verified(pins=Pins((credential("bob"),), 1)).faults
    assert "0 of 1 credentials that this worker pins have signed it" in fault


def with_made_up_owners(story: Story, log: Log) -> Log:
    """The Safe's approval as somebody signs it whom the record makes its only owner."""
    at = log.of("purchase_approved_by", 4)
    row = log.rows[at]
    signed = Signed.from_dict(row["body"]["signed"])
    assert signed.safe is not None and row["body"]["approver"] == "vault"
    trust, (forger,) = log.verified().trust, owner_accounts(4)[-1:]
    assert trust is not None
    state = replace(signed.safe, owners=(forger.address,), threshold=1)
    signature = "0x" + story.safe.sign(signed.digest(trust), [forger]).hex()
    forged = replace(signed, safe=state, signature=signature).as_dict()
    return log.with_row(at, lambda row: row["body"].update(signed=forged))


def test_made_up_owners_of_a_safe_are_found_on_the_chain_alone(
    story: tuple[Story, Log],
) -> None:
    world, log = story
    forged = with_made_up_owners(world, log)
    found = forged.verified()
    assert found.ok and len(found.signatures.safes) == 3
    safes = world.world.wiring.chain.safes
    (fault,) = compared(found, safes).faults
    at = log.of("purchase_approved_by", 4)
    assert fault.startswith(f"row {at + 1} (purchase_approved_by ")
    assert "had 2 of" in fault
    honest = compared(log.verified(), safes)
    assert honest.ok and honest.signatures.safes == ()


def test_a_block_that_was_never_mined_is_named(story: tuple[Story, Log]) -> None:
    world, log = story
    at = log.of("purchase_approved_by", 4)

    def elsewhere(row: Row) -> None:
        record = row["body"]["signed"]["safe"]
        record["block_hash"] = "0x" + "ab" * 32
        SafeState.from_dict(record)

    found = compared(log.with_row(at, elsewhere).verified(), world.world.wiring.chain.safes)
    (fault,) = found.faults
    assert f"row {at + 1} " in fault and "can't be compared" in fault


def test_a_forged_row_of_the_database_is_named_alike(story: tuple[Story, Log]) -> None:
    world, log = story[0].world, story[1]
    assert verify(world.wiring.audit).signatures == log.verified().signatures
    at = log.of("purchase_approved_by", 0)
    text = json.dumps(log.rows[at]["body"] | {"signed": None})
    copy = world.store.copy(world.database, "forged")
    opened = world.open(copy)
    stores.edit(copy, "UPDATE audit SET body = ? WHERE seq = ?", text, at + 1)
    faults = verify(opened.wiring.audit).faults
    assert (
        f"row {at + 1} (purchase_approved_by {log.rows[at]['subject']}) was changed or moved"
        in (faults)
    )
    assert any("a signed statement is missing" in fault for fault in faults)


def test_the_command_verifies_a_file_without_any_database(
    story: tuple[Story, Log], tmp_path: Path
) -> None:
    world, log = story[0].world, story[1]
    file = tmp_path / "log.jsonl"

    def run(lines: list[bytes], *options: str) -> tuple[int, dict[str, Any]]:
        file.write_bytes(b"".join(lines))
        env = {k: v for k, v in os.environ.items() if not k.startswith("COORDINATOR_")}
        secret = world.secrets["COORDINATOR_ID_SECRET"]
        command = [sys.executable, "-m", "coordinator", "audit", "verify", "--json"]
        ran = subprocess.run(
            [*command, "--export", str(file), *options],
            cwd=tmp_path,
            env={**env, "COORDINATOR_ID_SECRET": secret},
            capture_output=True,
            text=True,
            check=False,
        )
        return ran.returncode, json.loads(ran.stdout)

    code, told = run(log.lines)
    assert (code, told["ok"], told["safe_signatures_not_compared"]) == (0, True, 3)
    assert told["signed_for"]["treasury"] == world.treasury
    code, told = run(with_made_up_owners(story[0], log).lines, "--rpc", world.chain.url)
    assert code == 6 and len(told["faults"]) == 1
    assert told["safe_signatures_not_compared"] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.jsonl"]
