"""The policy file is right as a whole or refused with every fault, where it stands."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.config import read_policy
from coordinator.domain.errors import ConfigurationError
from coordinator.domain.limits.limits import Limit, Scope, ScopeKind
from coordinator.domain.limits.rules import Rules, Terms
from coordinator.domain.policy.policy import Policy
from coordinator.domain.policy.text import parse_policy
from coordinator.domain.policy.values import UNLIMITED
from coordinator.domain.purchase.decision import Facts, decide
from coordinator.domain.purchase.lifecycle import Status
from coordinator.domain.purchase.request import Request
from coordinator.domain.usdc import ZERO, Usdc
from coordinator.domain.windows import Window

PAPER_API = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
OTHER_API = "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"
FULL = f"""
[organisation]
total_limit = "1000.00"
daily_limit = "500.00"
time_zone = "Europe/Berlin"

[roles.junior]
per_purchase_limit = "50"
daily_limit = "100"
approval_threshold = "25"

[agents.research-agent]
name = "Research Agent"
role = "junior"
per_purchase_limit = "100"
daily_limit = "300"
approval_threshold = "50"
providers = ["paper-api"]
address = "{OTHER_API}"

[agents.intern]
role = "junior"

[providers.paper-api]
address = "{PAPER_API}"
service = "papers"

[categories]
default = "other"
[categories.data]
total_limit = "300"
[categories.api]
total_limit = "200"
[categories.other]
total_limit = "100"

[approvals]
required = 1
approvers = ["alice", "bob"]
expires_after = "24h"

[escrow]
create_within = "1h"
deadline_after = "24h"
dispute_window = "48h"
settle = "after_window"

[alerts]
gas_balance_below_eth = "0.0005"
"""
LEAST = '[organisation]\ntotal_limit = "1000"\n'


def faults_of(text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as refused:
        parse_policy(text)
    return list(refused.value.faults)


def faults_after(text: str) -> list[str]:
    """The faults of ``text`` below a good organisation, whose two lines come first."""
    return faults_of(LEAST + text)


def limits(policy: Policy, terms: Terms) -> tuple[Limit, ...]:
    return Rules(policy).touched(terms, 0).limits


def test_the_whole_file_is_read_as_it_is_written() -> None:
    policy = parse_policy(FULL)
    assert policy.organisation.total_limit == Usdc("1000")
    assert policy.organisation.daily_limit == Usdc("500")
    assert policy.zone.key == "Europe/Berlin"
    assert list(policy.approvals.approvers) == ["alice", "bob"]
    assert policy.document()["approvals"]["approvers"] == ["alice", "bob"]
    assert policy.approvals.expires_after == 86400
    assert (policy.escrow.create_within, policy.escrow.deadline_after) == (3600, 86400)
    assert (policy.escrow.dispute_window, policy.escrow.settle) == (172800, "after_window")
    assert policy.alerts.gas_balance_below_eth == 500_000_000_000_000
    assert policy.categories.default == "other"
    assert set(policy.categories.named) == {"data", "api", "other"}


def test_the_least_policy_is_an_organisation_with_a_total_limit() -> None:
    policy = parse_policy(LEAST)
    assert policy.organisation.amounts == {Window.TOTAL: Usdc("1000")}
    assert policy.zone.key == "UTC"
    assert policy.provider(PAPER_API) == (None, None)


# --- faults ---


def test_every_fault_is_listed_at_once_with_its_line_and_key_path() -> None:
    text = """[organisation]
total_limit = 1000
time_zone = "Mars/Olympus"
colour = "red"

[agents.a]
per_purchase_limit = 5.0
daily_limit = "1,000"
enabled = "yes"

[pools.x]
total_limit = 1

[providers.p]
address = "0x1234"

[escrow]
settle = "never"
create_within = 60

