"""The doctor's checks of the service: what it needs to run, and whether agents reach it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from typing import Final
from urllib.parse import urlsplit

import requests

from coordinator.doctor.check import Check, guarded
from coordinator.domain.access.urls import LOOPBACK

_PACKAGES: Final = ("fastapi", "limits", "prometheus_client", "structlog", "uvicorn")
_INSTALL: Final = "pip install 'usdc-escrow-coordinator[server]'"
_SECONDS: Final = 3


def checks_of_the_service(public_url: str) -> Iterator[Check]:
    """Yield whether the extra is installed, and whether a service answers at the public URL."""
    yield guarded("server", "configuration", _installed)
    yield guarded("public URL", "configuration", partial(_answers, public_url))


def _installed() -> Check:
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        return Check("server", "fail", f"{', '.join(missing)} not installed", _INSTALL)
    return Check("server", "ok", "what coordinator serve needs is installed")


def _answers(url: str) -> Check:
    with requests.Session() as session:
        # A proxy of the environment has no business between us and this machine.
        session.trust_env = urlsplit(url).hostname not in LOOPBACK
        try:
            answer = session.get(f"{url}/v1/openapi.json", timeout=_SECONDS, allow_redirects=False)
        except requests.RequestException as fault:
            found = f"{url} does not answer ({type(fault).__name__})"
            return Check("public URL", "warn", found, "coordinator serve, and the proxy before it")
    if answer.status_code == 421:
        found = f"{url} answers, for another COORDINATOR_PUBLIC_URL"
        action = "set the same COORDINATOR_PUBLIC_URL where it is served"
        return Check("public URL", "fail", found, action)
    if answer.status_code != 200 or '"USDC escrow coordinator"' not in answer.text[:2_000]:
        found = f"{url} answers {answer.status_code}, and not as this service"
        return Check("public URL", "fail", found, "correct COORDINATOR_PUBLIC_URL or the proxy")
    return Check("public URL", "ok", f"{url} is this service")
