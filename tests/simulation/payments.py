"""Agents that pay for HTTP requests, and servers that take the payments: late, twice, or never."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from coordinator.chain.abi import token_abi
from coordinator.chain.simulated import genesis
from coordinator.domain.address import checksummed
from coordinator.domain.errors import IdempotencyConflict, InvalidRequest
from coordinator.domain.purchase.purchase import Purchase
from coordinator.domain.usdc import Usdc
from tests.simulation.invariants import Broken

if TYPE_CHECKING:
    from tests.simulation.simulation import Asked, Simulation

KEY: Final = "X402_PRIVATE_KEY"
ACTIONS: Final = {"pay": 16, "take": 16}
#: The most that one request costs, by the policy.
PER_REQUEST: Final = Usdc("1")
_FACILITATOR: Final = genesis.ACCOUNTS[9]
_FLOAT: Final = Usdc("40")
_TRANSFER: Final = (
    "transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,bytes)"
)
# How long a server gives for a payment.
_SECONDS: Final = (10, 60, 60, 600, 5000)


def host_of(provider: str) -> str:
    return f"{provider}.example"


@dataclass(slots=True)
class Payments:
    """The payments of one run: what was asked under each key, and what agents were given for it."""

    simulation: Simulation
    wallet: str = ""
    asked: dict[tuple[str, str], Asked] = field(default_factory=dict)
    #: What agents were given, by agent and key: whoever has it may take it.
    given: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    #: By nonce, what was asked for.
    nonces: dict[str, Asked] = field(default_factory=dict)
    taken: Counter[str] = field(default_factory=Counter)

    def open(self, wallet: str) -> None:
        """Fill the wallet's float."""
        self.wallet = wallet
        mint = token_abi().call("mint", wallet, _FLOAT.base_units)
        self.simulation.node.send_as(genesis.ADMIN, genesis.USDC, mint)

    # What happens.

    def pay(self) -> None:
        """An agent asks for a payment, under a fresh key or again under one that it used."""
        s = self.simulation
        agent, key = s.rng.choice(sorted(s.agents)), f"pay-{s.rng.randrange(120)}"
        waiting = [one for one in self.asked if one not in self.given]
        if waiting and s.rng.random() < 0.5:
            # Whoever waits for a payment asks again; the newest is the likeliest to be signed.
            agent, key = s.rng.choice(waiting[-3:])
        known = self.asked.get((agent, key))
        terms = s.asked_for(
            agent, key, s.rng.choice(sorted(s.providers)), f"{s.rng.randrange(1, 110) / 100:.2f}"
        )
        if known is not None and s.rng.random() < 0.8:
            terms = known
        # What is promised may be promised although the answer is lost.
        self.asked.setdefault((agent, key), terms)
        answered = self._ask(terms)
        if answered is None:
            return
        purchase, payment = answered
        if purchase.denied:
            if known is None:
                del self.asked[agent, key]
            return
        self.asked[agent, key] = terms
        self.nonces[purchase.escrow_key] = terms
        s.invariants.answered(terms, purchase)
        if payment is not None:
            self._give(agent, key, payment)

    def _ask(self, terms: Asked) -> tuple[Purchase, dict[str, Any] | None] | None:
        s = self.simulation
        coordinator = s.someone().coordinator
        payee = s.providers[terms.provider]
        offer = {
            "scheme": "exact",
            "network": f"eip155:{s.node.deployment.chain_id}",
            "asset": s.node.deployment.usdc,
            "amount": str(Usdc(terms.amount).base_units),
            "payTo": checksummed(payee),
            "maxTimeoutSeconds": s.rng.choice(_SECONDS),
            "extra": {"name": "USDC", "version": "2"},
        }
        url = f"https://{host_of(terms.provider)}/"
        told = {"x402Version": 2, "resource": {"url": url}, "accepts": [offer]}
        try:
            answer = coordinator.agent(terms.agent).authorise_x402(
                told, url=url, idempotency_key=terms.key, timeout_seconds=0
            )
        except (IdempotencyConflict, InvalidRequest) as refused:
            if isinstance(refused, InvalidRequest):
                raise Broken("what can be paid is not refused", refused) from refused
            s.invariants.conflicted(terms)
            return None
        payment = dict(answer.payment) if answer.payment is not None else None
        return answer.purchase, payment

    def _give(self, agent: str, key: str, payment: dict[str, Any]) -> None:
        authorisation = payment["payload"]
        before = self.given.setdefault((agent, key), authorisation)
        if before != authorisation:
            raise Broken("a key gives the same payment for ever", (agent, key))

    def take(self) -> None:
        """A server submits a payment that it was given, now and then once more."""
        s = self.simulation
        if not self.given:
            return
        # A server takes what it was just given, and tries what is long over.
        known = list(self.given)
        payload = self.given[s.rng.choice(known[-2:] if s.rng.random() < 0.8 else known)]
        told = payload["authorization"]
        numbers = [int(told[name]) for name in ("value", "validAfter", "validBefore")]
        nonce, signature = (bytes.fromhex(t[2:]) for t in (told["nonce"], payload["signature"]))
        data = token_abi().call(_TRANSFER, told["from"], told["to"], *numbers, nonce, signature)
        for _ in range(s.rng.choice((1, 1, 1, 2))):
            s.node.send_as(_FACILITATOR, genesis.USDC, data)

    # What must hold.

    def check(self, final_time: int) -> None:
        """No hold is given back while whoever has the payment may take it."""
        voided = {
            row[0]
            for row in self.simulation.invariants.rows(
                "SELECT p.escrow_key FROM purchases p JOIN holds h ON h.purchase_id = p.id"
                " WHERE p.settle = 'x402' AND h.status = 'voided'"
            )
        }
        for payload in self.given.values():
            told = payload["authorization"]
            if told["nonce"] in voided and int(told["validBefore"]) > final_time:
                raise Broken("a hold lasts while its payment can be taken", told["nonce"])

    def check_end(self) -> None:
        """Every use on the chain is one that an agent asked for, once, within the limits."""
        by_agent: Counter[str] = Counter()
        for nonce, payee, units in self._uses():
            self.taken[nonce] += 1
            terms = self.nonces.get(nonce)
            if terms is None:
                raise Broken("no payment is made that nobody asked for", nonce)
            wanted = self.simulation.providers[terms.provider].lower()
            if (payee, units) != (wanted, Usdc(terms.amount).base_units):
                raise Broken("what is paid for a request is what was asked", terms)
            if units > PER_REQUEST.base_units:
                raise Broken("no request is paid above its limit", terms)
            by_agent[terms.agent] += units
        if any(count > 1 for count in self.taken.values()):
            raise Broken("a payment is taken once", self.taken)
        posted = {
            nonce: units
            for nonce, units in self.simulation.invariants.rows(
                "SELECT p.escrow_key, h.posted FROM purchases p JOIN holds h"
                " ON h.purchase_id = p.id WHERE p.settle = 'x402' AND h.posted > 0"
            )
        }
        used = {nonce: units for nonce, _, units in self._uses()}
        if posted != used:
            raise Broken("what is posted is what was taken", posted.items() ^ used.items())

    def _uses(self) -> list[tuple[str, str, int]]:
        """(nonce, payee, base units) of each authorisation of the wallet that was used."""
        used, transfer = (token_abi().topic(name) for name in ("AuthorizationUsed", "Transfer"))
        wallet = self.wallet[2:].lower()
        machine, found = self.simulation.node.machine, []
        for block in machine.chain.span(0, machine.chain.head.number):
            logs = [log for log in block.logs if log["topics"][1:2] and wallet in log["topics"][1]]
            for log, after in zip(logs, [*logs[1:], None], strict=False):
                if log["topics"][0] != used:
                    continue
                if after is None or after["topics"][0] != transfer:
                    raise Broken("a use is told with its transfer", log)
                found.append(
                    (log["topics"][2], "0x" + after["topics"][2][-40:], int(after["data"], 16))
                )
        return found
