"""The thin client against a real service: the same values, and one purchase for one call."""

from __future__ import annotations

import logging
import re
import secrets
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from coordinator_client import (
    Agent,
    ConfigurationError,
    CoordinatorError,
    Forbidden,
    OutcomeUnknown,
    TooManyRequests,
    Unauthenticated,
    UnknownId,
)
from tests.integration.local_chain import LocalChain
from tests.integration.service import lossy_proxy as losses
from tests.integration.service.faces import ASYNC, CLIENT, NAME, PYTHON, opened
from tests.integration.service.lossy_proxy import LossyProxy
from tests.integration.service.processes import Service, client
from tests.integration.service.story import PAPERS, story
from tests.integration.stores import SqliteStore

_CLIENT = Path(__file__).resolve().parents[3] / "client"


class Running(NamedTuple):
    """A service with a worker and a server; ``token`` is research-agent's."""

    service: Service
    url: str
    token: str


@pytest.fixture(scope="module")
def running(
    _deployed_chain: LocalChain, _migrated_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("client")
    store = SqliteStore(folder, _migrated_file)
    service = Service(_deployed_chain, folder, store.migrated(store.url()))
    _deployed_chain.fund(service.treasury, usdc="1000", wei=10**17)
    try:
        token = service.key("agent", NAME)
        service.worker()
        yield Running(service, service.serve()[1], token)
    finally:
        service.close()
        _deployed_chain.reset()


@pytest.fixture
def proxy(running: Running) -> Iterator[LossyProxy]:
    with LossyProxy(running.url).serving() as made:
        yield made


@pytest.fixture(params=[CLIENT, ASYNC])
def lossy(request: pytest.FixtureRequest, running: Running, proxy: LossyProxy) -> Iterator[Any]:
    """A client behind the proxy that gives up soon."""
    service, _, token = running
    with opened(request.param, service, proxy.url, token, timeout_seconds=2) as agent:
        yield agent


@pytest.fixture(scope="module")
def story_in_python(running: Running) -> dict[str, Any]:
    service, url, token = running
    with opened(PYTHON, service, url, token) as agent:
        return story(agent, secrets.token_hex(4))


@pytest.mark.parametrize("face", [CLIENT, ASYNC])
def test_a_program_is_told_the_same_over_http_as_in_python(
    running: Running, face: str, story_in_python: dict[str, Any]
) -> None:
    service, url, token = running
    with opened(face, service, url, token) as agent:
        told = story(agent, secrets.token_hex(4))
    assert told["bought"][:2] == ("funded", True)
    assert told["denied"][3] == "per_purchase_limit"
    assert told["asked"][:2] == ("awaiting_approval", True)
    assert told == story_in_python


def _bought_for(running: Running, purpose: str) -> list[dict[str, Any]]:
    """Every purchase with this purpose, as the service lists them without the client."""
    with client(running.url, running.token) as http:
        found = http.get("/v1/purchases", params={"limit": 500}).json()["items"]
    return [purchase for purchase in found if purchase["purpose"] == purpose]


@pytest.mark.each_choice
@pytest.mark.parametrize("key", [True, False], ids=["own key", "no key"])
@pytest.mark.parametrize("loss", losses.LOSSES)
def test_a_lost_answer_makes_one_purchase_still(
    running: Running, proxy: LossyProxy, lossy: Any, loss: str, key: bool
) -> None:
    purpose = f"Paper {secrets.token_hex(4)}"
    proxy.lose(loss, times=1)

    bought = lossy.purchase(
        provider="paper-api",
        amount="1.00",
        purpose=purpose,
        idempotency_key=purpose if key else None,
        wait=False,
    )

    assert proxy.lost == 1
    (kept,) = _bought_for(running, purpose)
    assert kept["purchase_id"] == bought.id
    assert {sent for _, _, sent in proxy.passed} == {bought.idempotency_key}
    assert bought.idempotency_key == (purpose if key else kept["idempotency_key"])


def test_a_purchase_is_waited_for_although_answers_are_lost(
    running: Running, proxy: LossyProxy, lossy: Any
) -> None:
    purpose = f"Paper {secrets.token_hex(4)}"
    proxy.lose(losses.SWALLOW, times=3)
    bought = lossy.purchase(provider="paper-api", amount="1.00", purpose=purpose)
    assert bought.status == "funded"
    assert proxy.lost == 3
    (kept,) = _bought_for(running, purpose)
    assert kept["escrow_id"] == bought.escrow_id


@pytest.mark.each_choice
@pytest.mark.parametrize("loss", [losses.SWALLOW, losses.BAD_GATEWAY, losses.BUSY_AFTER])
def test_an_outcome_that_no_answer_tells_is_unknown_and_can_be_asked_for(
    running: Running, proxy: LossyProxy, lossy: Any, loss: str
) -> None:
    purpose = f"Paper {secrets.token_hex(4)}"
    terms = {"provider": "paper-api", "amount": "1.00", "purpose": purpose, "wait": False}
    proxy.lose(loss, times=None)
    with pytest.raises(OutcomeUnknown) as unknown:
        lossy.purchase(**terms)
    assert unknown.value.money_moved is None
    key = unknown.value.idempotency_key
    assert {sent for _, _, sent in proxy.passed} == {key}

    proxy.heal()
    found = lossy.get(idempotency_key=key)
    assert lossy.purchase(**terms, idempotency_key=key).id == found.id
    assert [p["purchase_id"] for p in _bought_for(running, purpose)] == [found.id]


@pytest.mark.each_choice
@pytest.mark.parametrize("loss", [losses.CUT, losses.TOO_MANY])
def test_what_was_never_asked_moved_nothing(
    running: Running, proxy: LossyProxy, lossy: Any, loss: str
) -> None:
    purpose = f"Paper {secrets.token_hex(4)}"
    proxy.lose(loss, times=None)
    with pytest.raises(CoordinatorError) as told:
        lossy.purchase(provider="paper-api", amount="1.00", purpose=purpose, wait=False)
    # A connection that was cut may have been cut on the way back.
    kind, moved = (OutcomeUnknown, None) if loss == losses.CUT else (TooManyRequests, False)
    assert (type(told.value), told.value.money_moved) == (kind, moved)
    assert _bought_for(running, purpose) == []


def test_lost_answers_hold_record_open_and_ask_once(
    running: Running, proxy: LossyProxy, lossy: Any
) -> None:
    mark = secrets.token_hex(4)

    def losing() -> LossyProxy:
        proxy.lose(losses.SWALLOW, times=1)
        return proxy

    session = losing() and lossy.open_session(mark, {"total_limit": "9"})
    hold = losing() and lossy.hold("1.00", session=mark)
    losing() and lossy.record("2.00", session=mark)
    assert (losing() and hold.post("0.50")).status == "posted"
    more = losing() and lossy.request_increase("1", reason=mark, window="total")
    report = losing() and session.report()
    assert (losing() and session.close()).status == "closed"

    assert report["off_chain"] == "2.50"
    assert len(report["costs"]) == 2
    with client(running.url, running.token) as http:
        asked = http.get("/v1/increases").json()["items"]
    assert [one["increase_id"] for one in asked if one["why"] == mark] == [more.id]
    assert proxy.lost == 7


def test_keys_that_may_not_are_told_apart(running: Running) -> None:
    service, url, _ = running
    auditor = service.key("auditor", "eve")
    other = service.key("agent", "data-agent")
    with Agent(url, running.token) as mine:
        bought = mine.purchase(**PAPERS, amount="1.00", wait=False)
    with Agent(url, "uec_" + "0" * 40) as nobody, pytest.raises(Unauthenticated) as told:
        nobody.purchase(**PAPERS, amount="1.00")
    assert told.value.money_moved is False
    with Agent(url, auditor) as reader, pytest.raises(Forbidden):
        reader.purchase(**PAPERS, amount="1.00")
    with Agent(url, other) as stranger, pytest.raises(UnknownId):
        stranger.get(bought.id)


def test_the_key_is_in_no_log_and_no_error(
    running: Running, proxy: LossyProxy, caplog: pytest.LogCaptureFixture
) -> None:
    _, _, token = running
    caplog.set_level(logging.DEBUG)
    with Agent(proxy.url, token, timeout_seconds=1) as agent:
        agent.purchase(**PAPERS, amount="1.00")
        proxy.lose(losses.SWALLOW, times=None)
        with pytest.raises(OutcomeUnknown) as told:
            agent.purchase(**PAPERS, amount="1.00", wait=False)
    shown = "".join(traceback.TracebackException.from_exception(told.value).format())
    assert "request_repeated path=/v1/purchases" in caplog.text
    assert len(caplog.records) > 20
    assert token not in caplog.text + shown + repr(agent)


def test_a_redirect_is_not_followed(running: Running, proxy: LossyProxy) -> None:
    with LossyProxy(running.url).serving() as stranger:
        proxy.elsewhere = stranger.url
        proxy.lose(losses.REDIRECT, times=None)
        with (
            Agent(proxy.url, running.token) as agent,
            pytest.raises(ConfigurationError) as told,
        ):
            agent.purchase(**PAPERS, amount="1.00")
        assert "redirects" in str(told.value)
        assert told.value.money_moved is False
        assert stranger.passed == []


def test_proxies_of_the_environment_do_not_see_what_stays_on_this_host(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with httpx.Client() as plain, pytest.raises(httpx.ConnectError):
        plain.get(f"{running.url}/healthz")
    with Agent(running.url, running.token) as agent:
        assert agent.id == NAME


def test_the_examples_of_its_readme_run(running: Running, tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (_CLIENT / "README.md").read_text(), re.DOTALL)
    said = [
        subprocess.run(
            [sys.executable, "-c", block],
            cwd=tmp_path,
            env={
                "PYTHONPATH": str(_CLIENT),
                "TREASURY_URL": running.url,
                "TREASURY_KEY": running.token,
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout
        for block in blocks
    ]
    assert re.fullmatch(r"funded 0x\w+\n", said[0])
    assert said[1:] == ["research-agent full\n"]


def test_a_closed_agent_says_so(running: Running) -> None:
    agent = Agent(running.url, running.token)
    agent.close()
    with pytest.raises(CoordinatorError, match="closed"):
        agent.limits()
