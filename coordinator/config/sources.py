"""Sources of settings and secrets: the environment, ``.env``, and files of secrets."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from dotenv import dotenv_values

from coordinator.domain.errors import ConfigurationError
from coordinator.domain.plain_text import decode_file

log = logging.getLogger(__name__)

PREFIX: Final = "COORDINATOR_"
# The network of a process's own chain in memory, for tests.
SIMULATED: Final = "simulated"
SECRET_NAMES: Final = (
    "TREASURY_PRIVATE_KEY",
    "COORDINATOR_ID_SECRET",
    "COORDINATOR_KEYSTORE_PASSWORD",
    "COORDINATOR_KEYSTORE_NEW_PASSWORD",
    "COORDINATOR_PKCS11_PIN",
    "COORDINATOR_APPROVER_PASSWORD",
    "COORDINATOR_HOST_KEY",
)
# What people choose may begin and end with a quote.
_CHOSEN: Final = (
    "COORDINATOR_KEYSTORE_PASSWORD",
    "COORDINATOR_KEYSTORE_NEW_PASSWORD",
    "COORDINATOR_PKCS11_PIN",
    "COORDINATOR_APPROVER_PASSWORD",
)


class Secrets(Mapping[str, str]):
    """Secrets by name: the environment, then ``.env``; each also as a file in ``NAME_FILE``."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def __repr__(self) -> str:
        return "Secrets(…)"

    def __getitem__(self, name: str) -> str:
        if value := self._environment.get(name):
            return value
        # The path is not repeated in errors: the secret itself may have been put there.
        if path := self._environment.get(f"{name}_FILE"):
            try:
                text = decode_file(Path(path).expanduser().read_bytes()).strip()
            except OSError as fault:
                raise ConfigurationError(f"{name}_FILE can't be read: {fault.strerror}") from None
            except ValueError as fault:
                raise ConfigurationError(f"the file of {name}_FILE {fault}") from None
            if not text:
                raise ConfigurationError(f"the file of {name}_FILE is empty")
            return text
        raise KeyError(name)

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(SECRET_NAMES)

    def __len__(self) -> int:
        return len(SECRET_NAMES)


def environment(env_file: Path | None = None) -> dict[str, str]:
    """Return the process's environment over the values of ``.env`` (or ``env_file``).

    ConfigurationError when an ``env_file`` was named and there is none.
    """
    if env_file is not None and not env_file.is_file():
        raise ConfigurationError(f"there is no settings file {env_file}")
    path = env_file or Path(".env")
    values = _read_env_file(path) if path.is_file() else {}
    return {**values, **_without_quotes({k: v for k, v in os.environ.items() if v})}


def _read_env_file(path: Path) -> dict[str, str]:
    """Values as they are written: ``${NAME}`` stands for itself, as passwords may hold it.

    ConfigurationError where a setting seems to mean a variable, or the file is not text.
    """
    try:
        text = decode_file(path.read_bytes())
    except OSError as fault:
        raise ConfigurationError(f"{path} can't be read: {fault.strerror}") from None
    except ValueError as fault:
        raise ConfigurationError(f"{path} {fault}") from None
    values = dotenv_values(stream=io.StringIO(text), interpolate=False)
    meant = [
        f"{name} in {path} holds ${{…}}, and variables are not filled in: write the value out"
        for name, value in values.items()
        if value and "${" in value and name.startswith(PREFIX) and name not in SECRET_NAMES
    ]
    if meant:
        raise ConfigurationError(*meant)
    return {name: value for name, value in values.items() if value}


def _without_quotes(env: dict[str, str]) -> dict[str, str]:
    """Our settings without the quotes that Docker's --env-file keeps; a password keeps its own."""
    for name, value in env.items():
        ours = name.startswith(PREFIX) or name in SECRET_NAMES
        quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
        if ours and quoted and name not in _CHOSEN:
            log.warning("quotes_removed name=%s: Docker's --env-file keeps quotes", name)
            env[name] = value[1:-1]
    return env


def environment_with(given: Mapping[str, str], file: Path | None = None) -> dict[str, str]:
    """Return the environment and ``.env`` with the settings ``given``.

    A simulated network goes by what was given alone, and by nothing of a real treasury's.
    """
    if given.get("COORDINATOR_NETWORK") == SIMULATED:
        return dict(given)
    env = environment(file) | dict(given)
    if env.get("COORDINATOR_NETWORK") != SIMULATED:
        return env
    ignored = sorted(
        name
        for name in set(env) - set(given)
        if name in SECRET_NAMES or (name.startswith(PREFIX) and name != "COORDINATOR_NETWORK")
    )
    if ignored:
        log.warning("settings_ignored network=simulated names=%s", ",".join(ignored))
    return {"COORDINATOR_NETWORK": SIMULATED, **given}
