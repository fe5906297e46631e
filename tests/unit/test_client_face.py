"""The thin client has the Python API's names, arguments, values and sentences."""

from __future__ import annotations

import ast
import inspect
import pickle
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import coordinator
import coordinator_client
from coordinator.api.agent import Agent as ApiAgent
from coordinator.api.hold import Hold as ApiHold
from coordinator.api.session import Session as ApiSession
from coordinator.api.terms import CostTerms, PurchaseTerms
from coordinator.domain.limits.increase import IncreaseStatus
from coordinator.domain.purchase.lifecycle import ESCROWED, FINAL
from coordinator_client import Agent, AsyncAgent, AsyncHold, AsyncSession, words
from coordinator_client.transport import Target

_PACKAGE = Path(coordinator_client.__file__).parent
_KEY = "uec_0123456789abcdef"
# An async twin has the first; the others need a process that decides.
_NOT_OVER_HTTP = {"apurchase", "await_for", "on_service_level"} | {
    "aauthorise_x402",
    "await_payment",
    "ax402_client",
}


def _public(kind: type[Any]) -> dict[str, Any]:
    return {n: v for n, v in inspect.getmembers_static(kind) if not n.startswith("_")}


def _arguments(method: Any) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, parameter in inspect.signature(method).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            terms = PurchaseTerms if "PurchaseTerms" in str(parameter.annotation) else CostTerms
            found |= dict.fromkeys(terms.__annotations__)
        elif name != "self":
            found[name] = None
    return found


@pytest.mark.parametrize(
    ("api", "ours"),
    [(ApiAgent, Agent), (ApiHold, coordinator_client.Hold)],
)
def test_every_method_of_the_python_api_is_there_with_its_arguments(
    api: type[Any], ours: type[Any]
) -> None:
    for name, method in _public(api).items():
        if name in _NOT_OVER_HTTP:
            continue
        assert name in _public(ours), name
        assert type(method) is type(_public(ours)[name])
        if inspect.isfunction(method):
            assert _arguments(_public(ours)[name]).keys() == _arguments(method).keys(), name


def test_a_session_has_the_methods_of_the_python_apis() -> None:
    assert _public(ApiSession).keys() <= _public(coordinator_client.Session).keys()


@pytest.mark.parametrize(
    ("sync", "twin"),
    [
        (Agent, AsyncAgent),
        (coordinator_client.Hold, AsyncHold),
        (coordinator_client.Session, AsyncSession),
    ],
)
def test_the_async_twin_has_the_same_methods_as_coroutines(
    sync: type[Any], twin: type[Any]
) -> None:
    assert _public(sync).keys() == _public(twin).keys()
    for name, method in _public(sync).items():
        other = _public(twin)[name]
        if inspect.isfunction(method) and method is not other:
            # A client is made at once; its requests are awaited.
            assert inspect.iscoroutinefunction(other) or name == "x402_client", name
            ours, theirs = (inspect.signature(m).parameters for m in (method, other))
            assert list(ours.values()) == list(theirs.values()), name


@pytest.mark.parametrize(
    ("api", "ours"),
    [
        (coordinator.Status, words.Status),
        (coordinator.ReasonCode, words.ReasonCode),
        (coordinator.CostStatus, words.CostStatus),
        (IncreaseStatus, words.IncreaseStatus),
    ],
)
def test_words_are_the_same(api: Any, ours: Any) -> None:
    assert {w.name: w.value for w in api} == {w.name: w.value for w in ours}


def test_final_and_escrowed_are_the_same() -> None:
    assert {s.value for s in words.FINAL} == {s.value for s in FINAL}
    assert {s.value for s in words.ESCROWED} == {s.value for s in ESCROWED}


def test_an_unknown_word_survives_a_copy() -> None:
    word = words.Status("half_way")
    assert pickle.loads(pickle.dumps(word)) == word
    assert {word: 1}["half_way"] == 1  # type: ignore[index]


_AMOUNTS: list[object] = [
    "25.00",
    "25",
    "0.000001",
    "0",
    "1000000000000",
    "1000000000001",
    "0.0000001",
    "-1",
    "1e3",
    " 1",
    "NaN",
    "",
    "1" * 60,
    25,
    25.0,
    True,
    None,
    b"1",
    Decimal("25.10"),
    Decimal("0.0000001"),
    Decimal("-1"),
    Decimal("NaN"),
    Decimal("1e20"),
]


