"""Judge whether a process of the service can do its work, check by check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from coordinator.chain.networks import NETWORKS
from coordinator.config import Settings
from coordinator.ledger.tx.figures import Figures

# An idle worker brings the books up to date every 70 seconds, or as seldom as it was told to.
_CHAIN_SECONDS: Final = 300


def chain_seconds_max(settings: Settings) -> int | None:
    """Return the age up to which the newest block counts as new.

    None on a local chain, which makes blocks only when it is asked to.
    """
    network = NETWORKS[settings.network]
    if network.local or network.simulated:
        return None
    return _CHAIN_SECONDS + 2 * int(settings.poll_seconds or 0)


@dataclass(frozen=True, slots=True)
class Readiness:
    """The checks by name, each with ``ok`` and one sentence; no secret and no address is in it."""

    checks: dict[str, dict[str, Any]]

    @property
    def ok(self) -> bool:
        """Whether every check is."""
        return all(check["ok"] for check in self.checks.values())

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {"status": "ready" if self.ok else "not_ready", "checks": self.checks}


def judge(figures: Figures | None, *, chain_seconds_max: int | None) -> Readiness:
    """Judge the figures; None for those of a database that does not answer.

    ``chain_seconds_max`` is the age up to which the newest block counts as new; None for any.
    """
    if figures is None:
        return Readiness(
            {
                "database": _check(False, "the database does not answer"),
                **_unknown("schema", "worker", "chain"),
            }
        )
    database = _check(True, "it answers")
    if not figures.has_this_schema:
        schema = _check(False, f"revision {figures.revision or 'none'} is another version's")
        return Readiness({"database": database, "schema": schema, **_unknown("worker", "chain")})
    alive = figures.worker_alive
    return Readiness(
        {
            "database": database,
            "schema": _check(True, f"revision {figures.revision}"),
            "worker": _check(alive, "its lease is alive" if alive else "no worker holds the lease"),
            "chain": _chain(figures, chain_seconds_max),
        }
    )


def _chain(figures: Figures, seconds_max: int | None) -> dict[str, Any]:
    if figures.block is None:
        return _check(False, "no block is in the books yet")
    number, at = figures.block
    age = max(0, figures.now - at)
    said = f"the newest block in the books is {age} s old"
    ok = seconds_max is None or age <= seconds_max
    return {**_check(ok, said), "block": number, "age_seconds": age}


def _check(ok: bool, detail: str) -> dict[str, Any]:
    return {"ok": ok, "detail": detail}


def _unknown(*names: str) -> dict[str, dict[str, Any]]:
    return {name: _check(False, "not known") for name in names}
