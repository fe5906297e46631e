"""Check a running treasury by its storage: who acts for the Safe, and its policy's limits."""

from __future__ import annotations

from dataclasses import dataclass

from coordinator.chain.rpc.client import Rpc
from coordinator.chain.safe.configuration import Places
from coordinator.chain.safe.differences import differences
from coordinator.chain.safe.on_chain import read_on_chain
from coordinator.chain.safe.policy_limits import chain_limits
from coordinator.chain.safe.proof import expected_actors, expected_code, read
from coordinator.domain.errors import ConfigurationError
from coordinator.domain.policy.chain_limits import listed_providers
from coordinator.domain.policy.policy import Policy
from coordinator.domain.ports import SafeDifferences


@dataclass(frozen=True, slots=True, kw_only=True)
class SafeInspector:
    """Reads one treasury, whose ``member`` is the worker's key; ``wallet`` pays by request."""

    rpc: Rpc
    places: Places
    member: str
    wallet: str | None

    def read(self, policy: Policy) -> SafeDifferences:
        """Return what is not as it must be; the limits only where the policy tells them."""
        safe, roles = self.places.safe, self.places.roles
        code, actors = (
            tuple(asked.differences(read(self.rpc, asked)))
            for asked in (
                expected_code(safe=safe, roles=roles),
                expected_actors(safe=safe, roles=roles, member=self.member),
            )
        )
        told = {*code, *actors}
        limits = tuple(one for one in self._of_limits(policy) if one not in told)
        return SafeDifferences(code, actors, limits)

    def _of_limits(self, policy: Policy) -> list[str]:
        if policy.treasury is None:
            return []
        try:
            limits = chain_limits(policy, member=self.member, wallet=self.wallet)
        except ConfigurationError as fault:
            return [str(fault)]
        names = {one.address: name for name, one in listed_providers(policy).items()}
        on_chain = read_on_chain(self.rpc, self.places)
        return differences(self.rpc, self.places, limits, on_chain, names)
