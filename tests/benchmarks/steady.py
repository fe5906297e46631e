"""Gas of purchases that are not an account's first, so many at once, by who pays.

All of them wait before a worker is there, so that a Safe's are one batch. Wallet and Safe buy from
three providers in turn, which a role's condition compares one after the other. The floor creates
and links as many escrows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from coordinator import Status
from coordinator.chain.signers.opening import load_signer
from coordinator.domain.policy.export import to_toml
from coordinator.domain.policy.policy import Policy
from coordinator.domain.usdc import Usdc
from tests.benchmarks.course import AGENTS, AMOUNT, CATEGORY, POLICY
from tests.benchmarks.floor import pay
from tests.benchmarks.receipts import Paid, gas_each, paid_by
from tests.benchmarks.scene import Scene, Treasury, open_coordinator
from tests.integration.treasuries import MEMBER_KEY, deploy_treasury, lay_contracts, usual_limits

BATCHES: Final = (1, 10, 25)
WALLET, SAFE, FLOOR = "wallet", "safe", "floor"
_TIMEOUT: Final = 60.0
_USDC: Final = Usdc("10000")

Steady = Mapping[int, Mapping[str, Sequence[Paid]]]


@dataclass(frozen=True, slots=True)
class Buyer:
    """An account that signs, and the settings of the coordinator that buys with it."""

    address: str
    environment: Mapping[str, str]


def steady_gas(scene: Scene, counts: Sequence[int] = BATCHES) -> Steady:
    """What each payer and the floor paid for so many at once; a first purchase is not in it."""
    providers = [scene.chain.provider, scene.chain.other_provider, scene.chain.payee]
    policy = _policy(scene, providers)
    wallet, floor = scene.treasuries([_url(scene, WALLET), _url(scene, FLOOR)])
    buyers = {
        WALLET: _buyer(scene, wallet, policy),
        SAFE: _safe(scene, providers, policy),
    }
    for buyer in buyers.values():
        _buy(buyer, 1)
    pay(scene, floor, scene.url, 1)
    found: dict[int, dict[str, Sequence[Paid]]] = {}
    for count in counts:
        first = scene.chain.height + 1
        for buyer in buyers.values():
            _buy(buyer, count)
        pay(scene, floor, scene.url, count)
        accounts = {name: buyer.address for name, buyer in buyers.items()}
        accounts[FLOOR] = floor.address
        found[count] = {name: paid_by(scene, a, first) for name, a in accounts.items()}
    return found


def steady_ratios(found: Steady) -> dict[str, float]:
    """The Safe's gas of each purchase, and over the wallet's and the floor's of as many."""
    ratios: dict[str, float] = {}
    for count, paid in found.items():
        safe = gas_each(paid[SAFE], count)
        ratios[f"safe_gas_each_{count}"] = round(safe)
        for other in (WALLET, FLOOR):
            ratios[f"safe_over_{other}_{count}"] = round(safe / gas_each(paid[other], count), 3)
    return ratios


def steady_rows(found: Steady) -> dict[str, dict[str, dict[str, float]]]:
    """Gas and transactions by how many at once and who paid."""
    return {
        str(count): {
            name: {
                "gas_each": round(gas_each(paid, count)),
                "transactions": len(paid),
            }
            for name, paid in by_name.items()
        }
        for count, by_name in found.items()
    }


def _buy(buyer: Buyer, count: int) -> None:
    """Ask for all, then let a worker come; RuntimeError where one is not funded."""
    with open_coordinator(buyer.environment, act=False) as asking:
        asked = [
            asking.agent(f"a{number % AGENTS}").purchase(**terms, wait=False)
            for number, terms in enumerate(_terms(count))
        ]
    with open_coordinator(buyer.environment, act=True) as worker:
        worker.recover(timeout_seconds=_TIMEOUT)
        for one in asked:
            found = worker.get(one.id)
            if found.status is not Status.FUNDED:
                raise RuntimeError(f"the benchmark's purchase is {found.status}: {found.reason}")


def _terms(count: int) -> Iterator[dict[str, Any]]:
    for number in range(count):
        yield {
            "provider": f"paper-api-{number % 3}",
            "amount": AMOUNT,
            "purpose": "a paper on escrow",
            "category": CATEGORY,
        }


def _safe(scene: Scene, providers: Sequence[str], policy: Path) -> Buyer:
    """A Safe with USDC, and the member of its role as the key of a coordinator."""
    key = "0x" + MEMBER_KEY.hex()
    signer = load_signer("env:KEY", {"KEY": key})
    lay_contracts(scene.chain)
    limits = usual_limits(
        scene.chain, member=signer.address, providers=tuple(providers), total=_USDC
    )
    places = deploy_treasury(scene.chain, limits, usdc=str(_USDC)).places
    member = Treasury(key, signer.address, _url(scene, SAFE), signer)
    settings = {
        "COORDINATOR_PAYER": "safe",
        "COORDINATOR_SAFE_ADDRESS": places.safe,
        "COORDINATOR_ROLES_ADDRESS": places.roles,
    }
    return _buyer(scene, member, policy, settings)


def _buyer(
    scene: Scene, treasury: Treasury, policy: Path, settings: Mapping[str, str] | None = None
) -> Buyer:
    environment = scene.environment(treasury, url=scene.url, public=False)
    chosen = {"COORDINATOR_POLICY_FILE": str(policy)} | dict(settings or {})
    return Buyer(treasury.address, environment | chosen)


def _policy(scene: Scene, providers: Sequence[str]) -> Path:
    """The course's policy with these providers, in a file of its own."""
    (usual,) = POLICY["providers"].values()
    named = {f"paper-api-{n}": usual | {"address": each} for n, each in enumerate(providers)}
    path = scene.folder / "policy-of-three.toml"
    path.write_text(to_toml(Policy.from_dict(POLICY | {"providers": named})))
    return path


def _url(scene: Scene, name: str) -> str:
    return f"sqlite:///{scene.folder}/steady-{name}.db"
