"""A copy of a policy with other values has a hash and look-ups of its own."""

from __future__ import annotations

from coordinator.domain.policy.policy import Policy
from tests.benchmarks.course import POLICY as DOCUMENT


def test_a_changed_copy_computes_anew_what_was_computed() -> None:
    policy = Policy.from_dict(DOCUMENT)
    before, zone = policy.hash, policy.zone
    organisation = policy.organisation.model_copy(update={"time_zone": "Asia/Tokyo"})
    changed = policy.model_copy(update={"organisation": organisation})
    assert changed.hash != before and changed.zone != zone
    assert policy.hash == before
