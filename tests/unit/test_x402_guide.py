"""The guide to x402 says what the policy and the client know."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import coordinator
from coordinator.domain.policy.tables import X402
from coordinator.domain.policy.text import parse_policy
from coordinator.domain.reasons import ReasonCode
from coordinator_client import x402

_ROOT = Path(coordinator.__file__).resolve().parents[1]
_GUIDE = (_ROOT / "docs" / "x402.md").read_text()


def test_the_guides_policy_is_one() -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", _GUIDE, re.DOTALL)
    whole = '[organisation]\ntotal_limit = "100"\n' + re.sub(r"(?m)^   ", "", block)
    policy = parse_policy(whole, name="guide")
    assert policy.providers["paper-api"].hosts == ["papers.example.com", "localhost:4021"]
    assert tomllib.loads(whole)["x402"].keys() == X402.model_fields.keys()
    usual = X402()
    for name in ("per_request_limit", "per_task_limit", "per_session_limit", "unknown_payees"):
        assert getattr(policy.request_payments, name) == getattr(usual, name)


def test_every_outcome_is_in_the_guide() -> None:
    errors = {name for name in x402.__all__ if isinstance(getattr(x402, name), type)}
    told = {name for name in errors if issubclass(getattr(x402, name), Exception)}
    assert told == {name for name in told if f"| `{name}` |" in _GUIDE}
    assert len(told) == 6


def test_the_codes_of_refusals_are_codes() -> None:
    judged = _GUIDE.partition("## What is judged")[2].partition("## Outcomes")[0]
    codes = set(re.findall(r"\| `([a-z_0-9]+)`[^|]*\|$", judged, re.MULTILINE))
    assert codes - {"x402_not_payable"} <= {str(code) for code in ReasonCode}
    assert len(codes) > 3
