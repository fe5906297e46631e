"""Whatever a public method is given, what is wrong is told in a sentence and changes nothing."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from coordinator import Agent, Coordinator, CoordinatorError, Hold, Session, Sharing, Usdc
from coordinator.domain.windows import Window
from tests.integration.ledger.conftest import Opener
from tests.integration.ledger.deciding import contents

PURCHASE: dict[str, Any] = {"provider": "paper-api", "amount": "1.00", "purpose": "a paper"}
SHARING = Sharing("shared", Window("daily"), Usdc("1"), {}, {})
# What a call needs besides the argument that is at fault.
GOOD: dict[str, Any] = {
    **PURCHASE,
    "agent_id": "ada",
    "approver": "alice",
    "by": "alice",
    "reason": "a test",
    "scope": "agent:ada",
    "window": "daily",
    "session": "s",
    "task": "t",
    "pool": "shared",
    "policy": "policy.toml",
    "days": 1,
    "since": 1,
    "until": 2,
    "idempotency_key": "k",
    "timeout_seconds": 0.01,
    "wait": False,
    "callback": print,
    "path": "copy.db",
    "to": "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
    "limits": {"total_limit": "1"},
    "sharing": SHARING,
    "answer": {"x402Version": 2, "accepts": []},
    "url": "https://papers.example/7",
}
BAD: tuple[Any, ...] = (
    None,
    5,
    -1,
    True,
    1.5,
    float("nan"),
    b"bytes",
    "",
    "x" * 100_000,
    "\x00",
    "\ud800",
    ["x"],
    {"x": 1},
    object(),
    2**70,
)
# Of these any object is right: what is shown to people, or run in our own threads.
_ANY = {("Coordinator", "off_loop"), ("Coordinator", "observe")}
_CLASSES = (Coordinator, Agent, Session, Hold)


def methods() -> Iterator[tuple[type, str, str]]:
    """Each class with each public method and each of its parameters."""
    for owner in _CLASSES:
        for name, function in inspect.getmembers(owner, inspect.isfunction):
            if name.startswith("_") or (owner.__name__, name) in _ANY:
                continue
            for parameter in _parameters(function):
                yield owner, name, parameter


def _parameters(function: Callable[..., Any]) -> dict[str, Any]:
    """Parameters by name with what may be left out of them (inspect's ``empty`` if nothing)."""
    found: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            terms = get_args(get_type_hints(function)[name])[0]
            found |= {
                key: inspect.Parameter.empty if key in terms.__required_keys__ else None
                for key in terms.__annotations__
            }
        elif name != "self":
            found[name] = parameter.default
    return found


def _needed(owner: type, name: str) -> dict[str, Any]:
    """Arguments of a call that does not wait."""
    parameters = _parameters(getattr(owner, name))
    needed = {k: GOOD.get(k, "x") for k, v in parameters.items() if v is inspect.Parameter.empty}
    quick = {"wait": False, "timeout_seconds": 0.01}
    return needed | {k: v for k, v in quick.items() if k in parameters}


def _call(method: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """Give the arguments as the signature takes them, and wait for what is awaited."""
    positional, named = [], dict(arguments)
    for name, parameter in inspect.signature(method).parameters.items():
        if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
            positional.append(named.pop(name))
    answer = method(*positional, **named)
    return asyncio.run(answer) if inspect.isawaitable(answer) else answer


@pytest.fixture
def held(opener: Opener) -> Iterable[dict[type, Any]]:
    """One object of each class, on a ledger where something has happened."""
    changes = {"tasks": {"default": {"total_limit": "50"}}, "sessions": {"default": {}}}
    coordinator = opener(changes)
    agent = coordinator.agent("ada")
    session = coordinator.open_session("s", "ada")
    hold = agent.hold("1.00")
    agent.purchase(**PURCHASE, wait=False)
    return {Coordinator: coordinator, Agent: agent, Session: session, Hold: hold}


@pytest.mark.parametrize(("owner", "name", "parameter"), list(methods()), ids=str)
def test_a_wrong_argument_is_refused_in_a_sentence_and_changes_nothing(
    held: dict[type, Any],
    path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    owner: type,
    name: str,
    parameter: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    method = getattr(held[owner], name)
    needed = _needed(owner, name)
    before = contents(path)
    wrong = []
    for bad in BAD:
        if parameter == "timeout_seconds" and type(bad) in (int, float) and bad == bad:
            continue  # It would be waited for.
        try:
            _call(method, {**needed, parameter: bad})
        except CoordinatorError as fault:
            if contents(path) != before:
                wrong.append(f"{bad!r:.40}: {fault}, and something was written")
            elif not str(fault).strip() or "\n" in str(fault):
                wrong.append(f"{bad!r:.40}: {fault!s:.80} is no sentence")
        except Exception as fault:
            wrong.append(f"{bad!r:.40}: {type(fault).__name__}: {fault!s:.120}")
        before = contents(path)
    assert wrong == []


@pytest.mark.parametrize(
    ("owner", "name"), sorted({(o, n) for o, n, _ in methods()}, key=str), ids=str
)
def test_a_misspelt_argument_is_refused_by_name(
    held: dict[type, Any], path: Path, owner: type, name: str
) -> None:
    before = contents(path)
    with pytest.raises((TypeError, CoordinatorError), match="amuont"):
        _call(getattr(held[owner], name), {**_needed(owner, name), "amuont": 1})
    assert contents(path) == before
