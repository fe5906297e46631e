"""The doctor: checks everything that a purchase needs, and says what to do. Never raises."""

from __future__ import annotations

from collections.abc import Mapping

from coordinator.doctor.check import Check


def run(env: Mapping[str, str] | None = None) -> list[Check]:
    """Every check, in the order in which they build on each other; reads, and writes nothing."""
    from coordinator.config import environment
    from coordinator.doctor.chain import ChainPatient
    from coordinator.doctor.local import LocalPatient

    local = LocalPatient(environment() if env is None else env)
    found = list(local.checks_before_the_chain())
    found += ChainPatient(local).checks()
    found += local.checks_of_the_database()
    found += local.checks_of_the_service()
    return found


__all__ = ["Check", "run"]
