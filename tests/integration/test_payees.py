"""Neither the treasury nor a contract of the rail is ever paid, however it is asked."""

from __future__ import annotations

import json

import pytest

from coordinator import InvalidRequest
from coordinator.domain.errors import ConfigurationError
from coordinator.domain.policy.policy import Policy
from coordinator.domain.usdc import ZERO
from coordinator.ledger.tx.activation import activate_policy
from tests.integration.stores import on_either
from tests.integration.world import World

pytestmark = on_either
WHAT = ["usdc", "vault", "kernel", "treasury"]


def address_of(world: World, what: str) -> str:
    return world.treasury if what == "treasury" else getattr(world.wiring.deployment, what)


def paying(world: World, address: str) -> Policy:
    document = json.loads(json.dumps(world.policy.document()))
    document["providers"]["paper-api"]["address"] = address
    return Policy.from_dict(document)


@pytest.mark.parametrize("what", WHAT)
def test_a_policy_that_pays_a_contract_is_not_put_in_force(world: World, what: str) -> None:
    before = world.wiring.policies.current().hash
    with pytest.raises(ConfigurationError, match=r"providers\.paper-api\.address"):
        world.apply(paying(world, address_of(world, what)))
    assert world.wiring.policies.current().hash == before


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("what", WHAT)
def test_a_contract_that_a_policy_in_force_names_is_denied(
    world: World, what: str, named: bool
) -> None:
    address = address_of(world, what)
    policy = paying(world, address)
    world.round()
    # An earlier version knew no contracts.
    terms = {"author": "olga", "reason": "a test", "now": world.clock()}
    with world.wiring.transactions.write() as tx:
        activate_policy(tx, policy, contracts={}, **terms)
    world.policy = policy

    if what == "treasury" and not named:
        with pytest.raises(InvalidRequest, match="can't pay itself"):
            world.buy("5.00", provider=address)
        return
    asked = world.buy("5.00", provider="paper-api" if named else address)

    assert asked.denied
    assert asked.reason is not None and asked.reason.code == "invalid_provider"
    world.go()
    assert world.usage() == (ZERO, ZERO)


@pytest.mark.parametrize("what", WHAT)
def test_nothing_is_withdrawn_to_a_contract(world: World, what: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        world.wiring.treasury.withdraw(
            to=address_of(world, what), amount="1", approver="alice", reason="x"
        )
    assert refused.value.code == "invalid_recipient"