[alerts]
gas_balance_below_eth = 0.5
"""
    faults = faults_of(text)
    starts = [
        "policy.toml:2: organisation.total_limit: write the amount as text",
        "policy.toml:3: organisation.time_zone: 'Mars/Olympus' is not a time zone",
        "policy.toml:4: organisation.colour is not a key of the policy",
        "policy.toml:7: agents.a.per_purchase_limit: write the amount as text",
        "policy.toml:8: agents.a.daily_limit: '1,000' is not an amount",
        "policy.toml:9: agents.a.enabled must be true or false",
        "policy.toml:11: pools.x.agents is missing",
        "policy.toml:12: pools.x.total_limit: write the amount as text",
        "policy.toml:15: providers.p.address: '0x1234' is not an address",
        "policy.toml:18: escrow.settle must be ",
        "policy.toml:19: escrow.create_within: write the time as text",
        "policy.toml:22: alerts.gas_balance_below_eth: write ETH as text",
    ]
    assert len(faults) == len(starts)
    for start in starts:
        assert [fault for fault in faults if fault.startswith(start)], start


def test_every_contradiction_is_listed_at_once() -> None:
    faults = faults_after(f"""[agents.a]
[agents.b]
role = "no-such-role"
[agents.alice]
per_purchase_limit = "10"
daily_limit = "9"
total_limit = "8"
providers = ["nobody"]
[providers.p]
address = "{PAPER_API}"
[providers.q]
address = "{PAPER_API.lower()}"
[categories]
default = "misc"
[approvals]
required = 3
approvers = ["alice", "alice"]
[escrow]
deadline_after = "9m"
dispute_window = "59m"
""")
    starts = [
        "policy.toml:3: agents.a has no per_purchase_limit",
        "policy.toml:3: agents.a has neither a daily_limit nor a total_limit",
        "policy.toml:5: agents.b.role: there is no role 'no-such-role'",
        "policy.toml:8: agents.alice.daily_limit: 9.00 is below",
        "policy.toml:9: agents.alice.total_limit: 8.00 is below",
        "policy.toml:10: agents.alice.providers: there is no provider 'nobody'",
        "policy.toml:6: agents.alice is also an approver",
        "policy.toml:14: providers.q.address is also the address of 'p'",
        "policy.toml:16: categories.default: there is no category 'misc'",
        "policy.toml:19: approvals.approvers names someone twice",
        "policy.toml:18: approvals.required asks for more than",
        "policy.toml:22: escrow.dispute_window must be 1h to 30d",
        "policy.toml:21: escrow.deadline_after must be 10m to 364d",
    ]
    assert len(faults) == len(starts)
    for start in starts:
        assert [fault for fault in faults if fault.startswith(start)], start


def test_malformed_keys_do_not_hide_contradictions() -> None:
    faults = faults_after('colour = "red"\n[agents.a]\ndaily_limit = "5"\n')
    assert len(faults) == 2


@pytest.mark.parametrize(
    ("text", "line", "path"),
    [
        ("[pools.x]\nagents = []\ndaily_limit = VALUE\n", 5, "pools.x.daily_limit"),
        ("[tasks.x]\ntotal_limit = VALUE\n", 4, "tasks.x.total_limit"),
        ("[tasks.default]\ntotal_limit = VALUE\n", 4, "tasks.default.total_limit"),
        ("[sessions.x]\nhourly_limit = VALUE\n", 4, "sessions.x.hourly_limit"),
        ("[x402]\nper_request_limit = VALUE\n", 4, "x402.per_request_limit"),
        ("[increases]\nmaximum = VALUE\n", 4, "increases.maximum"),
        ("weekly_limit = VALUE\n", 3, "organisation.weekly_limit"),
        ("hourly_limit = VALUE\n", 3, "organisation.hourly_limit"),
        ("rolling_24h_limit = VALUE\n", 3, "organisation.rolling_24h_limit"),
        ("[roles.r]\nmonthly_limit = VALUE\n", 4, "roles.r.monthly_limit"),
        ("[roles.r]\nauto_approve_daily_limit = VALUE\n", 4, "roles.r.auto_approve_daily_limit"),
        (
            "[categories.c]\n[roles.r.categories.c]\ndaily_limit = VALUE\n",
            5,
            "roles.r.categories.c.daily_limit",
        ),
        (
            f"[providers.p]\naddress = '{PAPER_API}'\ndaily_limit = VALUE\n",
            5,
            "providers.p.daily_limit",
        ),
        ("[categories.c]\ndaily_limit = VALUE\n", 4, "categories.c.daily_limit"),
    ],
)
def test_a_limit_of_any_table_and_window_is_read_and_its_fault_found_at_its_line(
    text: str, line: int, path: str
) -> None:
    policy = parse_policy(LEAST + text.replace("VALUE", '"5"'))
    read: Any = policy.document()
    for key in path.split("."):
        read = read[key]
    assert read == "5.00"
    assert Policy.from_dict(policy.document()) == policy
    (fault,) = faults_after(text.replace("VALUE", "5"))
    assert fault.startswith(f"policy.toml:{line}: {path}: write the amount as text")


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("[increases]\n", ["policy.toml:3: increases.maximum is missing"]),
        (
            "[service_levels.x]\n",
            [
                "policy.toml:3: service_levels.full is missing",
                "policy.toml:3: service_levels.standard is missing",
                "policy.toml:3: service_levels.minimal is missing",
                "policy.toml:3: service_levels.emergency is missing",
                "policy.toml:3: service_levels.x is not a key of the policy",
            ],
        ),
        (
            '[agents.a]\nper_purchase_limit = "1"\ndaily_limit = "1"\ncategories = ["api"]\n',
            ["policy.toml:6: agents.a.categories must be a table"],
        ),
    ],
)
def test_a_table_that_is_not_complete_is_refused(text: str, faults: list[str]) -> None:
    assert faults_after(text) == faults


@pytest.mark.parametrize(
    ("text", "line", "path"),
    [
        ('dayly_limit = "1"\n', 3, "organisation.dayly_limit"),
        ("[agent.a]\n", 3, "agent"),
        ("[agents.a]\nlimit = 1\n", 4, "agents.a.limit"),
        ("[roles.r]\nenabled = true\n", 4, "roles.r.enabled"),
        ("[approvals]\nquorum = 2\n", 4, "approvals.quorum"),
        ("[escrow]\nwindow = 2\n", 4, "escrow.window"),
        ('rolling = { rolling_24h = "1" }\n', 3, "organisation.rolling"),
        ("[roles.rolling]\nrolling_x = 1\n", 4, "roles.rolling.rolling_x"),
    ],
)
def test_an_unknown_key_is_refused_by_name(text: str, line: int, path: str) -> None:
    assert f"policy.toml:{line}: {path} is not a key of the policy" in faults_after(text)


AMOUNT_KEYS = [
    ("organisation", "total_limit"),
    ("organisation", "daily_limit"),
    ("roles", "r", "per_purchase_limit"),
    ("roles", "r", "approval_threshold"),
    ("agents", "a", "per_purchase_limit"),
    ("agents", "a", "daily_limit"),
    ("agents", "a", "total_limit"),
    ("agents", "a", "approval_threshold"),
    ("categories", "c", "total_limit"),
]
TIME_KEYS = [
    ("approvals", "expires_after"),
    ("escrow", "create_within"),
    ("escrow", "deadline_after"),
    ("escrow", "dispute_window"),
    ("alerts", "window_closes_within"),
]


def complete() -> dict[str, Any]:
    return {
        "organisation": {"total_limit": "1000"},
        "roles": {"r": {}},
        "agents": {"a": {"per_purchase_limit": "1", "daily_limit": "1"}},
        "providers": {"p": {"address": PAPER_API}},
        "categories": {"c": {}},
        "approvals": {},
        "escrow": {},
        "alerts": {},
    }


def with_value(path: tuple[str, ...], value: object) -> dict[str, Any]:
    document = complete()
    table = document
    for key in path[:-1]:
        table = table[key]
    table[path[-1]] = value
    return document


def refused_at(path: tuple[str, ...], value: object) -> None:
    policy, faults = Policy.examine(with_value(path, value))
    assert policy is None
    assert [found for found, _ in faults] == [path]


@pytest.mark.parametrize("path", AMOUNT_KEYS, ids=".".join)
@pytest.mark.parametrize(
    "value", [25, 25.0, True, "-1", "1e3", " 25", "0.0000001", "Unlimited", "", [], {}], ids=repr
)
def test_an_amount_is_text_and_never_a_number(path: tuple[str, ...], value: object) -> None:
    refused_at(path, value)


@pytest.mark.parametrize("path", AMOUNT_KEYS, ids=".".join)
def test_every_amount_may_say_unlimited(path: tuple[str, ...]) -> None:
    policy = Policy.from_dict(with_value(path, "unlimited"))
    assert Policy.from_dict(policy.document()) == policy


@pytest.mark.parametrize("path", TIME_KEYS, ids=".".join)
@pytest.mark.parametrize(
    "value",
    [3600, 3600.0, True, "3600", "0h", "-1h", "1.5h", "1 h", "1w", "24H", "", "\uff11h"],
    ids=repr,
)
def test_a_time_is_text_with_a_unit_and_never_a_number(
    path: tuple[str, ...], value: object
) -> None:
    refused_at(path, value)


@pytest.mark.parametrize(
    ("text", "seconds"), [("7200s", 7200), ("120m", 7200), ("2h", 7200), ("2d", 172800)]
)
def test_times_are_read_in_seconds_minutes_hours_and_days(text: str, seconds: int) -> None:
    for path in TIME_KEYS:
        policy = Policy.from_dict(with_value(path, text))
        assert getattr(getattr(policy, path[0]), path[1]) == seconds


@pytest.mark.parametrize(
    "value", [1, 0.0005, "1e-4", "-1", "1 ETH", "", ".5", "0." + "0" * 19], ids=repr
)
def test_eth_is_text_and_never_a_number(value: object) -> None:
    refused_at(("alerts", "gas_balance_below_eth"), value)


@pytest.mark.parametrize(
    ("text", "wei"), [("0", 0), ("1", 10**18), ("0.000000000000000001", 1), ("2.5", 25 * 10**17)]
)
def test_eth_is_read_in_wei(text: str, wei: int) -> None:
    policy = Policy.from_dict(with_value(("alerts", "gas_balance_below_eth"), text))
    assert policy.alerts.gas_balance_below_eth == wei


@pytest.mark.parametrize("value", [0, -1, 21, 1.0, "1", True])
def test_the_approvals_needed_are_a_whole_number_from_1_to_20(value: object) -> None:
    refused_at(("approvals", "required"), value)


@pytest.mark.parametrize("settle", ["after_window", "on_delivery", "manual"])
def test_settling_knows_three_words(settle: str) -> None:
    policy = Policy.from_dict(with_value(("escrow", "settle"), settle))
    assert policy.escrow.settle == settle


@pytest.mark.parametrize("zone", ["", "Mars/Olympus", "Europe", "../etc/passwd", 5, True], ids=repr)
def test_a_time_zone_is_one_that_exists(zone: object) -> None:
    refused_at(("organisation", "time_zone"), zone)


@pytest.mark.parametrize(
    "address", ["0x1234", PAPER_API[:-1] + "D", "0x" + "0" * 40, "paper-api", 5, ""], ids=repr
)
def test_a_provider_with_a_mistyped_address_is_refused(address: object) -> None:
    refused_at(("providers", "p", "address"), address)


@pytest.mark.parametrize("name", ["", " a", "a b", "-a", "a\n", "ä", "a" * 65], ids=repr)
@pytest.mark.parametrize("table", ["agents", "providers", "roles", "categories"])
def test_a_name_is_made_of_letters_digits_and_signs(table: str, name: str) -> None:
    document = complete()
    inner = next(iter(document[table].values()))
    document[table][name] = {**inner, "address": OTHER_API} if table == "providers" else inner
    with pytest.raises(ConfigurationError) as refused:
        Policy.from_dict(document)
    assert len(refused.value.faults) == 1


def test_an_organisation_without_a_total_limit_is_refused() -> None:
    assert faults_of("[organisation]\n") == [
        'policy.toml:1: organisation.total_limit is missing: give an amount, or "unlimited"'
    ]
    assert faults_of("") == ["policy.toml:1: organisation is missing"]


@pytest.mark.parametrize("text", ["[organisation\n", "a = \n", 'a = "1"\na = "2"\n', "[a]\n[a]\n"])
def test_a_file_that_is_not_toml_is_refused_with_its_line(text: str) -> None:
    (fault,) = faults_of(text)
    assert fault.startswith("policy.toml: ")
    assert "line" in fault


def test_faults_name_the_file_that_was_given() -> None:
    with pytest.raises(ConfigurationError) as refused:
        parse_policy("", name="team.toml")
    assert refused.value.faults == ("team.toml:1: organisation is missing",)


def test_a_fault_in_an_inline_table_is_found_at_the_line_of_the_table() -> None:
    faults = faults_after("\n[agents]\na = { per_purchase_limit = 1, daily_limit = '1' }\n")
    assert len(faults) == 1
    assert faults[0].startswith("policy.toml:5: agents.a.per_purchase_limit: ")


def test_a_fault_in_a_dotted_key_is_found_at_its_line() -> None:
    faults = faults_of('organisation.total_limit = "1"\norganisation.daily_limit = 5\n')
    assert len(faults) == 1
    assert faults[0].startswith("policy.toml:2: organisation.daily_limit: ")


def test_comments_do_not_count_as_keys() -> None:
    (fault,) = faults_of('[organisation]\n# total_limit = "1"\n\ntotal_limit = 1\n')
    assert fault.startswith("policy.toml:4: ")


def test_a_fault_of_a_quoted_name_with_dots_is_found_at_its_line() -> None:
    good = '[agents.first]\nper_purchase_limit = "1"\ndaily_limit = "1"\n'
    faults = faults_after(good + '[agents."bot@example.com"]\nper_purchase_limit = 1\n')
    assert faults[0].startswith("policy.toml:7: agents.bot@example.com.per_purchase_limit: ")


def test_a_fault_of_an_agent_called_named_is_told_with_its_name() -> None:
    faults = faults_after('[agents.named]\nper_purchase_limit = 1\ndaily_limit = "1"\n')
    assert faults[0].startswith("policy.toml:4: agents.named.per_purchase_limit: ")


def test_a_category_may_be_called_named() -> None:
    policy = parse_policy(LEAST + '[categories.named]\ntotal_limit = "5"\n')
    assert policy.categories.named["named"].total_limit == Usdc("5")
    assert Policy.from_dict(policy.document()) == policy


# --- agents, roles, providers ---


def test_an_agent_inherits_its_role_and_overrides_each_value() -> None:
    policy = parse_policy(FULL)
    intern, research = policy.agent("intern"), policy.agent("research-agent")
    assert intern is not None
    assert research is not None
    assert (intern.per_purchase_limit, intern.daily_limit) == (Usdc("50"), Usdc("100"))
    assert policy.threshold("intern") == Usdc("25")
    assert intern.providers is None
    assert (research.per_purchase_limit, research.daily_limit) == (Usdc("100"), Usdc("300"))
    assert policy.threshold("research-agent") == Usdc("50")
    assert research.providers == ["paper-api"]


ROLE_VALUES: dict[str, tuple[Any, Any]] = {
    "per_purchase_limit": ("5", "unlimited"),
    "daily_limit": ("5", "unlimited"),
    "total_limit": ("5", "6"),
    "approval_threshold": ("5", "0"),
    "providers": (["p"], []),
}


@pytest.mark.parametrize("key", ROLE_VALUES)
def test_each_value_of_a_role_may_be_overridden(key: str) -> None:
    of_role, of_agent = ROLE_VALUES[key]
    document = complete()
    document["roles"]["r"] = {
        "per_purchase_limit": "1",
        "daily_limit": "6",
        "total_limit": "6",
        key: of_role,
    }
    document["agents"] = {"heir": {"role": "r"}, "rebel": {"role": "r", key: of_agent}}
    policy = Policy.from_dict(document)
    heir, rebel = policy.agent("heir"), policy.agent("rebel")
    read = (lambda v: v) if key == "providers" else (lambda v: v if v == UNLIMITED else Usdc(v))
    assert getattr(heir, key) == read(of_role)
    assert getattr(rebel, key) == read(of_agent)


def test_a_role_may_bring_the_limits_that_an_agent_must_have() -> None:
    text = (
        LEAST + '[roles.r]\nper_purchase_limit = "1"\ntotal_limit = "5"\n[agents.a]\nrole = "r"\n'
    )
    of_agent = Scope(ScopeKind.AGENT, "a")
    found = limits(parse_policy(text), Terms("a"))
    assert [limit for limit in found if limit.scope == of_agent] == [
        Limit(of_agent, Window.PER_PURCHASE, Usdc("1")),
        Limit(of_agent, Window.TOTAL, Usdc("5")),
    ]


@pytest.mark.parametrize("missing", ["per_purchase_limit", "daily_limit"])
def test_an_agent_without_a_limit_is_refused_unless_it_says_unlimited(missing: str) -> None:
    document = complete()
    del document["agents"]["a"][missing]
    with pytest.raises(ConfigurationError, match="unlimited"):
        Policy.from_dict(document)
    document["agents"]["a"][missing] = "unlimited"
    found = limits(Policy.from_dict(document), Terms("a"))
    assert len([limit for limit in found if limit.scope.kind is ScopeKind.AGENT]) == 1


def test_an_unknown_agent_has_a_threshold_of_zero() -> None:
    assert parse_policy(FULL).threshold("nobody") == ZERO
    assert parse_policy(FULL).agent("nobody") is None


def test_unlimited_is_no_limit_and_a_missing_one_of_the_organisation_neither() -> None:
    policy = Policy.from_dict(
        {
            "organisation": {"total_limit": "unlimited"},
            "agents": {"a": {"per_purchase_limit": "unlimited", "total_limit": "unlimited"}},
            "categories": {"c": {"total_limit": "unlimited"}},
        }
    )
    assert limits(policy, Terms("a", "c")) == ()


def test_a_purchase_must_satisfy_the_limits_of_agent_category_and_organisation() -> None:
    agent = Scope(ScopeKind.AGENT, "research-agent")
    organisation = Scope(ScopeKind.ORGANISATION)
    assert set(limits(parse_policy(FULL), Terms("research-agent", "api"))) == {
        Limit(agent, Window.PER_PURCHASE, Usdc("100")),
        Limit(agent, Window.DAILY, Usdc("300")),
        Limit(Scope(ScopeKind.CATEGORY, "api"), Window.TOTAL, Usdc("200")),
        Limit(organisation, Window.DAILY, Usdc("500")),
        Limit(organisation, Window.TOTAL, Usdc("1000")),
    }
    assert {limit.scope for limit in limits(parse_policy(FULL), Terms())} == {organisation}


def test_a_provider_is_found_by_name_and_by_address_in_any_case() -> None:
    policy = parse_policy(FULL)
    for text in ("paper-api", PAPER_API, PAPER_API.lower()):
        name, provider = policy.provider(text)
        assert name == "paper-api"
        assert provider is not None
        assert (provider.address, provider.service) == (PAPER_API, "papers")
    assert policy.provider(OTHER_API) == (None, None)
    assert policy.provider("Paper-API") == (None, None)


def test_no_provider_is_named_like_an_address() -> None:
    document = complete()
    document["providers"] = {PAPER_API: {"address": OTHER_API}}
    with pytest.raises(ConfigurationError):
        Policy.from_dict(document)


def test_an_agents_list_may_name_a_provider_by_its_address() -> None:
    document = complete()
    document["agents"]["a"]["providers"] = [PAPER_API]
    request = Request.of(agent="a", provider="p", amount="1", purpose="x", category="c")
    facts = Facts(Rules(Policy.from_dict(document)), 0, ZERO, lambda _: {})
    assert decide(request, facts).outcome is Status.AWAITING_APPROVAL


# --- in code and in the database ---


def test_a_policy_made_in_code_fails_closed_as_the_file_does() -> None:
    built = Policy(organisation={"total_limit": "100"}, agents={"a": {}})
    with pytest.raises(ConfigurationError):
        read_policy(built)


def test_the_document_of_a_policy_gives_it_back_with_the_same_hash() -> None:
    policy = parse_policy(FULL)
    stored = json.loads(json.dumps(policy.document()))
    again = Policy.from_dict(stored)
    assert again == policy
    assert again.hash == policy.hash
    assert again.document() == policy.document()
    assert len(policy.hash) == 64


def test_the_hash_tells_any_two_policies_apart() -> None:
    hashes = {parse_policy(FULL).hash}
    for old, new in [
        ('"1000.00"', '"1000.000001"'),
        ("Europe/Berlin", "Europe/Paris"),
        ('"bob"', '"carol"'),
        ('"48h"', '"47h"'),
        ('"0.0005"', '"0.000500000000000001"'),
        ('providers = ["paper-api"]', "providers = []"),
        ('providers = ["paper-api"]', ""),
        ('default = "other"', 'default = "api"'),
    ]:
        hashes.add(parse_policy(FULL.replace(old, new)).hash)
    assert len(hashes) == 9


def test_the_hash_does_not_depend_on_how_the_file_is_written() -> None:
    rewritten = "# ours\n" + FULL.replace('"1000.00"', '"1000"').replace('"24h"', '"1d"')
    assert parse_policy(rewritten).hash == parse_policy(FULL).hash


def test_a_policy_cannot_be_changed_after_it_was_checked() -> None:
    policy = parse_policy(FULL)
    with pytest.raises(ValueError, match="frozen"):
        policy.organisation.total_limit = Usdc("1")
    with pytest.raises(ValueError, match="frozen"):
        policy.agents = {}


def test_examining_does_not_change_the_document() -> None:
    document = parse_policy(FULL).document()
    before = copy.deepcopy(document)
    Policy.from_dict(document)
    assert document == before


@pytest.mark.parametrize("time", ["36500d", "999999999d", "999999999h"])
def test_a_policy_with_a_long_time_can_be_read_back_or_is_refused(time: str) -> None:
    policy, faults = Policy.examine(with_value(("approvals", "expires_after"), time))
    assert faults or (policy and Policy.from_dict(policy.document()) == policy)


money = st.integers(min_value=0, max_value=10**12).map(lambda n: str(Usdc.from_base_units(n)))
maybe = st.one_of(st.just("unlimited"), money)
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,15}", fullmatch=True).filter(
    lambda name: name not in ("named", "default") and not name.startswith("0x")
)
times = st.builds(
    "{}{}".format, st.integers(min_value=3600, max_value=10_000), st.sampled_from(["s", "m"])
)


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    providers = draw(st.lists(names, max_size=3, unique=True))
    categories = draw(st.lists(names, max_size=3, unique=True))
    agents = draw(st.lists(names, max_size=3, unique=True))
    document: dict[str, Any] = {
        "organisation": {
            "total_limit": draw(maybe),
            "daily_limit": draw(maybe),
            "time_zone": draw(st.sampled_from(["UTC", "Asia/Kathmandu"])),
        },
        "agents": {
            agent: {
                "per_purchase_limit": "unlimited",
                "total_limit": draw(maybe),
                "approval_threshold": draw(maybe),
                "enabled": draw(st.booleans()),
                "providers": draw(st.lists(st.sampled_from(providers))) if providers else [],
            }
            for agent in agents
        },
        "providers": {
            name: {"address": f"0x{number:040x}"}
            for number, name in enumerate(providers, start=1 << 16)
        },
        "categories": {name: {"total_limit": draw(maybe)} for name in categories},
        "approvals": {"expires_after": draw(times)},
        "escrow": {"dispute_window": draw(times), "create_within": draw(times)},
        "alerts": {"gas_balance_below_eth": f"0.{draw(st.integers(0, 10**18 - 1)):018d}"},
    }
    if categories:
        document["categories"]["default"] = draw(st.sampled_from(categories))
    return document


@given(documents())
def test_any_policy_is_given_back_by_its_document(document: dict[str, Any]) -> None:
    policy = Policy.from_dict(document)
    again = Policy.from_dict(json.loads(json.dumps(policy.document())))
    assert again == policy
    assert again.hash == policy.hash


def test_a_hundred_requests_of_an_agent_may_wait_unless_the_policy_says_otherwise() -> None:
    least: dict[str, Any] = {"organisation": {"total_limit": "100"}}
    usual, few = (
        Policy.from_dict(least | {"approvals": terms}) for terms in ({}, {"waiting_max": 5})
    )
    assert (usual.approvals.waiting_max, few.approvals.waiting_max) == (100, 5)
    assert "waiting_max" not in usual.document().get("approvals", {})
    assert Policy.from_dict(few.document()).hash == few.hash
