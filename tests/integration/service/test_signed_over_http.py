"""Approvers decide over HTTP by signing what the service gives them to sign."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data

from tests.integration.service.simulated import AGENT, SimulatedService, simulated_service
from tests.integration.signers_of_approvers import KEYS, credential

APPROVALS = {
    "required": 1,
    "signatures": "required",
    "approvers": {name: {"credentials": [str(credential(name))]} for name in ("alice", "bob")},
}


@pytest.fixture(scope="module")
def service() -> Iterator[SimulatedService]:
    with simulated_service(approvals=APPROVALS) as made:
        yield made


@pytest.fixture
def alice(service: SimulatedService) -> httpx.Client:
    return service.client("approver")


def asked(client: httpx.Client, approval_id: str, **query: str) -> Any:
    return client.get(f"/v1/approvals/{approval_id}/statement", params=query).json()


def signed(statement: Any, name: str = "alice") -> dict[str, Any]:
    """The body's part that a wallet and this name make of a statement."""
    signable: Any = encode_typed_data(full_message=statement["typed_data"])
    made = Account.from_key(KEYS[name]).sign_message(signable)
    assert "0x" + bytes(made.message_hash).hex() == statement["hash"]
    signature = "0x" + bytes(made.signature).hex()
    return {"signature": signature, "statement": statement["statement"]}


def test_a_purchase_is_approved_by_a_signature_alone(
    service: SimulatedService, alice: httpx.Client
) -> None:
    waiting = service.buy("60.00").approval_id or ""
    statement = asked(alice, waiting)
    assert f"Approve purchase {waiting}" in statement["words"]
    path = f"/v1/approvals/{waiting}/approve"
    for body, code in (
        (None, "signature_required"),
        ({}, "signature_required"),
        (signed(statement, "bob"), "signature_invalid"),
        ({"signature": "0x"}, "signature_invalid"),
    ):
        refused = alice.post(path, json=body).json()
        assert (refused["done"], refused["reason"]["code"]) == (False, code), body
    assert alice.post(path, json={"statement": statement["statement"]}).status_code == 422
    assert alice.post(path, json={"signature": "hello"}).status_code == 422
    told = alice.post(path, json=signed(statement)).json()
    assert told["done"] and told["purchase"]["status"] == "approved"
    shown = alice.get(f"/v1/approvals/{waiting}").json()
    assert shown["background"]["provider"]["first_payment"] is True


def test_a_rejection_is_signed_with_its_reason(
    service: SimulatedService, alice: httpx.Client
) -> None:
    waiting = service.buy("60.00").approval_id or ""
    path = f"/v1/approvals/{waiting}/reject"
    other = signed(asked(alice, waiting, reason="not needed"))
    refused = alice.post(path, json={"reason": "too dear", **other}).json()
    assert refused["reason"]["code"] == "signature_invalid"
    assert "its reason is 'not needed', not 'too dear'" in refused["reason"]["message"]
    right = signed(asked(alice, waiting, reason="too dear"))
    told = alice.post(path, json={"reason": "too dear", **right}).json()
    assert told["done"] and told["purchase"]["status"] == "rejected"


def test_a_request_for_more_is_signed(service: SimulatedService, alice: httpx.Client) -> None:
    more = service.coordinator.agent(AGENT).request_increase("100.00", reason="papers").id
    path = f"/v1/increases/{more}/approve"
    assert alice.post(path).json()["reason"]["code"] == "signature_required"
    assert alice.post(path, json=signed(asked(alice, more))).json()["status"] == "granted"


def test_a_proposal_is_signed(service: SimulatedService, alice: httpx.Client) -> None:
    coordinator = service.coordinator
    policy = coordinator.wiring.policies.current()
    draft = coordinator.draft_policy(policy, by="olga", reason="the same again").id
    statement = asked(alice, draft)
    path = f"/v1/proposals/{draft}/approve"
    assert alice.post(path).json()["reason"]["code"] == "signature_required"
    assert alice.post(path, json=signed(statement)).json()["proposal"]["status"] == "approved"


def test_a_dispute_is_signed(service: SimulatedService, alice: httpx.Client) -> None:
    coordinator = service.coordinator
    bought = service.buy("5.00")
    coordinator.simulation.deliver(bought)
    assert coordinator.wait_for(bought.id, until="delivered").status == "delivered"
    path = f"/v1/purchases/{bought.id}/dispute"
    unsigned = alice.post(path, json={"reason": "it is empty"}).json()
    assert unsigned["reason"]["code"] == "signature_required"
    statement = alice.get(f"{path}/statement", params={"reason": "it is empty"}).json()
    told = alice.post(path, json={"reason": "it is empty", **signed(statement)}).json()
    assert told["done"], told["reason"]
