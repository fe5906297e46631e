"""What agents ask, however much and often, never adds up to more than a database can count."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from coordinator import Coordinator, InvalidRequest, Usdc
from coordinator.api.hold import Hold
from coordinator.domain.purchase.lifecycle import Status
from coordinator.ledger.limits.counters import COUNTED_MAX
from tests.integration.ledger.conftest import Opener
from tests.integration.ledger.deciding import ask, contents, edit, rows
from tests.integration.stores import on_both

pytestmark = on_both
LARGEST = "1000000000.00"
UNLIMITED = {"organisation": {"total_limit": "unlimited"}}
BIGGEST_INTEGER = 2**63 - 1
LEFT = 2_000_000


@pytest.mark.parametrize("status", ["denied", "expired", "rejected", "cancelled", "settled"])
def test_amounts_that_are_promised_no_more_are_not_added_up(
    opener: Opener, database: str, status: str
) -> None:
    ada = opener({"agents": {"ada": {"per_purchase_limit": "50"}}}).agent("ada")
    assert ask(ada, LARGEST).status is Status.DENIED
    edit(
        database,
        f"UPDATE purchase_totals SET amount = {BIGGEST_INTEGER - LEFT}, status = '{status}'",
    )
    assert ask(ada, LARGEST).status is Status.DENIED
    bought = ask(ada, "20.00")
    assert bought.status is Status.APPROVED
    edit(database, f"UPDATE purchases SET status = '{status}' WHERE id = '{bought.id}'")
    ask(ada, "20.00")
    found = rows(database, "SELECT amount FROM purchase_totals WHERE status = 'approved'")
    assert found == [(Usdc("20.00").base_units,)]


def record(coordinator: Coordinator, held: Hold, amount: Usdc) -> None:
    coordinator.agent("ada").record(amount)


def hold(coordinator: Coordinator, held: Hold, amount: Usdc) -> None:
    coordinator.agent("ada").hold(amount)


def purchase(coordinator: Coordinator, held: Hold, amount: Usdc) -> None:
    ask(coordinator.agent("ada"), str(amount))


def post(coordinator: Coordinator, held: Hold, amount: Usdc) -> None:
    held.post(amount + Usdc("1.00"))


@pytest.mark.parametrize("counted", ["held", "spent"])
@pytest.mark.parametrize("ask_for", [record, hold, purchase, post])
def test_what_would_be_counted_beyond_the_largest_sum_is_refused(
    opener: Opener,
    database: str,
    ask_for: Callable[[Coordinator, Hold, Usdc], None],
    counted: str,
) -> None:
    coordinator = opener(UNLIMITED)
    held = coordinator.agent("ada").hold("1.00")
    edit(
        database,
        f"UPDATE counters SET {counted} = {COUNTED_MAX - LEFT} - held - spent + {counted}"
        " WHERE scope_kind = 'organisation' AND \"window\" = 'total'",
    )
    before = contents(database)
    with pytest.raises(InvalidRequest, match="would be counted together") as refused:
        ask_for(coordinator, held, Usdc.from_base_units(LEFT + 1))
    assert refused.value.code == "invalid_amount"
    assert contents(database) == before
    ask_for(coordinator, held, Usdc.from_base_units(LEFT))
    assert contents(database) != before
