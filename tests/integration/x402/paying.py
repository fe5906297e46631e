"""A treasury with a wallet for HTTP requests, and what servers ask of it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final

from coordinator.chain.signers.opening import load_signer
from coordinator.domain.policy.policy import Policy
from coordinator.domain.purchase.purchase import PaymentAnswer
from coordinator.domain.usdc import Usdc
from tests.integration.world import AGENT, World

HOST: Final = "papers.example"
URL: Final = f"https://{HOST}/papers/7?token=hidden"
_OFFER: Final = ("payTo", "asset", "network", "scheme", "maxTimeoutSeconds", "extra", "amount")


class Payer:
    """One world whose treasury pays for HTTP requests from a wallet of ``float_`` USDC.

    ``x402`` is the policy's table, ``provider`` more of the provider's.
    """

    def __init__(
        self,
        make_world: Callable[..., World],
        *,
        float_: str = "20",
        provider: Mapping[str, Any] | None = None,
        settings: Mapping[str, str] | None = None,
        **x402: str,
    ) -> None:
        key = "0x" + secrets.token_hex(32)
        self.wallet = load_signer("env:KEY", {"KEY": key}).address
        self.world = make_world(
            more_secrets={"X402_KEY": key}, x402_signer="env:X402_KEY", **(settings or {})
        )
        chain = self.world.chain
        chain.rpc.call("evm_setAutomine", True)
        chain.fund(self.wallet, usdc=float_, wei=0)
        chain.hold_blocks()
        document = self.world.policy.document()
        document["providers"]["paper-api"] |= {"hosts": [HOST], **(provider or {})}
        self.world.apply(Policy.from_dict(document | {"x402": x402}))
        self.world.round()

    def put(self, **x402: str) -> None:
        """Put a policy in force with this table."""
        document = self.world.policy.document() | {"x402": x402}
        self.world.apply(Policy.from_dict(document))

    def answer(self, usdc: str = "0.50", **terms: Any) -> dict[str, Any]:
        """What a server answers with 402; ``terms`` replace its offer's."""
        deployment = self.world.chain.deployment
        offer = {
            "scheme": "exact",
            "network": f"eip155:{deployment.chain_id}",
            "asset": deployment.usdc,
            "amount": str(Usdc(usdc).base_units),
            "payTo": self.world.chain.provider,
            "maxTimeoutSeconds": 60,
            "extra": {"name": "USDC", "version": "2"},
        }
        return {"x402Version": 2, "resource": {"url": URL}, "accepts": [offer | terms]}

    def ask(
        self,
        usdc: str = "0.50",
        *,
        key: str = "one",
        url: str = URL,
        agent: str = AGENT,
        **terms: Any,
    ) -> PaymentAnswer:
        """Ask for a payment without waiting for its signature; ``terms`` may be its offer's."""
        offer = {name: terms.pop(name) for name in _OFFER if name in terms}
        asking = self.world.coordinator.agent(agent).authorise_x402
        answer = self.answer(usdc, **offer)
        return asking(answer, url=url, idempotency_key=key, timeout_seconds=0, **terms)

    def pay(self, usdc: str = "0.50", *, key: str = "one", **terms: Any) -> PaymentAnswer:
        """A payment that is signed."""
        self.ask(usdc, key=key, **terms)
        self.world.round()
        paid = self.ask(usdc, key=key, **terms)
        assert paid.payment is not None, paid.purchase.reason
        return paid

    def signatures(self) -> int:
        """How many authorisations were ever signed, by the audit log."""
        ((count,),) = self.world.rows("SELECT count(*) FROM audit WHERE event = 'x402_signed'")
        return int(count)
