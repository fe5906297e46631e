"""Read answers into values.

The values load with the first answer: their classes take longer to make than all the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coordinator_client.costs import Cost, CostDecision, Increase, Run
    from coordinator_client.values import Answer, Decision, LimitState, PaymentAnswer, Purchase

Json = Mapping[str, Any]


def purchase(json: Json) -> Purchase:
    from coordinator_client.values import Purchase

    return Purchase.of(json)


def page(json: Json) -> tuple[list[Purchase], str | None]:
    """Return the purchases of a page, and the id after which the next one begins."""
    return [purchase(item) for item in json["items"]], json["next"]


def answer(json: Json) -> Answer:
    from coordinator_client.values import Answer

    return Answer.of(json)


def payment_answer(json: Json) -> PaymentAnswer:
    from coordinator_client.values import PaymentAnswer

    return PaymentAnswer.of(json)


def decision(json: Json) -> Decision:
    from coordinator_client.values import Decision

    return Decision.of(json)


def limits(json: Json) -> tuple[LimitState, ...]:
    from coordinator_client.values import LimitState

    return tuple(map(LimitState.of, json["items"]))


def cost(json: Json) -> Cost:
    from coordinator_client.costs import Cost

    return Cost.of(json)


def cost_decision(json: Json) -> CostDecision:
    from coordinator_client.costs import CostDecision

    return CostDecision.of(json)


def increase(json: Json) -> Increase:
    from coordinator_client.costs import Increase

    return Increase.of(json)


def run(kind: str) -> Callable[[Json], Run]:
    """Return what reads a task or session."""

    def read(json: Json) -> Run:
        from coordinator_client.costs import Run

        return Run.of(kind, json)

    return read
