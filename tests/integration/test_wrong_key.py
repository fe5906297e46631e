"""A key that can't sign is told before anything is held."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from eth_account import Account

from coordinator import Coordinator
from coordinator.chain.signers.opening import load_signer
from coordinator.domain.errors import ConfigurationError
from coordinator.domain.usdc import ZERO
from tests.integration.stores import on_either
from tests.integration.world import AGENT, World

pytestmark = on_either


@pytest.mark.parametrize("wrong", ["password", "address"])
def test_nothing_is_held_by_a_process_whose_key_can_not_sign(
    make_world: Callable[..., World], tmp_path: Path, wrong: str
) -> None:
    world = make_world()
    world.round()
    document = Account.encrypt(b"\x07" * 32, "right", kdf="pbkdf2", iterations=2)
    if wrong == "address":
        document["address"] = world.treasury[2:].lower()
    path = tmp_path / "key.json"
    path.write_text(json.dumps(document | {"address": world.treasury[2:].lower()}))
    password = {"COORDINATOR_KEYSTORE_PASSWORD": "right" if wrong == "address" else "wrong"}
    other: Coordinator = world.open(act=True)
    other.wiring.signer = load_signer(f"keystore:{path}", password)

    with pytest.raises(ConfigurationError):
        other.agent(AGENT).purchase(provider="paper-api", amount="20.00", purpose="p")

    assert world.coordinator.purchases() == []
    assert world.usage() == (ZERO, ZERO)
