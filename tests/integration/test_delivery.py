"""The process that acts for a treasury delivers its notices by itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from coordinator import Coordinator
from coordinator.domain.policy.policy import Policy
from tests.integration.ledger.receiver import receiving

PROVIDER = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"


def policy(*notify: str) -> Policy:
    agent = {"per_purchase_limit": "100", "total_limit": "100", "approval_threshold": "100"}
    return Policy.from_dict(
        {
            "organisation": {"total_limit": "100"},
            "agents": {"ada": agent},
            "providers": {"paper-api": {"address": PROVIDER}},
            "alerts": {"notify": list(notify)},
        }
    )


def test_who_acts_delivers_and_is_not_held_up_by_it(tmp_path: Path) -> None:
    with receiving() as receiver:
        database = f"sqlite:///{tmp_path / 'coordinator.db'}"
        with Coordinator.from_env(
            policy=policy(receiver.url), network="simulated", database_url=database
        ) as coordinator:
            receiver.hanging = True
            ada = coordinator.agent("ada")
            terms = {"provider": "paper-api", "purpose": "a paper"}
            assert ada.purchase(amount="85.00", **terms).status == "funded"
            assert receiver.asked.acquire(timeout=60)
            assert ada.purchase(amount="10.00", **terms).status == "funded"
            assert not receiver.released.is_set()
            receiver.hanging = False
            receiver.released.set()
        assert receiver.taken[0]["type"] == "warning"


def test_a_process_that_only_decides_never_loads_the_library(tmp_path: Path) -> None:
    code = f"""
import sys
from coordinator import Coordinator, Policy
policy = Policy.from_dict({policy("json://127.0.0.1:1").document()!r})
with Coordinator.from_env(
    policy=policy, network="simulated", database_url="sqlite:///{tmp_path}/c.db", act=False
) as coordinator:
    terms = dict(provider="paper-api", amount="85.00", purpose="a paper", wait=False)
    print(coordinator.agent("ada").purchase(**terms).status.value)
    print(len(coordinator.alerts()), "apprise" in sys.modules)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.stdout.split() == ["approved", "2", "False"], ran.stderr
