"""USDC: allowance, withdrawals, and the transfers that the journal is made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from coordinator.chain.abi import token_abi
from coordinator.chain.evm.calls import ContractCall, eth_call
from coordinator.chain.evm.logs import Log, account_topic, account_topics, event_of
from coordinator.chain.rpc.client import Rpc
from coordinator.domain.chain.events import ChainEvent, EventKind
from coordinator.domain.chain.gas import GAS_LIMITS
from coordinator.domain.chain.steps import Call, StepKind
from coordinator.domain.errors import ChainUnavailable, ConfigurationError
from coordinator.domain.typed_data import Domain, domain_separator
from coordinator.domain.usdc import Usdc

_USED: Final = "AuthorizationUsed"
_DOMAIN: Final = ("name", "version", "DOMAIN_SEPARATOR")
# 10^12 USDC. Test tokens let anybody mint more than SQL's integers hold; such transfers are left
# out of the journal, and reconciling tells of the difference.
AMOUNT_MAX: Final = 10**18


@dataclass(frozen=True, slots=True)
class FiatToken:
    """Circle's USDC, or a test token with its interface."""

    address: str
    treasury: str

    def balance_call(self) -> ContractCall:
        return self.usdc_call(self.treasury)

    def allowance_call(self, spender: str) -> ContractCall:
        return self.address, token_abi().call("allowance", self.treasury, spender)

    def approve(self, spender: str, amount: Usdc) -> Call:
        """Set the allowance of ``spender`` to ``amount``, whatever it was."""
        data = token_abi().call("approve", spender, amount.base_units)
        return self._call(StepKind.APPROVE, data, amount)

    def withdraw(self, *, order_id: str, recipient: str, amount: Usdc) -> Call:
        data = token_abi().call("transfer", recipient, amount.base_units)
        return self._call(StepKind.WITHDRAW, data, amount, order_id)

    def sweep(self, *, recipient: str, amount: Usdc) -> Call:
        """Move USDC to another account of ours."""
        data = token_abi().call("transfer", recipient, amount.base_units)
        return self._call(StepKind.SWEEP, data, amount)

    def top_up(self, *, order_id: str, recipient: str, amount: Usdc) -> Call:
        """Move USDC to the wallet that pays for HTTP requests."""
        data = token_abi().call("transfer", recipient, amount.base_units)
        return self._call(StepKind.TOP_UP, data, amount, order_id)

    def mint(self, *, order_id: str, amount: Usdc) -> Call:
        """Mint a test token that lets everybody mint; reverts for real USDC."""
        data = token_abi().call("mint", self.treasury, amount.base_units)
        return self._call(StepKind.MINT, data, None, order_id)

    def usdc_call(self, account: str) -> ContractCall:
        return self.address, token_abi().call("balanceOf", account)

    def used_call(self, account: str, nonce: str) -> ContractCall:
        return self.address, token_abi().call("authorizationState", account, nonce)

    def domain(self, rpc: Rpc, chain_id: int) -> Domain:
        """Ask the token for the EIP-712 domain of its authorisations.

        ConfigurationError when it has another than name, version, chain and address make.
        """
        asked = [(self.address, token_abi().call(name)) for name in _DOMAIN]
        answers = rpc.batch([eth_call(call, "latest") for call in asked])
        name, version, separator = (
            token_abi().result(function, answer)
            for function, answer in zip(_DOMAIN, answers, strict=True)
        )
        domain = Domain(name, version, chain_id, self.address)
        if domain_separator(domain) != separator:
            raise ConfigurationError(
                f"the USDC at {self.address} signs for another domain than {name!r} {version}: no"
                " payment for an HTTP request can be made"
            )
        return domain

    def filters(self, accounts: Iterable[str], *, approvals: bool = False) -> list[Log]:
        """Log filters, without the range: the accounts' transfers and authorisations.

        With ``approvals`` theirs, too.
        """
        transfer, used = token_abi().topic("Transfer"), token_abi().topic(_USED)
        ours, went = account_topics(accounts), [transfer, used]
        if approvals:
            went.append(token_abi().topic("Approval"))
        return [
            {"address": self.address, "topics": [went, ours]},
            {"address": self.address, "topics": [transfer, None, ours]},
        ]

    def is_transfer_from(self, log: Log, sender: str) -> bool:
        return bool(
            log["topics"][0] == token_abi().topic("Transfer")
            and log["topics"][1] == account_topic(sender)
            and log["address"].lower() == self.address.lower()
        )

    def events(self, logs: Sequence[Log]) -> Iterator[ChainEvent]:
        """The transfers and authorisations among ``logs``, which carry their block's time.

        An authorisation is told with the transfer that it made, the next one of its account; of one
        that moved nothing there is nothing to tell.
        """
        used: dict[tuple[str, str], Log] = {}
        for log in logs:
            if log["address"].lower() != self.address.lower():
                continue
            if log["topics"][0] == token_abi().topic(_USED):
                used[log["transactionHash"], log["topics"][1]] = log
                continue
            if log["topics"][0] != token_abi().topic("Transfer"):
                continue
            made_by = used.pop((log["transactionHash"], log["topics"][1]), None)
            yield from self._transfer(log, made_by)
        if used:
            raise ChainUnavailable("the endpoint leaves the transfer of an authorisation out")

    def _transfer(self, log: Log, used: Log | None) -> Iterator[ChainEvent]:
        values = token_abi().log("Transfer", log)
        if values["value"] > AMOUNT_MAX:
            return
        amount = Usdc.from_base_units(values["value"])
        if used is not None and amount:
            nonce = token_abi().log(_USED, used)["nonce"]
            yield event_of(
                EventKind.AUTHORISATION_USED,
                used,
                escrow_id=nonce,
                escrow_key=nonce,
                requester=values["from"],
                provider=values["to"],
                amount=amount,
            )
        yield event_of(
            EventKind.TRANSFER,
            log,
            sender=values["from"],
            recipient=values["to"],
            amount=amount,
        )

    def _call(
        self, kind: StepKind, data: str, usdc: Usdc | None, reference: str | None = None
    ) -> Call:
        return Call(
            kind=kind,
            to=self.address,
            data=data,
            gas_limit=GAS_LIMITS[kind.value],
            usdc=usdc,
            reference=reference,
        )
