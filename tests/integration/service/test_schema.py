"""The service does what its OpenAPI says, for every role, and its models are the Python API's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from pydantic import BaseModel
from schemathesis.specs.openapi.checks import positive_data_acceptance

from coordinator.server import models
from tests.integration.service.operations import ALL
from tests.integration.service.simulated import AGENT, SimulatedService, simulated_service

_EXAMPLES = 3
# Text to see, amounts above zero, a scope that exists: rules that no schema can tell.
_NOT_IN_A_SCHEMA = [positive_data_acceptance]


@pytest.fixture(scope="module")
def service() -> Iterator[SimulatedService]:
    with simulated_service() as made:
        yield made


@pytest.mark.parametrize("role", ["agent", "operator"])
def test_whatever_is_asked_is_answered_as_described(service: SimulatedService, role: str) -> None:
    _ask_everything(service, role, _EXAMPLES)


@pytest.mark.campaign
@pytest.mark.parametrize("role", ALL)
def test_much_that_is_asked_is_answered_as_described(service: SimulatedService, role: str) -> None:
    _ask_everything(service, role, 200)


def _ask_everything(service: SimulatedService, role: str, examples: int) -> None:
    schema = schemathesis.openapi.from_url(f"{service.url}/v1/openapi.json")
    headers = {"Authorization": f"Bearer {service.tokens[role]}"}
    found = []
    for operation in (result.ok() for result in schema.get_all_operations()):
        # An endless stream is not for this, and that nobody is ready is no fault of the server's.
        if operation.path in ("/v1/events", "/readyz"):
            continue

        @settings(
            max_examples=examples,
            phases=[Phase.generate],
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        @_given(operation)
        def ask(case: Any) -> None:
            if isinstance(case.query, dict) and "timeout" in case.query:
                case.query["timeout"] = 0
            told = case.call_and_validate(headers=headers, excluded_checks=_NOT_IN_A_SCHEMA)
            found.append(told.status_code)

        ask()
    assert 200 in found
    assert max(found) < 500


def _given(operation: Any) -> Any:
    from hypothesis import given

    return given(case=operation.as_strategy())


def _results(service: SimulatedService) -> Mapping[str, tuple[type[BaseModel], Any]]:
    agent = service.coordinator.agent(AGENT)
    terms: dict[str, Any] = {"provider": "paper-api", "amount": "5.00", "purpose": "a paper"}
    purchase = service.buy()
    return {
        "purchase": (models.Purchase, purchase),
        "decision": (models.Decision, agent.check(**terms)),
        "answer": (models.Answer, agent.cancel(purchase.id)),
        "cost": (models.Cost, agent.hold("1.00")),
        "cost decision": (models.CostDecision, agent.check_hold("1.00")),
        "increase": (models.Increase, agent.request_increase("5.00", reason="more")),
        "limit": (models.LimitState, agent.limits()[0]),
    }


def test_models_have_the_names_of_the_python_api(service: SimulatedService) -> None:
    for name, (model, result) in _results(service).items():
        told = result.as_dict()
        assert set(told) == set(model.model_fields), name
        model.model_validate(told)
