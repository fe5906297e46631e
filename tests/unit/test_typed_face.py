"""The public face is typed: names, terms, examples, and what others make of the results."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from pydantic import TypeAdapter

import coordinator
from coordinator import Answer, Decision, LimitState, Purchase, Reason, ReasonCode, Status, Usdc
from coordinator.domain import errors
from coordinator.domain.limits.limits import ORGANISATION, Limit, Usage
from coordinator.domain.windows import Window

_ROOT = Path(coordinator.__file__).resolve().parents[1]
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What stands around an example that shows only the lines that matter.
_AROUND = """
from typing import Any
from coordinator import Agent, Coordinator

agent: Agent
coordinator: Coordinator
model: Any
prompt: str
"""
_MISSPELT = """
from coordinator import Agent, Usdc

async def ask(agent: Agent) -> None:
    agent.check(provider="p", amout="1", purpose="x")
    agent.hold("1", categroy="api")
    agent.record("1", categroy="api")
    agent.check_hold("1", categroy="api")
    await agent.apurchase(provider="p", amuont="1", purpose="x")
    await agent.await_for("pur_1", untill="funded")
    agent.purchase(provider="p", amount=1.0, purpose="x")
    agent.check(provider="p", amount=Usdc("1"))
"""


def _mypy(*files: Path | str) -> tuple[int, str]:
    ran = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", *map(str, files)],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return ran.returncode, ran.stdout + ran.stderr


def test_examples_of_the_documentation_pass_the_type_checker_and_misspelt_terms_do_not(
    tmp_path: Path,
) -> None:
    examples = []
    for source in (_ROOT / "README.md", *sorted((_ROOT / "docs").rglob("*.md"))):
        for number, block in enumerate(_BLOCK.findall(source.read_text())):
            examples.append(tmp_path / f"{source.stem}_{number}.py".lower().replace("-", "_"))
            examples[-1].write_text(block if "import " in block else _AROUND + block)
    assert len(examples) >= 4
    misspelt = tmp_path / "misspelt.py"
    misspelt.write_text(_MISSPELT)

    # Frameworks that examples use are no part of this environment.
    _, said = _mypy("--disable-error-code=import-not-found", *examples, misspelt)

    errors = re.findall(r"(\w+)\.py:(\d+): error", said)
    # Each of the lines with a mistake, and no line of an example.
    wrong = [n for n, line in enumerate(_MISSPELT.splitlines(), 1) if "agent." in line]
    assert sorted({(name, int(line)) for name, line in errors}) == [
        ("misspelt", line) for line in wrong
    ], said


def test_every_public_name_is_there() -> None:
    for name in coordinator.__all__:
        assert getattr(coordinator, name).__name__ == name
    assert {"ChainUnavailable", "Decision", "LimitState", "PendingApproval"} <= {
        *coordinator.__all__
    }


REASON = Reason(ReasonCode.DAILY_LIMIT, "ada may spend 5.00 USDC a day")
LIMIT = LimitState(
    Limit(ORGANISATION, Window.DAILY, Usdc("5")), Usage.of(Usdc("2"), Usdc("4")), 86_400, True
)


def purchase() -> Purchase:
    absent = dict.fromkeys(
        ("service", "category", "task", "session", "escrow_id", "approval_id", "deadline")
    )
    return Purchase(
        **absent,  # type: ignore[arg-type]
        id="pur_1",
        status=Status.DENIED,
        agent="ada",
        provider="0x" + "5a" * 20,
        provider_name="paper-api",
        amount=Usdc("5"),
        purpose="a paper",
        idempotency_key="k",
        escrow_key="0x00",
        created_at=0,
        updated_at=0,
        window_ends=None,
        settle="after_window",
        policy_hash="00",
        reason=REASON,
        limits=(LIMIT,),
    )


DECISION = Decision(Status.DENIED, (REASON,), (LIMIT,), (), "0x", "paper-api", None, None)


@pytest.mark.parametrize(
    "result",
    [purchase(), Answer(False, purchase(), REASON), DECISION, LIMIT, REASON],
    ids=lambda result: type(result).__name__,
)
def test_a_result_is_the_same_json_from_pydantic_and_from_the_command_line(
    result: Purchase | Answer | Decision | LimitState | Reason,
) -> None:
    adapter = TypeAdapter(type(result))

    assert adapter.validate_python(result) is result
    assert json.loads(adapter.dump_json(result)) == json.loads(json.dumps(result.as_dict()))
    several = TypeAdapter(list[type(result)])  # type: ignore[misc]
    assert several.dump_python([result], mode="json") == [adapter.dump_python(result, mode="json")]
    for mode in ("validation", "serialization"):
        assert adapter.json_schema(mode=mode)["type"] == "object"


def test_a_result_is_never_made_of_a_dict_by_pydantic() -> None:
    with pytest.raises(ValueError, match="instance of Purchase"):
        TypeAdapter(Purchase).validate_python(purchase().as_dict())


def test_a_reason_reads_as_its_sentence() -> None:
    assert str(REASON) == f"{REASON}" == REASON.message


def _named() -> set[str]:
    """Every type of ours that an annotation of a public method or property names."""
    found = set()
    for name in coordinator.__all__:
        owner = getattr(coordinator, name)
        for base in owner.__mro__ if inspect.isclass(owner) else ():
            for member, value in vars(base).items():
                function = getattr(value, "fget", None) or getattr(value, "__func__", value)
                if inspect.isfunction(function) and not member.startswith("_"):
                    shown = " ".join(map(str, function.__annotations__.values()))
                    found |= {
                        word
                        for word in re.findall(r"\b[A-Z]\w+", shown)
                        if _is_ours(sys.modules[function.__module__], word)
                    }
    return found


def _is_ours(module: ModuleType, name: str) -> bool:
    value = getattr(module, name, None)
    return inspect.isclass(value) and value.__module__.startswith("coordinator.")


def _errors() -> set[str]:
    return {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, coordinator.CoordinatorError)
    }


# Parts that public methods take or give, and nobody has to name.
_PARTS = {"Wiring", "Runtime", "Simulation", "Lease", "PurchaseTerms", "CostTerms", "WaitTerms"}
_PARTS |= {"Run", "Terms", "Calendar", "AgentPolicy", "Provider", "Fault", "X402", "Domain"}
# Raised inside and never by a public method, or only as the error that it is a kind of.
_INSIDE = {"CommitUnknown", "LeaseLost", "ImpossibleState", "SignerUnavailable"}


def test_what_public_methods_name_and_raise_is_imported_from_the_root() -> None:
    assert _named() - _PARTS <= set(coordinator.__all__)
    assert _errors() - _INSIDE <= set(coordinator.__all__)


@pytest.mark.parametrize("name", coordinator.__all__)
def test_every_result_is_what_pydantic_and_fastapi_can_return(name: str) -> None:
    item = getattr(coordinator, name)
    if hasattr(item, "as_dict") or item is coordinator.Used:
        assert TypeAdapter(item).json_schema(mode="serialization")["type"] in ("object", "array")
