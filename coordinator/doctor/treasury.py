"""The doctor's check of a treasury that is a Safe: its chain beside the policy."""

from __future__ import annotations

from collections.abc import Iterator

from coordinator.chain.networks import Deployment, Network
from coordinator.chain.rpc.client import Rpc
from coordinator.config import read_policy
from coordinator.doctor.check import Check, guarded
from coordinator.doctor.local import LocalPatient
from coordinator.domain.errors import ConfigurationError
from coordinator.startup import load_x402_key

_NAME = "treasury"
_SHOW = "coordinator treasury show"
# Of many differences the first say enough; `treasury show` has them all.
_SHOWN_MAX = 3


def checks_of_the_treasury(
    local: LocalPatient, network: Network, rpc: Rpc, d: Deployment
) -> Iterator[Check]:
    """Compare the Safe and its roles with the policy, where a Safe pays."""
    if local.settings is not None and local.settings.payer == "safe":
        yield guarded(_NAME, "chain", lambda: _treasury(local, network, rpc, d))


def _treasury(local: LocalPatient, network: Network, rpc: Rpc, d: Deployment) -> Check:
    from coordinator.provisioning.safe_treasury import treasury_at

    settings, signer = local.settings, local.signer
    assert settings is not None
    if signer is None:
        raise ConfigurationError("the treasury's key is not known")
    policy = read_policy(settings.policy_file)
    if policy.treasury is None:
        found = "the policy has no [treasury]: nothing says what the chain has to keep"
        return Check(_NAME, "warn", found, f"write it into {settings.policy_file}")
    wallet = load_x402_key(settings, local.secrets, network, [signer.address])
    treasury = treasury_at(
        rpc,
        d,
        policy,
        settings,
        member=signer.address,
        wallet=wallet.address if wallet is not None else None,
    )
    shown = treasury.show()
    if shown.differences:
        found = "; ".join(shown.differences[:_SHOWN_MAX])
        further = len(shown.differences) - _SHOWN_MAX
        found += f"; and {further} more" if further > 0 else ""
        return Check(_NAME, "fail", found, _SHOW, "chain")
    if shown.warnings:
        return Check(_NAME, "warn", "; ".join(shown.warnings), _SHOW, "chain")
    at = shown.on_chain
    daily = next((f", {one.left} USDC may go" for one in shown.allowances), "")
    found = f"{at.threshold} of {len(at.owners)} owners, limits as the policy says{daily}"
    return Check(_NAME, "ok", found, None, "chain")
