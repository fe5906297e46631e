"""One row of the doctor's findings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import urlsplit

Status = Literal["ok", "warn", "fail"]
Area = Literal["configuration", "chain"]
NOT_CHECKED: Final = "not checked"


START_ANVIL: Final = "anvil --silent --chain-id 84532 --block-time 1 &"


def start_anvil(urls: str) -> str | None:
    """The command that starts the local chain of these endpoints; None if it isn't here."""
    # The command line shows checks, and starts before any setting is read.
    from coordinator.domain.access.urls import LOOPBACK

    try:
        first = urlsplit(urls.partition(",")[0].strip())
        port = first.port
    except ValueError:
        return None
    if first.hostname not in LOOPBACK:
        return None
    elsewhere = f" --port {port} &" if port not in (None, 8545) else " &"
    return START_ANVIL.removesuffix(" &") + elsewhere


@dataclass(frozen=True, slots=True)
class Check:
    """One check of the doctor: its status, what was found, and what to do about it."""

    name: str
    status: Status
    found: str
    action: str | None = None
    area: Area = "configuration"

    def as_dict(self) -> dict[str, Any]:
        return {
            "check": self.name,
            "status": self.status,
            "found": self.found,
            "action": self.action,
            "area": self.area,
        }


def guarded(name: str, area: Area, look: Callable[[], Check]) -> Check:
    """The check's row; whatever it raises becomes a failed one."""
    from coordinator.domain.errors import ChainUnavailable, CoordinatorError

    try:
        return look()
    except ChainUnavailable as fault:
        return Check(name, "fail", str(fault), "see the endpoint's row", "chain")
    except CoordinatorError as fault:
        return Check(name, "fail", str(fault).replace("\n", "; "), None, area)
    except Exception as fault:
        return Check(name, "fail", f"{type(fault).__name__}: {fault}", None, area)


def skipped(name: str, why: str, area: Area = "configuration") -> Check:
    """A row for what could not be looked at because of another row."""
    return Check(name, "warn", f"{NOT_CHECKED}: {why}", None, area)
