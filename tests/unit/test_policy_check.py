"""The tables of the full model of limits: every fault in one sentence, at its line, all at once."""

from __future__ import annotations

import pytest

from coordinator.domain.errors import ConfigurationError
from coordinator.domain.policy.policy import Policy
from coordinator.domain.policy.text import parse_policy
from coordinator.domain.usdc import Usdc
from coordinator.domain.windows import Window

# Its last line is the 18th.
SOUND = """[organisation]
total_limit = "1000"
[agents.ada]
per_purchase_limit = "5"
daily_limit = "10"
[agents.bert]
per_purchase_limit = "5"
daily_limit = "10"
[categories.data]
[approvals]
expires_after = "1h"
[approvals.approvers.alice]
[approvals.approvers.senior]
agent = true
up_to = "200"
[providers.paper-api]
address = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
daily_limit = "100"
"""
LAST = 18


def faults_after(text: str) -> list[str]:
    """The faults of ``text`` below a sound policy, with lines counted from its first."""
    with pytest.raises(ConfigurationError) as refused:
        parse_policy(SOUND + text)
    found = []
    for fault in refused.value.faults:
        _, line, said = fault.split(":", 2)
        found.append(f"{int(line) - LAST}:{said}")
    return found


SENTENCES = {
    '[pools.x]\nagents = []\nrolling_0h_limit = "5"': (
        "3: pools.x.rolling_0h_limit: a rolling window has 1 to 744 hours: rolling_24h_limit"
    ),
    '[pools.x]\nagents = []\nrolling_800h_limit = "5"': (
        "3: pools.x.rolling_800h_limit: a rolling window has 1 to 744 hours: rolling_24h_limit"
    ),
    "[pools.x]\nagents = []\nrolling_24h_limit = 5.0": (
        '3: pools.x.rolling_24h_limit: write the amount as text, such as "25.00"'
    ),
    '[pools.x]\nagents = []\nrolling = { rolling_0h = "5" }': (
        "3: pools.x.rolling is not a key of the policy"
    ),
    '[pools.x]\nagents = []\nyearly_limit = "5"': (
        "3: pools.x.yearly_limit is not a key of the policy"
    ),
    '[pools.x]\nagents = ["ada"]\ndaily_limit = "5"\nminimums = { ada = "6" }': (
        "4: pools.x.minimums are 6.00 together, more than the pool's 5.00"
    ),
    '[pools.x]\nagents = ["ada"]\ndaily_limit = "0"\nminimums = { ada = "6" }': (
        "4: pools.x.minimums are 6.00 together, more than the pool's 0.00"
    ),
    '[pools.x]\nagents = ["ada"]\ndaily_limit = "5"\nminimums = { bert = "1" }': (
        "4: pools.x.minimums.bert is not an agent of the pool"
    ),
    '[pools.x]\nagents = []\ndaily_limit = "5"\nrebalance = {}': (
        "4: pools.x.rebalance: the pool has no agents to share among"
    ),
    '[pools.x]\nagents = ["ada"]\nhourly_limit = "5"\nminimums = { ada = "1" }': (
        "1: pools.x needs a daily_limit or a total_limit to share"
    ),
    '[pools.x]\nagents = ["zoe"]': "2: pools.x.agents: there is no agent 'zoe'",
    '[pools.x]\nagents = ["ada", "ada"]': "2: pools.x.agents names an agent twice",
    "[pools.x]\nagents = []\npriority = 0": "3: pools.x.priority must be 1 or more",
    "[pools.x]\nagents = []\npriority = 11": "3: pools.x.priority must be at most 10",
    "[pools.x]\nagents = []\npriority = 2.5": "3: pools.x.priority must be a whole number",
    '[pools.x]\nagents = ["ada"]\ndaily_limit = "5"\nrebalance = { usage_weight = 20 }': (
        "4: pools.x.rebalance: priority_weight and usage_weight must add up to 100"
    ),
    '[pools.x]\nagents = []\ndaily_limit = "5"\nrebalance = { apply = "maybe" }': (
        "4: pools.x.rebalance.apply must be 'ask' or 'auto'"
    ),
    '[pools.x]\nagents = []\ndaily_limit = "5"\nrebalance = { every = "1 day" }': (
        '4: pools.x.rebalance.every: write the time as text, such as "30m", "24h" or "7d"'
    ),
    '[agents.ada.categories.foo]\ndaily_limit = "1"': (
        "1: agents.ada.categories.foo: there is no category 'foo'"
    ),
    '[agents.ada.categories]\ndata = { daily_limit = "1", rolling_1h = "2" }': (
        "2: agents.ada.categories.data.rolling_1h is not a key of the policy"
    ),
    '[tasks]\nrequired = "yes"': "2: tasks.required must be true or false",
    '[tasks]\ncolour = "red"': "2: tasks.colour must be a table",
    "[tasks.default]\ntotal_limit = 10": (
        '2: tasks.default.total_limit: write the amount as text, such as "25.00"'
    ),
    '[tasks."my task".categories]\nllm = { total_limit = "1" }': (
        "2: tasks.my task.categories.llm: there is no category 'llm'"
    ),
    '[tasks."my task"]\ndaily_limit = "5"\nper_purchase_limit = "6"': (
        "2: tasks.my task.daily_limit: 5.00 is below the per_purchase_limit, 6.00"
    ),
    "[sessions.default]\ntotal_limit = 50.0": (
        '2: sessions.default.total_limit: write the amount as text, such as "25.00"'
    ),
    "[x402]\nper_request_limit = 1.5": (
        '2: x402.per_request_limit: write the amount as text, such as "25.00"'
    ),
    '[x402]\ntop_up_below = "5"\ntop_up_daily_limit = "9"': (
        "2: x402.top_up_below needs a top_up_to, which the float is filled up to"
    ),
    '[x402]\ntop_up_to = "5"\ntop_up_daily_limit = "9"': (
        "2: x402.top_up_to needs a top_up_below, the float at which it is filled"
    ),
    '[x402]\ntop_up_below = "5"\ntop_up_to = "5"\ntop_up_daily_limit = "9"': (
        "3: x402.top_up_to must be above the top_up_below, 5.00"
    ),
    '[x402]\ntop_up_below = "5"\ntop_up_to = "9"': (
        "2: x402.top_up_below needs a top_up_daily_limit: nothing is moved without a limit"
    ),
    '[[approvals.tiers]]\nabove = "100"\nrequired = 1\n[[approvals.tiers]]\nabove=5\nrequired=1': (
        '5: approvals.tiers.1.above: write the amount as text, such as "25.00"'
    ),
    '[[approvals.tiers]]\nabove = "100"\nrequired = 0': (
        "3: approvals.tiers.0.required must be 1 or more"
    ),
    '[[approvals.tiers]]\nabove = "100"\nrequired = 3': (
        "1: approvals.tiers.0: above 100.00 asks for 3 approvers, but only 2 may approve that much"
    ),
    '[[approvals.tiers]]\nabove = "200"\nrequired = 2': (
        "1: approvals.tiers.0: above 200.00 asks for 2 approvers, but only 1 may approve that much"
    ),
    '[[approvals.tiers]]\nabove="9"\nrequired=1\n[[approvals.tiers]]\nabove="5"\nrequired=2': (
        "1: approvals.tiers.0: above 9.00 asks for fewer approvers than a lower tier"
    ),
    '[[approvals.tiers]]\nabove="9"\nrequired=1\n[[approvals.tiers]]\nabove="9"\nrequired=2': (
        "4: approvals.tiers.1: there is a tier above 9.00 already"
    ),
    "[approvals.approvers.Alice]": (
        "1: approvals.approvers.Alice looks like 'alice': each approver counts once, so give"
        " people different names"
    ),
    "[approvals.approvers.b0b]\n[approvals.approvers.bob]": (
        "2: approvals.approvers.bob looks like 'b0b': each approver counts once, so give"
        " people different names"
    ),
    "[approvals.approvers.CaroI]\n[approvals.approvers.carol]": (
        "2: approvals.approvers.carol looks like 'CaroI': each approver counts once, so give"
        " people different names"
    ),
    "[approvals.approvers.Ada]": (
        "1: approvals.approvers.Ada looks like the agent 'ada': an agent must not"
        " approve its own requests"
    ),
    "[approvals.approvers.robot]\nagent = true": (
        "1: approvals.approvers.robot: an agent that approves needs up_to, the largest amount it"
        " may approve"
    ),
    "[service_levels]\nof = []\nfull = {from=50}\nstandard = {from=20}\nminimal = {from=5}\n"
    "emergency = {from=0}": "2: service_levels.of names no window",
    "[service_levels]\nof = ['dayly']\nfull = {from=50}\nstandard = {from=20}\nminimal = {from=5}\n"
    "emergency = {from=0}": "2: service_levels.of: 'dayly' is not a window",
    "[service_levels]\nfull = {from=50}\nstandard = {from=60}\nminimal = {from=5}\n"
    "emergency = {from=0}": "1: service_levels: each level must begin below the one before",
    "[service_levels]\nfull = {from=50}\nstandard = {from=20}\nminimal = {from=5}\n"
    "emergency = {from=1}": "5: service_levels.emergency.from must be 0: it is the lowest level",
    "[service_levels]\nfull = {from=101}\nstandard = {from=20}\nminimal = {from=5}\n"
    "emergency = {from=0}": "2: service_levels.full.from must be at most 100",
    '[increases]\nmaximum = "100"\nauto_approve_from_priority = 12': (
        "3: increases.auto_approve_from_priority must be at most 10"
    ),
    "[increases]\nauto_approve_from_priority = 7": "1: increases.maximum is missing",
    "[reviews]\npool_remaining_below = 120": "2: reviews.pool_remaining_below must be at most 100",
    "[alerts]\nthresholds = [80, 1000]": "2: alerts.thresholds.1 must be at most 100",
    "[alerts]\nthresholds = [80, 80]": "2: alerts.thresholds names a percentage twice",
    '[alerts]\nnotify = "slack://x"': "2: alerts.notify must be a list: [ … ]",
    '[alerts]\nnotify = ["slack://a/b", "hunter2"]': (
        '2: alerts.notify.1: write a URL such as "json://127.0.0.1:8080", or "env:NAME" of one'
    ),
}


