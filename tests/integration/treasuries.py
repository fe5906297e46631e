"""Treasuries for tests: the audited contracts on Anvil, a Safe of two of three, and a role."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_typing import Hash32

from coordinator.chain.actp.rail import ActpRail
from coordinator.chain.rpc.client import RpcRefusal
from coordinator.chain.safe import roles
from coordinator.chain.safe.addresses import MULTI_SEND
from coordinator.chain.safe.configuration import APPROVE, PURCHASES, Places, set_up
from coordinator.chain.safe.creation_code import CreationCode
from coordinator.chain.safe.deploying import deploy_canonical, deploy_safe, execute
from coordinator.chain.safe.limits import ChainLimits, DisputeLimits, X402Limits
from coordinator.chain.safe.multisend import CALL, DELEGATE_CALL, InnerCall, multi_send
from coordinator.chain.safe.refusals import RoleRefusal, role_refusal
from coordinator.chain.safe.safe_transactions import NONCE, OwnerSignature, joined, together
from coordinator.chain.safe.sending import Sender
from coordinator.chain.signers.signers import Signer
from coordinator.domain.chain.escrow_key import service_hash
from coordinator.domain.usdc import Usdc
from tests.integration.local_chain import LocalChain

YEAR: Final = 365 * 86_400
ETHER: Final = 10**18
# Safes of the same owners differ by it; a world's is 0.
USUAL_SALT, OTHER_SALT = 1, 2
# The worker's key, and its x402 wallet's address.
MEMBER_KEY: Final = bytes([0xB1]) * 32
X402_WALLET: Final = Account.from_key(bytes([0xB2]) * 32).address


def owners() -> list[LocalAccount]:
    return [Account.from_key(bytes([0xA0 + number]) * 32) for number in range(3)]


def lay_contracts(chain: LocalChain) -> None:
    """Deploy the audited contracts with npm's code; a tenth of a second."""
    deploy_canonical(Sender(chain.rpc, chain.admin), CreationCode())


def usual_limits(chain: LocalChain, **changes: Any) -> ChainLimits:
    """Limits of 720 USDC in any 24 hours, so that 240 go at once and 10 come back an hour."""
    usual = ChainLimits(
        owners=tuple(owner.address for owner in owners()),
        threshold=2,
        member=Account.from_key(MEMBER_KEY).address,
        providers=(chain.provider, chain.other_provider),
        purchase_max=Usdc("100"),
        daily=Usdc("720"),
        total=Usdc("5000"),
        deadline_before=chain.time + YEAR,
        disputes=DisputeLimits(bonds_daily=Usdc("72"), count_daily=3),
        x402=X402Limits(wallet=X402_WALLET, daily=Usdc("48")),
    )
    return replace(usual, **changes)


