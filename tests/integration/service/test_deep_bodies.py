"""No body, from whomever, ends a server process."""

from __future__ import annotations

import httpx
import pytest

from coordinator.server.bodies import BODY_BYTES_MAX
from tests.integration.service.processes import Service

JSON = {"content-type": "application/json"}
_ARRAYS = BODY_BYTES_MAX // 2 - 8


@pytest.mark.parametrize(
    "body",
    ["[" * _ARRAYS + "]" * _ARRAYS, '{"":' * 12_000 + "1" + "}" * 12_000],
    ids=["arrays", "objects"],
)
def test_a_deep_body_of_a_stranger_ends_no_server(service: Service, body: str) -> None:
    process, url = service.serve()  # without the treasury's key
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as stranger:  # without an API key
        try:
            answered = stranger.post("/v1/purchases", content=body, headers=JSON).status_code
        except httpx.HTTPError as fault:
            answered = type(fault).__name__
    if answered not in (400, 401):
        process.wait(20)
    assert process.poll() is None, f"the server is gone: {process.returncode} ({answered})"
    assert answered in (400, 401)
