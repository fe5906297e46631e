"""A treasury that is a Safe, as its owners see it: plan, deploy, show, change, sign, execute."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from coordinator.chain.evm.endpoint_check import check_endpoints
from coordinator.chain.local.deploy import unlocked_account
from coordinator.chain.local.owners import approve_as_owners
from coordinator.chain.networks import Deployment
from coordinator.chain.rpc.client import Rpc
from coordinator.chain.safe.changes import changes, closed, revoked, take_approval_back
from coordinator.chain.safe.configuration import (
    DISPUTE_COUNT,
    Places,
    allowances,
    name,
    set_up,
)
from coordinator.chain.safe.creation_code import CHECKOUT, CreationCode
from coordinator.chain.safe.deploying import (
    deploy_canonical,
    deploy_safe,
    execute,
    first_refusal,
    missing,
)
from coordinator.chain.safe.differences import differences, purchase_terms
from coordinator.chain.safe.limits import ChainLimits
from coordinator.chain.safe.multisend import InnerCall
from coordinator.chain.safe.on_chain import OnChain, approved_by, read_on_chain
from coordinator.chain.safe.policy_limits import chain_limits
from coordinator.chain.safe.proposals import Proposal
from coordinator.chain.safe.roles import ASSIGN_ROLES
from coordinator.chain.safe.safe_transactions import OwnerSignature, joined
from coordinator.chain.safe.sending import Sender
from coordinator.chain.safe.words import in_words, names_of
from coordinator.chain.signers.signers import Signer
from coordinator.config import SIMULATED, Settings, read_policy
from coordinator.domain.address import checksummed
from coordinator.domain.errors import ConfigurationError, InvalidRequest, TxReverted
from coordinator.domain.policy.chain_limits import deadline_warnings
from coordinator.domain.policy.policy import Policy
from coordinator.domain.usdc import Usdc
from coordinator.wiring import Wiring

__all__ = [
    "AllowanceLeft",
    "Plan",
    "Proposal",
    "SafeTreasury",
    "Shown",
    "open_treasury",
    "treasury_at",
]


@dataclass(frozen=True, slots=True)
class Plan:
    """A deployment before it is made: what the chain lacks, and the owners' transaction.

    ``proposal`` is None where the roles are set up already.
    """

    on_chain: OnChain
    missing: tuple[str, ...]
    proposal: Proposal | None


@dataclass(frozen=True, slots=True)
class AllowanceLeft:
    """An allowance of the roles and its rest, in USDC, or of disputes in calls.

    ``refill`` comes back every ``period`` seconds, which is 0 for one that never does.
    """

    name: str
    left: str
    at_once: str
    refill: str
    period: int
    refills_at: int | None


@dataclass(frozen=True, slots=True)
class Shown:
    """A treasury on its chain beside the policy; every difference is a sentence."""

    on_chain: OnChain
    allowances: tuple[AllowanceLeft, ...]
    differences: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class SafeTreasury:
    """The treasury of a policy on one chain, there or to be deployed; ``pays`` by the settings."""

    rpc: Rpc
    chain_id: int
    policy: Policy
    limits: ChainLimits
    places: Places
    salt_nonce: int = 0
    local: bool = False
    pays: bool = False
    payer: Signer | None = field(default=None, repr=False)

    def plan(self) -> Plan:
        """Return what ``deploy`` would do; sends nothing."""
        factories, contracts = missing(self.rpc)
        on_chain = read_on_chain(self.rpc, self.places)
        lacks = (*(f"the factory {f}" for f in factories), *(c.name for c in contracts))
        if on_chain.set_up:
            return Plan(on_chain, lacks, None)
        calls = set_up(self.places, self.limits, salt_nonce=self.salt_nonce)
        return Plan(on_chain, lacks, self._proposal(calls, on_chain))

    def deploy(self, code: Path | None, signers: Sequence[Signer]) -> list[str]:
        """Deploy what the chain lacks, and the Safe; return what was done, in words."""
        sender = self.sender(signers)
        done = [f"deployed {one}" for one in deploy_canonical(sender, _creation_code(code))]
        if deploy_safe(sender, self.places, self.limits, salt_nonce=self.salt_nonce):
            done.append(f"created the Safe {self.places.safe}")
        return done

    def approve_locally(self, proposal: Proposal) -> None:
        """Let as many owners approve it as it takes; a local chain alone does that without keys."""
        owners = read_on_chain(self.rpc, self.places).owners[: self.limits.threshold]
        left = [owner for owner in owners if owner not in proposal.signatures]
        approve_as_owners(self.rpc, self.places.safe, proposal.digest, left)

    def show(self) -> Shown:
        """Read the chain and compare it with the policy."""
        on_chain = read_on_chain(self.rpc, self.places)
        found = differences(self.rpc, self.places, self.limits, on_chain, self._providers)
        terms = None
        if on_chain.set_up:
            terms = purchase_terms(self.rpc, self.places, self.limits, on_chain)
        bound = self.limits.deadline_before if terms is None else terms.deadline_before
        after = self.policy.escrow.deadline_after
        return Shown(
            on_chain=on_chain,
            allowances=tuple(self._left(on_chain)),
            differences=tuple(found),
            warnings=tuple(deadline_warnings(bound, after, on_chain.time)),
        )

    def change(self) -> Proposal | None:
        """Return what brings the chain to the policy; None where they agree."""
        on_chain = self._there()
        calls = changes(self.rpc, self.places, self.limits, on_chain)
        return self._proposal(calls, on_chain) if calls else None

    def rotate(self, member: str) -> Proposal:
        """Return what gives the roles to another key, and takes them from every other.

        What the present key got the vault approved ends, though nothing may stand yet.
        """
        try:
            limits = replace(self.limits, member=checksummed(member))
        except ValueError as fault:
            raise InvalidRequest(str(fault)) from None
        on_chain = self._there()
        calls = [*changes(self.rpc, self.places, limits, on_chain)]
        back = take_approval_back(self.places)
        return self._proposal(calls if back in calls else [*calls, back], on_chain)

    def revoke(self, member: str | None, *, module: bool) -> Proposal:
        """Return what stops the key, or every one; with ``module`` by closing the roles."""
        on_chain = self._there()
        if module:
            return self._proposal(closed(self.places, on_chain), on_chain)
        try:
            members = on_chain.members if member is None else (checksummed(member),)
        except ValueError as fault:
            raise InvalidRequest(str(fault)) from None
        # Roles would take a stranger whose role is taken among those that may call them.
        if not members or not set(members) <= set(on_chain.members):
            who = f"{members[0]} has no role" if members else "no key has a role"
            raise InvalidRequest(f"{who} of the Safe {self.places.safe}")
        calls = [call for one in members for call in revoked(self.places, one)]
        return self._proposal(list(dict.fromkeys(calls)), on_chain)

    def says(self, proposal: Proposal) -> list[str]:
        """Return each call in words, read from its data alone."""
        return [in_words(call, self.places, self._names) for call in proposal.calls]

    def given_roles(self, proposal: Proposal) -> list[str]:
        """Return the keys that it gives a role; one that leaked must not be among them."""
        given: list[str] = []
        for call in proposal.calls:
            if call.to == self.places.roles and call.data.startswith(ASSIGN_ROLES.selector):
                member, _, has = ASSIGN_ROLES.decoded(call.data[len(ASSIGN_ROLES.selector) :])
                given += [checksummed(member)] if any(has) else []
        return list(dict.fromkeys(given))

    def check(self, proposal: Proposal) -> OnChain:
        """Refuse a transaction that can't be executed next: another Safe's, or a used number."""
        if (proposal.chain_id, proposal.safe) != (self.chain_id, self.places.safe):
            raise InvalidRequest(
                f"the transaction is of the Safe {proposal.safe} on chain {proposal.chain_id}, and"
                f" this treasury is {self.places.safe} on chain {self.chain_id}"
            )
        on_chain = self._there(roles=False)
        if on_chain.nonce > proposal.nonce:
            raise InvalidRequest(
                f"another transaction of the Safe took its number, {proposal.nonce}: write it anew"
                " and sign it again, what was signed is worth nothing any more",
                code="nonce_used",
            )
        if on_chain.nonce < proposal.nonce:
            raise InvalidRequest(
                f"its number is {proposal.nonce}, and the Safe is at {on_chain.nonce}: others have"
                " to go before"
            )
        return on_chain

    def signed(self, proposal: Proposal, signer: Signer) -> Proposal:
        """Return it with this owner's signature; InvalidRequest for whoever is none."""
        on_chain = self.check(proposal)
        if signer.address not in on_chain.owners:
            raise InvalidRequest(
                f"the signer is {signer.address}, and no owner of the Safe: {_list(on_chain)}",
                code="signature_invalid",
            )
        return proposal.signed_with(signer.sign_typed(proposal))

    def signatures_of(self, proposal: Proposal) -> tuple[list[OwnerSignature], int]:
        """Return the owners' signatures, those on the chain too, and how many are needed.

        InvalidRequest where whoever signed is no owner.
        """
        on_chain = self.check(proposal)
        for owner in proposal.signatures:
            if owner not in on_chain.owners:
                raise InvalidRequest(
                    f"{owner} signed, or another transaction was signed: it is no owner of the"
                    f" Safe: {_list(on_chain)}",
                    code="signature_invalid",
                )
        rest = [owner for owner in on_chain.owners if owner not in proposal.signatures]
        approved = approved_by(self.rpc, self.places.safe, proposal.digest, rest)
        found = [*proposal.signatures.values(), *map(OwnerSignature.approved, approved)]
        return found, on_chain.threshold

    def execute(self, proposal: Proposal, signers: Sequence[Signer]) -> str:
        """Send it at the first signer's cost; return the hash. TxReverted with the reason."""
        found, needed = self.signatures_of(proposal)
        joint = joined(found[:needed])
        title = f"the owners' transaction number {proposal.nonce}"
        try:
            receipt = execute(
                self.sender(signers), self.places.safe, proposal.transaction, joint, title
            )
        except TxReverted as fault:
            # The Safe tells no reason of a call within.
            self.check(proposal)
            why = first_refusal(self.rpc, self.places.safe, proposal.calls)
            raise TxReverted(f"{fault}; {why}" if why else str(fault)) from None
        return str(receipt["transactionHash"])

    def sender(self, signers: Sequence[Signer]) -> Sender:
        """Return who pays for gas: the first of these, a local node's account, or the worker."""
        if signers:
            return Sender(self.rpc, signers[0].address, signers[0])
        if self.local:
            return Sender(self.rpc, unlocked_account(self.rpc))
        if self.payer is None or not self.payer.can_sign:
            raise InvalidRequest("who pays for the transaction? add --signer keystore:NAME")
        return Sender(self.rpc, self.payer.address, self.payer)

    def _left(self, on_chain: OnChain) -> Iterator[AllowanceLeft]:
        for key in allowances(self.limits) if on_chain.set_up else ():
            one = (on_chain.allowances or {})[key]
            usdc = key != DISPUTE_COUNT
            left, at_once, refill = (
                str(Usdc.from_base_units(units)) if usdc else str(units)
                for units in (one.left_at(on_chain.time), one.max_refill, one.refill)
            )
            yield AllowanceLeft(
                name=name(key),
                left=left,
                at_once=at_once,
                refill=refill,
                period=one.period,
                refills_at=one.refilled_at(on_chain.time),
            )

    def _there(self, *, roles: bool = True) -> OnChain:
        on_chain = read_on_chain(self.rpc, self.places)
        if not on_chain.created or (roles and not on_chain.set_up):
            what = "roles" if on_chain.created else "Safe"
            raise InvalidRequest(
                f"there is no {what} of this policy's owners on chain {self.chain_id} yet:"
                " `coordinator treasury deploy`"
            )
        return on_chain

    def _proposal(self, calls: Sequence[InnerCall], on_chain: OnChain) -> Proposal:
        return Proposal(
            chain_id=self.chain_id,
            safe=self.places.safe,
            nonce=on_chain.nonce,
            calls=tuple(calls),
        )

    @cached_property
    def _names(self) -> dict[str, str]:
        providers = {name: one.address for name, one in self.policy.providers.items()}
        named = names_of(self.places, self.limits.member, providers)
        if self.limits.x402 is not None:
            named[self.limits.x402.wallet] = f"the x402 wallet {self.limits.x402.wallet}"
        return named

    @cached_property
    def _providers(self) -> dict[str, str]:
        return {one.address: name for name, one in self.policy.providers.items()}


