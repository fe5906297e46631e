"""The policy's [treasury]: what the chain could not keep, and what it keeps differently."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from coordinator.domain.errors import ConfigurationError
from coordinator.domain.policy.chain_limits import chain_limit_warnings, listed_providers
from coordinator.domain.policy.policy import Policy
from coordinator.domain.policy.text import parse_policy

OWNERS = ["0x" + digit * 40 for digit in "123"]
BEFORE = """
[organisation]
total_limit = "5000"
daily_limit = "720"
[agents.ada]
per_purchase_limit = "100"
daily_limit = "200"
[providers.papers]
address = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
[providers.maps]
address = "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"
[x402]
top_up_daily_limit = "48"
"""
TABLE = {
    "owners": str(OWNERS).replace("'", '"'),
    "threshold": "2",
    "daily_limit": '"720"',
    "total_limit": '"5000"',
    "per_purchase_limit": '"100"',
    "deadline_before": '"2027-11-28"',
    "disputes_daily": "3",
    "bonds_daily_limit": '"72"',
    "x402_daily_limit": '"48"',
}
NOW = int(datetime(2027, 1, 1, tzinfo=UTC).timestamp())


def text(before: str = BEFORE, **changes: str | None) -> str:
    table = {key: said for key, said in {**TABLE, **changes}.items() if said is not None}
    return before + "[treasury]\n" + "\n".join(f"{key} = {said}" for key, said in table.items())


def policy(before: str = BEFORE, **changes: str | None) -> Policy:
    return parse_policy(text(before, **changes))


def test_a_policy_and_a_chain_that_agree_have_nothing_to_warn_of() -> None:
    assert [*chain_limit_warnings(policy(), now=NOW)] == []


def test_the_table_reads_back_as_it_was_written() -> None:
    made = policy()
    again = Policy.from_dict(made.document())
    assert again == made
    assert again.treasury is not None
    assert again.treasury.deadline_before == int(datetime(2027, 11, 28, tzinfo=UTC).timestamp())
    assert made.document()["treasury"]["deadline_before"] == "2027-11-28"


def test_a_policy_without_the_table_has_the_hash_that_it_had() -> None:
    assert "treasury" not in parse_policy(BEFORE).document()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"owners": "[]"}, "treasury.threshold: 2 of 0 can't sign"),
        ({"threshold": "4"}, "treasury.threshold: 4 of 3 can't sign"),
        ({"threshold": "0"}, "treasury.threshold must be 1 or more"),
        ({"owners": f'["{OWNERS[0]}", "{OWNERS[0]}"]'}, "treasury.owners names an owner twice"),
        (
            {"per_purchase_limit": '"240.01"'},
            "treasury.per_purchase_limit must be at most 240.00: of 720.00 a day a third may go at"
            " once",
        ),
        ({"bonds_daily_limit": None}, "treasury.disputes_daily needs bonds_daily_limit"),
        ({"disputes_daily": None}, "treasury.bonds_daily_limit needs disputes_daily"),
        ({"daily_limit": '"0.50"', "per_purchase_limit": '"0.1"'}, "daily_limit must be 1.00 or"),
        ({"providers": '["nobody"]'}, "treasury.providers: there is no provider 'nobody'"),
        ({"providers": "[]"}, "treasury.providers names nobody"),
        ({"deadline_before": '"in a year"'}, "treasury.deadline_before: write the day as text"),
        ({"deadline_before": '"2027-02-30"'}, "treasury.deadline_before: 2027-02-30 is no day"),
        ({"deadline_before": None}, "treasury.deadline_before is missing"),
    ],
)
def test_what_no_chain_could_keep_is_a_fault(changes: dict[str, str | None], said: str) -> None:
    with pytest.raises(ConfigurationError) as told:
        policy(**changes)
    assert said in str(told.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"per_purchase_limit": '"50"'},
            "agents.ada.per_purchase_limit is 100.00, and the chain takes at most 50.00 a purchase:"
            " its owners have to sign more",
        ),
        (
            {"daily_limit": '"600"'},
            "organisation.daily_limit is 720.00, and the chain lets 600.00 go in any 24 hours,"
            " 200.00 of it at once",
        ),
        (
            {"total_limit": '"4000"'},
            "organisation.total_limit is 5000.00, and the chain lets 4000.00 go until its owners"
            " set it again",
        ),
        (
            {"x402_daily_limit": None},
            "x402.top_up_daily_limit is 48.00, and the chain lets nothing go to the wallet in any"
            " 24 hours",
        ),
        (
            {"disputes_daily": None, "bonds_daily_limit": None},
            "treasury.disputes_daily is missing: the worker's key can open no dispute",
        ),
        (
            {"providers": '["papers"]'},
            "providers.maps has no place on the chain: the worker's key can't pay it",
        ),
        (
            {"daily_limit": '"900"'},
            "treasury.daily_limit is 900.00, above organisation.daily_limit, 720.00: a leaked key"
            " can take the whole of it",
        ),
        (
            {"per_purchase_limit": '"120"'},
            "treasury.per_purchase_limit is 120.00, and no agent may buy for more than 100.00",
        ),
        (
            {"x402_daily_limit": '"96"'},
            "treasury.x402_daily_limit is 96.00, above x402.top_up_daily_limit, 48.00",
        ),
        (
            {"deadline_before": '"2027-01-22"'},
            "treasury.deadline_before ends all purchases in 20 days: write a later day and have the"
            " owners sign it (coordinator treasury propose)",
        ),
        (
            {"deadline_before": '"2027-01-01"'},
            "treasury.deadline_before leaves no purchase its deadline: write a later day and have"
            " the owners sign it (coordinator treasury propose)",
        ),
    ],
)
def test_what_the_policy_and_the_chain_see_differently_is_named(
    changes: dict[str, str | None], said: str
) -> None:
    assert [*chain_limit_warnings(policy(**changes), now=NOW)] == [said]


def test_an_agent_without_a_limit_is_named() -> None:
    unlimited = BEFORE.replace('per_purchase_limit = "100"', 'per_purchase_limit = "unlimited"')
    (said,) = chain_limit_warnings(policy(unlimited), now=NOW)
    assert said.startswith("agents.ada.per_purchase_limit is unlimited, and the chain takes")


def test_providers_that_are_named_alone_have_a_place() -> None:
    assert [*listed_providers(policy())] == ["papers", "maps"]
    assert [*listed_providers(policy(providers='["maps"]'))] == ["maps"]
