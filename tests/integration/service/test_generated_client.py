"""A client generated from the service's OpenAPI buys and is denied, in a process of its own."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.integration.service.processes import Service, client

_ROOT = Path(__file__).resolve().parents[3]
_BIN = _ROOT / ".venv-generator" / "bin"
_PROGRAM = """
import json, sys

from treasury import AuthenticatedClient
from treasury.api.costs import hold_cost, post_hold
from treasury.api.limits import limits
from treasury.api.purchases import check_purchase, get_purchase, list_purchases, request_purchase
from treasury.models import (
    Actual, HoldTerms, Problem, PurchaseTerms, RequestPurchaseWaitType0, Status,
)

url, token = sys.argv[1:]
client = AuthenticatedClient(url, token, timeout=60)


def buy(key, amount, **more):
    terms = PurchaseTerms(provider="paper-api", amount=amount, purpose="Paper access", **more)
    return request_purchase.sync(
        client=client, body=terms, idempotency_key=key,
        wait=RequestPurchaseWaitType0.FUNDED, timeout=30,
    )


bought = buy("papers-1", "25.00", service="papers")
assert bought.status is Status.FUNDED, bought
same = get_purchase.sync(bought.purchase_id, client=client)
assert same.escrow_id == bought.escrow_id
denied = buy("papers-2", "1500.00")
conflict = buy("papers-1", "26.00", service="papers")
assert isinstance(conflict, Problem), conflict
terms = PurchaseTerms(provider="paper-api", amount="60.00", purpose="Paper access")
judged = check_purchase.sync(client=client, body=terms)
held = hold_cost.sync(client=client, body=HoldTerms(amount="1.00"), idempotency_key="call-1")
posted = post_hold.sync(held.cost_id, client=client, body=Actual(amount="0.40"))
listed = list_purchases.sync(client=client)
print(json.dumps({
    "bought": [bought.status.value, bought.amount, bought.escrow_id],
    "denied": [denied.status.value, denied.reason.code.value],
    "conflict": [conflict.status, conflict.code, conflict.money_moved],
    "judged": [judged.outcome.value, judged.required],
    "posted": [posted.status.value, posted.posted],
    "listed": [item.purchase_id for item in listed.items],
    "limits": [state.scope for state in limits.sync(client=client).items],
    "id": bought.purchase_id,
}))
"""


def _run(*command: str | Path, folder: Path, **environment: str) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env={"PATH": f"{_BIN}:/usr/bin:/bin", "HOME": str(folder), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_generated_client_buys_and_is_denied(service: Service, tmp_path: Path) -> None:
    assert _BIN.exists(), "there is no .venv-generator: run scripts/setup --generator"
    token = service.key("agent", "research-agent")
    service.worker()
    _, url = service.serve()
    with client(url) as http:
        described: dict[str, Any] = http.get("/v1/openapi.json").json()
    assert described["openapi"].startswith("3.1")
    (tmp_path / "openapi.json").write_text(json.dumps(described))
    _run(
        *("openapi-python-client", "generate", "--path", "openapi.json", "--meta", "none"),
        *("--output-path", "treasury", "--fail-on-warning"),
        folder=tmp_path,
    )

    said = _run(_BIN / "python", "-c", _PROGRAM, url, token, folder=tmp_path)

    told = json.loads(said)
    bought = service.run("purchase", "show", told["id"])
    assert told["bought"] == ["funded", "25.00", bought["escrow_id"]]
    assert told["denied"] == ["denied", "per_purchase_limit"]
    assert told["conflict"] == [409, "idempotency_conflict", False]
    assert told["judged"] == ["awaiting_approval", 1]
    assert told["posted"] == ["posted", "0.40"]
    assert len(told["listed"]) == 2
    assert told["limits"][0] == "organisation"