def open_treasury(wiring: Wiring, *, salt_nonce: int = 0) -> SafeTreasury:
    """Return the treasury of the settings and the policy file, once the endpoints were checked.

    It is the Safe of the settings, or else the one that the policy's owners would deploy.
    """
    s, rpc = wiring.settings, wiring.rpc
    if s.network == SIMULATED:
        raise ConfigurationError("the simulated chain has no Safe: use anvil, base-sepolia or base")
    chain_id = int(rpc.call("eth_chainId"), 16)
    check_endpoints(rpc, wiring.network, chain_id)
    made = treasury_at(
        rpc,
        wiring.deployment,
        read_policy(s.policy_file),
        s,
        member=wiring.signer.address,
        wallet=wiring.wallet,
        salt_nonce=salt_nonce,
    )
    return replace(made, local=wiring.network.local, payer=wiring.signer)


def treasury_at(
    rpc: Rpc,
    deployment: Deployment,
    policy: Policy,
    settings: Settings,
    *,
    member: str,
    wallet: str | None,
    salt_nonce: int = 0,
) -> SafeTreasury:
    """Return the treasury of ``member``, the worker's key, and ``wallet``; it asks no chain."""
    limits, d = chain_limits(policy, member=member, wallet=wallet), deployment
    places = Places.predicted(
        limits, kernel=d.kernel, vault=d.vault, usdc=d.usdc, salt_nonce=salt_nonce
    )
    if settings.safe_address is not None and settings.roles_address is not None:
        places = replace(places, safe=settings.safe_address, roles=settings.roles_address)
    return SafeTreasury(
        rpc=rpc,
        chain_id=d.chain_id,
        policy=policy,
        limits=limits,
        places=places,
        salt_nonce=salt_nonce,
        pays=settings.payer == "safe",
    )


def _creation_code(folder: Path | None) -> CreationCode:
    return CreationCode(CHECKOUT if folder is None else folder)


def _list(on_chain: OnChain) -> str:
    return f"its owners are {', '.join(on_chain.owners)}"
