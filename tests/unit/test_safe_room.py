"""The audited contracts: their code makes their addresses, and what is missing is said."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.chain.safe import events
from coordinator.chain.safe.addresses import CANONICAL, MULTI_SEND, PACKAGES, ROLES, SAFE
from coordinator.chain.safe.allowances import Allowance
from coordinator.chain.safe.conditions import (
    Condition,
    all_of,
    any_of,
    anything,
    call_with,
    calls_within,
    equal_to,
    less_than,
    rows,
    the_safe,
    within,
)
from coordinator.chain.safe.configuration import (
    APPROVE,
    CREATE,
    LINK,
    TRANSFER,
    TRANSITION,
)
from coordinator.chain.safe.creation_code import CHECKOUT, CreationCode
from coordinator.chain.safe.multisend import MULTI_SEND_FUNCTION, InnerCall, multi_send
from coordinator.chain.safe.refusals import Violation, role_refusal
from coordinator.chain.safe.roles import (
    ALLOWANCES,
    ASSIGN_ROLES,
    EXECUTE,
    EXECUTE_AND_TELL,
    REVOKE_FUNCTION,
    REVOKE_TARGET,
    SCOPE_FUNCTION,
    SCOPE_TARGET,
    SET_ALLOWANCE,
    SET_UNWRAPPER,
    key,
)
from coordinator.chain.safe.signatures import Signature
from coordinator.domain.address import checksummed
from coordinator.domain.errors import ConfigurationError

installed = pytest.mark.skipif(not CHECKOUT.exists(), reason="npm's packages are not installed")
VAULT = checksummed("0x" + "11" * 20)


@installed
@pytest.mark.parametrize("contract", CANONICAL, ids=lambda contract: contract.name)
def test_the_code_of_a_package_makes_the_contracts_address(contract: object) -> None:
    assert CreationCode().of(contract)  # type: ignore[arg-type]


def test_a_package_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as raised:
        CreationCode(tmp_path).of(SAFE)
    told = str(raised.value)
    assert "SafeL2 1.4.1" in told and "@safe-global/safe-contracts@1.4.1" in told
    with pytest.raises(ConfigurationError, match="ERC-2470"):
        CreationCode(tmp_path).singleton_factory_transaction()


@installed
def test_code_that_was_changed_is_refused_by_its_address(tmp_path: Path) -> None:
    for contract in (SAFE, ROLES):
        source = CHECKOUT / contract.package / contract.file
        changed = tmp_path / contract.package / contract.file
        changed.parent.mkdir(parents=True)
        text = source.read_text()
        place = text.index("5b60")
        changed.write_text(text[:place] + "5b61" + text[place + 4 :])
        with pytest.raises(ConfigurationError, match=contract.address):
            CreationCode(tmp_path).of(contract)


@installed
def test_the_lock_installs_the_packages_that_are_named() -> None:
    import json

    wanted = json.loads((CHECKOUT.parent / "package.json").read_text())["dependencies"]
    for package, spec in PACKAGES.items():
        assert spec == f"{package}@{wanted[package]}"


@pytest.mark.parametrize(
    ("signature", "selector"),
    [
        (APPROVE, "095ea7b3"),
        (TRANSFER, "a9059cbb"),
        (CREATE, "432815a2"),
        (LINK, "b76f85ae"),
        (TRANSITION, "48d6ecd6"),
        (MULTI_SEND_FUNCTION, "8d80ff0a"),
        (EXECUTE, "c6fe8747"),
        (EXECUTE_AND_TELL, "2b99e506"),
        (SET_ALLOWANCE, "a8ec43ee"),
        (ALLOWANCES, "5e7c9fe8"),
        (SCOPE_TARGET, "0c6c76b8"),
        (SCOPE_FUNCTION, "7508dd98"),
        (ASSIGN_ROLES, "957ed2b3"),
        (SET_UNWRAPPER, "2916a9af"),
        (REVOKE_TARGET, "0172a43a"),
        (REVOKE_FUNCTION, "66523f7d"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_signatures_have_the_selectors_of_the_deployed_contracts(
    signature: Signature, selector: str
) -> None:
    assert signature.selector.hex() == selector


def test_events_have_the_topics_of_the_deployed_contracts() -> None:
    assert events.CONSUME_ALLOWANCE.topic.startswith("0x90355d54")
    assert events.SET_ALLOWANCE.topic.startswith("0x63d7ec44")
    beginnings = {topic[:10] for topic in events.TOPICS}
    assert {"0x9f8368fa", "0x4f6c3404"} <= beginnings


def as_rows(condition: Condition) -> list[tuple[int, int, int]]:
    return [(row.parent, row.kind, row.operator) for row in rows(condition)]


def test_conditions_are_laid_out_breadth_first() -> None:
    created = call_with(
        any_of(equal_to(VAULT), equal_to(1)),
        the_safe(),
        all_of(less_than(101), within(key("daily"))),
        less_than(5),
    )
    assert as_rows(created) == [
        (0, 5, 5),
        (0, 0, 2),
        (0, 1, 15),
        (0, 0, 1),
        (0, 1, 18),
        (1, 1, 16),
        (1, 1, 16),
        (3, 1, 18),
        (3, 1, 28),
    ]
    disputed = call_with(anything(), equal_to(6), calls_within(key("disputes")))
    assert as_rows(disputed) == [(0, 5, 5), (0, 1, 0), (0, 1, 16), (0, 0, 30)]


def test_one_choice_stands_for_itself_and_none_is_refused() -> None:
    assert any_of(equal_to(1)) == equal_to(1)
    for join in (any_of, all_of):
        with pytest.raises(ValueError, match="at least one"):
            join()


def test_keys_are_ascii_of_at_most_32_characters() -> None:
    assert key("daily") == b"daily" + bytes(27)
    for name in ("", "k" * 33, "schlüssel"):
        with pytest.raises(ValueError):
            key(name)


def test_calls_are_packed_one_behind_the_other() -> None:
    packed = multi_send([InnerCall(VAULT, b"\x01\x02"), InnerCall(VAULT, b"")])
    (body,) = MULTI_SEND_FUNCTION.decoded(packed[4:])
    head = "00" + "11" * 20 + "00" * 32
    assert body.hex() == head + f"{2:064x}" + "0102" + head + f"{0:064x}"


VIOLATED = Signature("ConditionViolation(uint8,bytes32)")


@pytest.mark.parametrize(
    ("status", "info", "told"),
    [
        (5, bytes(32), "a parameter is none of those that the role may use (OrViolation)"),
        (17, key("daily"), "more than is left of an allowance: daily (AllowanceExceeded)"),
        (3, bytes.fromhex("a9059cbb"), "the role may not call this function (FunctionNotAllowed)"),
        (14, bytes(32), "a parameter is not one that the role may use (BitmaskOverflow)"),
    ],
)
def test_a_violation_is_told_in_a_sentence(status: int, info: bytes, told: str) -> None:
    refusal = role_refusal("0x" + VIOLATED.call(status, info.ljust(32, b"\0")).hex())
    assert refusal is not None
    assert (str(refusal), refusal.violation) == (told, Violation(status))


@pytest.mark.parametrize(
    ("text", "arguments", "name"),
    [
        ("NoMembership()", (), "NoMembership"),
        ("NotAuthorized(address)", (VAULT,), "NotAuthorized"),
        ("ModuleTransactionFailed()", (), "ModuleTransactionFailed"),
        ("MalformedMultiEntrypoint()", (), "MalformedMultiEntrypoint"),
        ("FunctionSignatureTooShort()", (), "FunctionSignatureTooShort"),
        ("OwnableUnauthorizedAccount(address)", (VAULT,), "OwnableUnauthorizedAccount"),
    ],
)
def test_an_error_is_told_by_its_name(text: str, arguments: tuple[str, ...], name: str) -> None:
    data = "0x" + Signature(text).call(*arguments).hex()
    for answer in (data, {"data": data}):
        refusal = role_refusal(answer)
        assert refusal is not None and refusal.name == name


@given(st.none() | st.text() | st.binary().map(lambda raw: "0x" + raw.hex()) | st.integers())
def test_other_revert_data_is_no_refusal_of_a_role(data: object) -> None:
    assert role_refusal(data) is None


@pytest.mark.parametrize("data", ["0xd0a9bf58", "0xd0a9bf58" + "ff" * 64, "0xd0a9bf5", "0xzz"])
def test_a_violation_that_is_cut_off_or_unknown_is_none(data: str) -> None:
    assert role_refusal(data) is None


def test_an_allowance_comes_back_by_whole_periods_up_to_its_size() -> None:
    bucket = Allowance(refill=10, max_refill=100, period=60, balance=5, timestamp=1000)
    assert [bucket.left_at(time) for time in (0, 1059, 1060, 1119, 1120)] == [5, 5, 15, 15, 25]
    assert bucket.left_at(10**9) == 100
    assert Allowance.once(7).left_at(10**9) == 7


def test_it_says_when_it_grows_next() -> None:
    bucket = Allowance(refill=10, max_refill=100, period=60, balance=5, timestamp=1000)
    assert [bucket.refilled_at(time) for time in (0, 1059, 1060)] == [1060, 1060, 1120]
    assert bucket.refilled_at(10**9) is None
    assert Allowance.once(7).refilled_at(0) is None
    full = Allowance(refill=10, max_refill=100, period=60, balance=300, timestamp=1000)
    assert (full.left_at(10**6), full.refilled_at(10**6)) == (300, None)


def test_multi_send_is_not_of_the_same_package_as_the_safe() -> None:
    assert MULTI_SEND.package != SAFE.package