@pytest.mark.parametrize(("text", "fault"), SENTENCES.items(), ids=SENTENCES.values())
def test_a_fault_is_told_in_one_sentence_at_its_line(text: str, fault: str) -> None:
    assert faults_after(text) == [fault]


def test_the_faults_of_all_tables_are_told_at_once_contradictions_too() -> None:
    text = "\n".join(
        [
            '[pools.x]\nagents = ["zoe"]\npriority = 11',
            '[pools.y]\nagents = ["zoe"]',
            "[x402]\nper_request_limit = 1.5",
            '[[approvals.tiers]]\nabove = "9"\nrequired = 3',
            "[increases]",
        ]
    )
    assert faults_after(text) == [
        "3: pools.x.priority must be at most 10",
        '7: x402.per_request_limit: write the amount as text, such as "25.00"',
        "11: increases.maximum is missing",
        "5: pools.y.agents: there is no agent 'zoe'",
        "8: approvals.tiers.0: above 9.00 asks for 3 approvers, but only 2 may approve that much",
    ]


def test_a_fault_of_one_table_makes_no_other_table_look_wrong() -> None:
    text = """[providers.bad]
service = "x"
[roles.junior]
per_purchase_limit = 5
daily_limit = "10"
[agents.intern]
role = "junior"
providers = ["bad"]
"""
    assert faults_after(text) == [
        '4: roles.junior.per_purchase_limit: write the amount as text, such as "25.00"',
        "1: providers.bad.address is missing",
    ]


