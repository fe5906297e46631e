"""What is remembered of an endpoint, and for how long."""

from __future__ import annotations

import pytest

from coordinator.chain.networks import NETWORKS
from coordinator.chain.rpc.endpoints import Endpoint, Endpoints
from coordinator.chain.simulated import SimulatedNode, SimulatedRpc
from coordinator.doctor.chain import _chain_id


class Ticks:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def ticks() -> Ticks:
    return Ticks()


def test_a_smaller_batch_grows_again_step_by_step(ticks: Ticks) -> None:
    endpoint = Endpoint("https://a.example", ticks)
    assert endpoint.batch_max == 100
    endpoint.takes_less_than(100)
    endpoint.takes_less_than(50)
    assert endpoint.batch_max == 25
    ticks.now += 59
    assert endpoint.batch_max == 25
    ticks.now += 1
    assert [endpoint.batch_max, endpoint.batch_max] == [50, 50]
    ticks.now += 60
    assert endpoint.batch_max == 100
    ticks.now += 600
    assert endpoint.batch_max == 100


def test_a_single_call_that_is_refused_says_nothing_about_size(ticks: Ticks) -> None:
    endpoint = Endpoint("https://a.example", ticks)
    endpoint.takes_less_than(3)
    assert endpoint.batch_max == 1
    endpoint.takes_less_than(1)
    assert endpoint.batch_max == 100


def test_who_rests_is_asked_last_and_for_its_chain_when_it_comes_back(ticks: Ticks) -> None:
    endpoints = Endpoints(["https://a.example", "https://b.example"], ticks)
    first, second = endpoints.all
    assert first.tells_chain("0x1", 1)
    first.rest()
    assert endpoints.in_order() == [second, first]
    assert endpoints.others() == [], "there is nobody to ask instead"
    assert not first.right_chain
    ticks.now += 31
    assert endpoints.in_order() == [first, second]
    endpoints.use(second)
    assert (endpoints.in_order(), endpoints.others()) == ([second, first], [first])


def test_a_fault_that_lasts_or_three_in_a_row_make_it_rest_until_it_answers(ticks: Ticks) -> None:
    endpoint = Endpoint("https://a.example", ticks)
    for _ in range(4):
        endpoint.failed(lasting=False)
        endpoint.failed(lasting=False)
        assert not endpoint.rests
        endpoint.answered()
    for _ in range(3):
        endpoint.failed(lasting=False)
    assert endpoint.rests
    endpoint.answered()
    assert not endpoint.rests
    endpoint.failed(lasting=True)
    assert endpoint.rests


def test_a_wrong_chain_is_told_once_and_again_after_it_was_right(
    ticks: Ticks, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint = Endpoint("https://user:secret@a.example/key", ticks)
    for said in ("0x2", "0x2", "0x1", "0x2"):
        assert endpoint.tells_chain(said, 1) is (said == "0x1")
        assert endpoint.rests
    told = [record.message for record in caplog.records]
    assert told == ["endpoint_on_wrong_chain endpoint=a.example said=0x2"] * 2


def test_the_doctor_names_the_endpoint_of_another_chain() -> None:
    nodes = {"http://a.example": SimulatedNode(84532), "http://b.example": SimulatedNode(1)}
    network = NETWORKS["base-sepolia"]
    check = _chain_id(SimulatedRpc(nodes), network)
    assert check.status == "fail" and check.found.startswith("1 at b.example, but")
    del nodes["http://b.example"]
    assert _chain_id(SimulatedRpc(nodes), network).status == "ok"
