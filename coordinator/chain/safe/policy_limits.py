"""From the policy to the limits that a chain keeps."""

from __future__ import annotations

from coordinator.chain.safe.limits import ChainLimits, DisputeLimits, X402Limits
from coordinator.domain.errors import ConfigurationError
from coordinator.domain.policy.chain_limits import listed_providers
from coordinator.domain.policy.policy import Policy


def chain_limits(policy: Policy, *, member: str, wallet: str | None) -> ChainLimits:
    """Return what the policy's [treasury] asks the chain to keep for ``member``, the worker's key.

    ``wallet`` pays for HTTP requests. ConfigurationError where the policy has no such table, or
    names what is not there.
    """
    table = policy.treasury
    if table is None:
        raise ConfigurationError(
            "the policy has no [treasury]: write the Safe's owners, threshold and limits into it"
            " (docs/treasury.md)"
        )
    if table.x402_daily_limit is not None and wallet is None:
        raise ConfigurationError(
            "treasury.x402_daily_limit needs COORDINATOR_X402_SIGNER: the chain has to know the"
            " wallet"
        )
    try:
        return ChainLimits(
            owners=tuple(table.owners),
            threshold=table.threshold,
            member=member,
            providers=tuple(one.address for one in listed_providers(policy).values()),
            purchase_max=table.per_purchase_limit,
            daily=table.daily_limit,
            total=table.total_limit,
            deadline_before=table.deadline_before,
            disputes=(
                DisputeLimits(bonds_daily=table.bonds_daily_limit, count_daily=table.disputes_daily)
                if table.bonds_daily_limit is not None and table.disputes_daily is not None
                else None
            ),
            x402=(
                X402Limits(wallet=wallet, daily=table.x402_daily_limit)
                if table.x402_daily_limit is not None and wallet is not None
                else None
            ),
        )
    except ValueError as fault:
        raise ConfigurationError(f"[treasury]: {fault}") from None