SIGNING = """[approvals.approvers.%s]
credentials = ["address:0x%s"]
"""


def signing_approvals(required: int, approvers: int) -> str:
    head = (
        f'[organisation]\ntotal_limit = "1"\n[approvals]\nfour_eyes = true\nrequired = {required}\n'
    )
    names = ("ann", "ben", "cid")[:approvers]
    return head + "".join(SIGNING % (name, str(n) * 40) for n, name in enumerate(names, start=1))


def test_four_eyes_of_signers_are_not_one_signature_beside_a_name() -> None:
    with pytest.raises(ConfigurationError) as refused:
        parse_policy(signing_approvals(1, 3))
    (fault,) = refused.value.faults
    assert fault.startswith("policy.toml:4: approvals.four_eyes needs required = 2")
    assert parse_policy(signing_approvals(2, 3)).approvals.four_eyes


def test_four_eyes_need_one_approver_more_than_is_required() -> None:
    with pytest.raises(ConfigurationError, match="four_eyes needs 3 approvers"):
        parse_policy(signing_approvals(2, 2))
    # By names alone who proposed is told as well as who approves.
    names = '[approvals]\nfour_eyes = true\napprovers = ["ann", "ben"]\n'
    assert parse_policy('[organisation]\ntotal_limit = "1"\n' + names).approvals.four_eyes


