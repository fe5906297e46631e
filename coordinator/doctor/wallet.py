"""The doctor's check of the wallet that pays for HTTP requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from coordinator.chain.networks import Network
from coordinator.config import read_policy
from coordinator.doctor.check import Check, guarded
from coordinator.doctor.local import LocalPatient
from coordinator.domain.policy.tables import X402
from coordinator.domain.usdc import ZERO, Usdc
from coordinator.domain.x402.top_ups import Float
from coordinator.ledger.store.migrate import HEAD, revision
from coordinator.ledger.tx.facts import read_treasury_state
from coordinator.startup import load_x402_key

_NAME = "x402 wallet"


def checks_of_the_wallet(
    local: LocalPatient, network: Network, balance: Callable[[str], Usdc]
) -> Iterator[Check]:
    """Check its key and its float, where the settings name one."""
    if local.settings is not None and local.settings.x402_signer:
        yield guarded(_NAME, "configuration", lambda: _wallet(local, network, balance))


def _wallet(local: LocalPatient, network: Network, balance: Callable[[str], Usdc]) -> Check:
    settings, signer = local.settings, local.signer
    assert settings is not None
    taken = [signer.address] if signer is not None else []
    wallet = load_x402_key(settings, local.secrets, network, taken)
    assert wallet is not None
    held = _held(local)
    found = Float(balance(wallet.address), held if held is not None else ZERO)
    terms = read_policy(settings.policy_file).request_payments
    words = [f"{wallet.address} has {found.usdc} USDC"]
    words += [f"{held} held for payments"] if held is not None else []
    words += [_filled(terms), "ETH is not needed"]
    low = found.free <= ZERO if terms.top_up_below is None else found.free < terms.top_up_below
    if not low:
        return Check(_NAME, "ok", ", ".join(words), None, "chain")
    action = "coordinator x402 wallet says what fills it"
    if terms.top_up_daily_limit is None:
        action = f"send USDC to {wallet.address}, or set top_up_daily_limit in the policy's [x402]"
    return Check(_NAME, "warn", ", ".join(words), action, "chain")


def _filled(terms: X402) -> str:
    if terms.top_up_daily_limit is None:
        return "the policy has no top-ups"
    most = f"at most {terms.top_up_daily_limit} in 24 hours"
    if terms.top_up_below is None:
        return f"people fill it, {most}"
    return f"filled below {terms.top_up_below} up to {terms.top_up_to}, {most}"


def _held(local: LocalPatient) -> Usdc | None:
    """Return what the database holds for payments; None where it can't tell."""
    if local.database is None or revision(local.database) != HEAD:
        return None
    with local.database.read() as connection:
        return Usdc.from_base_units(read_treasury_state(connection).requests)