@dataclass
class SafeTreasury:
    """A Safe with USDC, its owners' keys, and the member's key with ETH for gas."""

    chain: LocalChain
    limits: ChainLimits
    places: Places

    @property
    def address(self) -> str:
        return self.places.safe

    @property
    def member(self) -> str:
        return self.limits.member

    @cached_property
    def rail(self) -> ActpRail:
        return ActpRail(self.places.kernel, self.places.vault, self.places.safe)

    @cached_property
    def chain_id(self) -> int:
        return int(self.chain.rpc.call("eth_chainId"), 16)

    @cached_property
    def _sender(self) -> Sender:
        return Sender(self.chain.rpc, self.member, Signer.of_key(MEMBER_KEY))

    @property
    def nonce(self) -> int:
        """The Safe's, not the member's."""
        asked = {"to": self.address, "data": "0x" + NONCE.call().hex()}
        return int(self.chain.rpc.call("eth_call", asked, "latest"), 16)

    # What owners do.

    def owners_do(self, *calls: InnerCall) -> None:
        """Sign these calls as one transaction, as many owners as it takes, and execute it."""
        transaction = together(calls, nonce=self.nonce)
        digest = transaction.digest(chain_id=self.chain_id, safe=self.address)
        signed = joined([_signed(owner, digest) for owner in owners()[: self.limits.threshold]])
        sender = Sender(self.chain.rpc, self.chain.admin)
        execute(sender, self.address, transaction, signed, "the owners' transaction")

    def owners_set(self, data: bytes) -> None:
        """Let the owners change the roles by this call."""
        self.owners_do(InnerCall(self.places.roles, data))

    # What whoever has the member's key does.

    def do(
        self, to: str, data: bytes, *, operation: int = CALL, role: bytes = PURCHASES
    ) -> dict[str, Any]:
        """Call through the role, mined; the receipt. TxReverted where it is refused."""
        call = roles.execute(to, data, operation=operation, role=role)
        return self._sender.send(InnerCall(self.places.roles, call, "a call through the role"))

    def do_together(self, calls: Sequence[InnerCall], *, role: bytes = PURCHASES) -> dict[str, Any]:
        """Call several in one transaction through the role."""
        return self.do(MULTI_SEND.address, multi_send(calls), operation=DELEGATE_CALL, role=role)

    def refusal(
        self,
        to: str,
        data: bytes,
        *,
        operation: int = CALL,
        role: bytes = PURCHASES,
        sender: str | None = None,
        value: int = 0,
    ) -> RoleRefusal | None:
        """Why the contract would refuse this call in the next block; None when it would not."""
        call = roles.EXECUTE.call(to, value, data, operation, role, True)
        return self.told(self.places.roles, call, sender=sender)

    def refusal_together(
        self, calls: Sequence[InnerCall], *, role: bytes = PURCHASES
    ) -> RoleRefusal | None:
        data = multi_send(calls)
        return self.refusal(MULTI_SEND.address, data, operation=DELEGATE_CALL, role=role)

    def told(self, to: str, data: bytes, *, sender: str | None = None) -> RoleRefusal | None:
        """What Roles would say to a call of ``sender``, or else of the member."""
        asked = {"from": sender or self.member, "to": to, "data": "0x" + data.hex()}
        (answer,) = self.chain.rpc.batch([("eth_call", [asked, "pending"])])
        if not isinstance(answer, RpcRefusal):
            return None
        refusal = role_refusal(answer.data)
        assert refusal is not None, answer
        return refusal

    def approve(self, usdc: str, spender: str | None = None) -> InnerCall:
        data = APPROVE.call(spender or self.places.vault, Usdc(usdc).base_units)
        return InnerCall(self.places.usdc, data)

    def create_and_link(
        self,
        usdc: str,
        number: int = 0,
        *,
        provider: str | None = None,
        deadline: int | None = None,
    ) -> tuple[str, list[InnerCall]]:
        """The calls of the purchase that is ``number`` purchases ahead, and its escrow's id."""
        create_nonce = self.chain.kernel("requesterNonces", self.address) + number
        create = self.rail.create(
            purchase_id="",
            provider=provider or self.chain.provider,
            amount=Usdc(usdc),
            service=None,
            deadline=deadline or self.chain.time + 86_400,
            dispute_window=3600,
            create_nonce=create_nonce,
        )
        assert create.escrow_id is not None
        escrow_key = service_hash(f"escrow key {create.escrow_id}")
        link = self.rail.link(
            purchase_id="", escrow_id=create.escrow_id, escrow_key=escrow_key, amount=Usdc(usdc)
        )
        calls = [InnerCall(c.to, bytes.fromhex(c.data[2:])) for c in (create, link)]
        return create.escrow_id, calls

    def buy(self, *amounts: str) -> list[str]:
        """Buy these in one transaction through the role; the escrows' ids."""
        made = [self.create_and_link(usdc, number) for number, usdc in enumerate(amounts)]
        total = Usdc.sum(map(Usdc, amounts))
        self.do_together([self.approve(str(total)), *(c for _, calls in made for c in calls)])
        return [escrow_id for escrow_id, _ in made]


def deploy_treasury(
    chain: LocalChain, limits: ChainLimits, *, usdc: str = "10000", salt_nonce: int = 0
) -> SafeTreasury:
    """A treasury as its owners set it up, with so much USDC; blocks must not be held."""
    deployed = chain.deployment
    places = Places.predicted(
        limits,
        kernel=deployed.kernel,
        vault=deployed.vault,
        usdc=deployed.usdc,
        salt_nonce=salt_nonce,
    )
    made = SafeTreasury(chain, limits, places)
    deploy_safe(Sender(chain.rpc, chain.admin), places, limits, salt_nonce=salt_nonce)
    made.owners_do(*set_up(places, limits, salt_nonce=salt_nonce))
    chain.fund(places.safe, usdc=usdc, wei=0)
    chain.fund(limits.member, usdc="0", wei=ETHER)
    return made


def _signed(owner: LocalAccount, digest: bytes) -> OwnerSignature:
    part = bytes(owner.unsafe_sign_hash(Hash32(digest)).signature)
    return OwnerSignature.by_key(digest, part)
