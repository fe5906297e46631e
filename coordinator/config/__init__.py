"""Settings from the environment or ``.env``, and the policy file; every fault at once."""

from coordinator.config.settings import (
    Settings,
    checked_settings,
    id_secret,
    load_settings,
    read_policy,
)
from coordinator.config.sources import (
    SECRET_NAMES,
    SIMULATED,
    Secrets,
    environment,
    environment_with,
)

__all__ = [
    "SECRET_NAMES",
    "SIMULATED",
    "Secrets",
    "Settings",
    "checked_settings",
    "environment",
    "environment_with",
    "id_secret",
    "load_settings",
    "read_policy",
]