@pytest.mark.parametrize("amount", _AMOUNTS, ids=repr)
def test_amounts_are_read_as_the_python_api_reads_them(amount: object) -> None:
    def read(kind: Any) -> tuple[str, object]:
        try:
            made = kind(amount)
            return str(made), made.base_units
        except ValueError as fault:
            return "refused", str(fault)

    assert read(coordinator_client.Usdc) == read(coordinator.Usdc)


@pytest.mark.parametrize("amount", [25, 25.0, True, "0", "-1", "1e3", None], ids=repr)
def test_an_amount_that_is_none_is_refused_before_anything_is_sent(amount: Any) -> None:
    agent = Agent("http://127.0.0.1:9", _KEY)
    terms: Any = {"provider": "paper-api", "purpose": "Paper access", "amount": amount}
    with pytest.raises(coordinator.InvalidRequest) as api:
        coordinator.domain.inputs.positive_amount(amount)
    for ask in (
        lambda: agent.purchase(**terms),
        lambda: agent.check(**terms),
        lambda: agent.hold(amount),
        lambda: agent.record(amount),
        lambda: agent.request_increase(amount, reason="more"),
        lambda: agent.open_session("s-1", {"total_limit": amount}),
    ):
        with pytest.raises(coordinator_client.InvalidRequest) as ours:
            ask()
        assert (str(ours.value), ours.value.code) == (str(api.value), api.value.code)
        assert ours.value.money_moved is False


@pytest.mark.parametrize(
    "url",
    [
        "http://treasury.example",
        "http://10.0.0.7:8000",
        "http://127.0.0.1.example",
        "http://localhost.example",
        "ftp://treasury.example",
        "treasury.example",
        "",
        "https://",
        "https://user:word@treasury.example",
        "https://treasury.example/?key=1",
        None,
    ],
)
def test_urls_that_would_show_the_key_or_lead_nowhere_are_refused(url: Any) -> None:
    with pytest.raises(coordinator_client.ConfigurationError) as told:
        Agent(url, _KEY)
    assert "word" not in str(told.value).replace("password", "")


@pytest.mark.parametrize(
    "url",
    [
        "https://treasury.example",
        "https://treasury.example/team/",
        "http://localhost:8000",
        "http://127.0.0.1:8000",
        "http://[::1]:8000",
    ],
)
def test_other_urls_are_taken(url: str) -> None:
    assert Agent(url, _KEY).url == url.rstrip("/")


def test_plain_http_needs_a_word() -> None:
    assert Agent("http://treasury.example", _KEY, allow_http=True).url.startswith("http:")


@pytest.mark.parametrize("near", [True, False])
def test_proxies_of_the_environment_are_for_other_hosts_alone(near: bool) -> None:
    url = "http://127.0.0.1:8000" if near else "https://treasury.example"
    settings = Target(url, _KEY, allow_http=False).settings
    assert settings["trust_env"] is not near
    assert settings["follow_redirects"] is False


@pytest.mark.parametrize("key", ["0x" + "11" * 32, "", "uec_a b", "uec_ä", "uec_a\n", None])
def test_a_key_that_is_none_is_refused_and_not_told(key: Any) -> None:
    with pytest.raises(coordinator_client.ConfigurationError) as told:
        Agent("https://treasury.example", key)
    assert not key or key not in str(told.value)


def test_the_key_is_in_no_repr() -> None:
    for kind in (Agent, AsyncAgent):
        agent = kind("https://treasury.example", _KEY)
        assert _KEY not in repr(agent) + str(agent) + repr(agent._calls)


@pytest.mark.parametrize("file", sorted(_PACKAGE.glob("*.py")), ids=lambda f: f.name)
def test_the_client_imports_httpx_and_the_standard_library_alone(file: Path) -> None:
    for node in ast.walk(ast.parse(file.read_text())):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            root = name.partition(".")[0]
            assert root in {"coordinator_client", "httpx"} or root in _standard(), name


def _standard() -> frozenset[str]:
    import sys

    return sys.stdlib_module_names


def test_every_error_of_the_python_api_that_an_agent_can_meet_has_its_twin() -> None:
    told = re.findall(r"^class (\w+)\((\w+)", (_PACKAGE / "errors.py").read_text(), re.MULTILINE)
    shared = [name for name, _ in told if hasattr(coordinator, name)]
    assert len(shared) == 9
    for name in shared:
        api, ours = getattr(coordinator, name), getattr(coordinator_client, name)
        assert [k.__name__ for k in api.__mro__] == [k.__name__ for k in ours.__mro__]
        assert (api.money_moved, getattr(api, "code", "")) == (
            ours.money_moved,
            getattr(ours, "code", ""),
        )