def test_a_list_of_approvers_that_cannot_be_read_makes_no_tier_look_wrong() -> None:
    text = """[organisation]
total_limit = "1"
[approvals]
required = 2
approvers = "alice"
tiers = [{ above = "9", required = 2 }]
"""
    with pytest.raises(ConfigurationError) as refused:
        parse_policy(text)
    assert list(refused.value.faults) == ["policy.toml:5: approvals.approvers must be a table"]


def test_contradictions_are_told_even_when_the_organisation_is_wrong() -> None:
    with pytest.raises(ConfigurationError) as refused:
        parse_policy('[organisation]\n[pools.x]\nagents = ["zoe"]\n')
    assert list(refused.value.faults) == [
        'policy.toml:1: organisation.total_limit is missing: give an amount, or "unlimited"',
        "policy.toml:3: pools.x.agents: there is no agent 'zoe'",
    ]


def test_a_fault_never_repeats_the_url_that_it_is_about() -> None:
    (fault,) = faults_after('[alerts]\nnotify = ["hunter2 secret"]')
    assert "hunter2" not in fault


def test_any_scope_takes_any_window() -> None:
    windows = ("per_purchase", "hourly", "daily", "weekly", "monthly", "rolling_36h", "total")
    keys = "\n".join(f'{window}_limit = "1"' for window in windows)
    tables = "pools.x", "tasks.default", "tasks.t.categories.data", "sessions.s", "providers.p"
    text = "\n".join(f"[{table}]\n{keys}" for table in tables)
    agents, address = "agents = []\n", 'address = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"\n'
    text = text.replace("[pools.x]\n", f"[pools.x]\n{agents}")
    policy = parse_policy(SOUND + text.replace("[providers.p]\n", f"[providers.p]\n{address}"))
    assert policy.tasks is not None and policy.tasks.default is not None
    assert policy.sessions is not None
    of = (
        policy.pools["x"],
        policy.tasks.default,
        policy.tasks.named["t"].categories["data"],
        policy.sessions.named["s"],
        policy.providers["p"],
    )
    for limits in of:
        assert limits.amounts == {Window(name): Usdc("1") for name in windows}
    assert Policy.from_dict(policy.document()) == policy


DEEP = {
    "key": ".".join("a" * 12_000) + " = 1",
    "array": "a = " + "[" * 29_000 + "]" * 29_000,
    "table": "a = " + "{a=" * 14_000 + "1" + "}" * 14_000,
    "header": "[" + ".".join("a" * 3_000) + "]",
}


@pytest.mark.parametrize("text", DEEP.values(), ids=DEEP)
def test_a_deep_text_is_a_fault_of_the_policy(text: str) -> None:
    with pytest.raises(ConfigurationError):
        parse_policy(text)


def test_approvers_that_are_no_names_are_a_fault_of_the_policy() -> None:
    with pytest.raises(ConfigurationError, match="approvers must be names"):
        parse_policy('[organisation]\ntotal_limit = "1"\n[approvals]\napprovers = [["alice"]]\n')
