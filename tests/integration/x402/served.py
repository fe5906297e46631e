"""A service in processes of their own whose treasury pays for HTTP requests, and a shop."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Final

from coordinator.chain.signers.opening import load_signer
from tests.integration.local_chain import LocalChain
from tests.integration.service.processes import Service
from tests.integration.stores import rows
from tests.integration.world import POLICY

#: What one task, or one session, may cost.
RUN_LIMIT: Final = "2.00"


class PayingService(Service):
    """Pays requests to ``hosts`` from a wallet of its own, whose key the worker alone has."""

    def __init__(self, chain: LocalChain, folder: Path, database_url: str, *hosts: str) -> None:
        super().__init__(chain, folder, database_url)
        key = "0x" + secrets.token_hex(32)
        self.database_url = database_url
        self.wallet = load_signer("env:KEY", {"KEY": key}).address
        self.acting |= {"X402_KEY": key, "COORDINATOR_X402_SIGNER": "env:X402_KEY"}
        self.deciding |= {"COORDINATOR_X402_SIGNER": f"address:{self.wallet}"}
        text = POLICY.format(
            provider=chain.provider, other_provider=chain.other_provider, settle="after_window"
        ).replace('service = "papers"', f'service = "papers"\nhosts = {json.dumps(hosts)}')
        limits = f'per_task_limit = "{RUN_LIMIT}"\nper_session_limit = "{RUN_LIMIT}"\n'
        (folder / "policy.toml").write_text(f"{text}\n[x402]\n{limits}")
        chain.fund(self.treasury, usdc="1000", wei=10**17)
        chain.fund(self.wallet, usdc="20", wei=0)

    def signatures(self) -> int:
        """How many authorisations were ever signed, by the audit log."""
        ((count,),) = rows(
            self.database_url, "SELECT count(*) FROM audit WHERE event = 'x402_signed'"
        )
        return int(count)
