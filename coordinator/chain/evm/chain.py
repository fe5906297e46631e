"""One signer on an EVM chain: it reads blocks and receipts, signs and sends for a payer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Final

from coordinator.chain.abi import REVERTED, quantity, refused_by_contract
from coordinator.chain.evm.answers import block_of, decoded, receipt_of, refusal_of, sent_of
from coordinator.chain.evm.contracts import RailContracts
from coordinator.chain.evm.endpoint_check import check_endpoints
from coordinator.chain.evm.fiat_token import FiatToken
from coordinator.chain.evm.head import HeadReader
from coordinator.chain.evm.lapse import Lapse
from coordinator.chain.evm.payer import Payer
from coordinator.chain.evm.safes import Safes
from coordinator.chain.evm.send_answers import best
from coordinator.chain.evm.used_nonces import confirm_count, mined_at_nonce
from coordinator.chain.networks import Network
from coordinator.chain.rpc.client import Rpc, RpcRefusal
from coordinator.chain.signers.signers import Signer
from coordinator.domain.address import keccak256
from coordinator.domain.chain.events import Block
from coordinator.domain.chain.gas import GAS_LIMITS, Fees
from coordinator.domain.chain.steps import Attempt, Call, Receipt, StepKind
from coordinator.domain.errors import ChainUnavailable
from coordinator.domain.ports import Observation, SafeReader, SendAnswer, Sent
from coordinator.domain.typed_data import Domain
from coordinator.domain.usdc import Usdc

# A whole block has the receipts of others too, each of a kilobyte.
_WHOLE_BLOCK_FROM: Final = 8


class EvmChain:
    """Reads and acts for one treasury, on whatever rail ``contracts`` are."""

    def __init__(
        self,
        rpc: Rpc,
        network: Network,
        chain_id: int,
        signer: Signer,
        payer: Payer,
        token: FiatToken,
        contracts: RailContracts,
        *,
        confirmations: int,
        finality: str,
        max_fee_wei: int | None,
        wallet: str | None = None,
    ) -> None:
        self._rpc = rpc
        self._network = network
        self._signer = signer
        self.payer = payer
        self._token = token
        self._contracts = contracts
        self.chain_id = chain_id
        rpc.expect_chain(chain_id)
        head = HeadReader(
            rpc,
            network,
            signer.address,
            payer,
            token,
            contracts,
            confirmations=confirmations,
            finality=finality,
            max_fee_wei=max_fee_wei,
            wallet=wallet,
        )
        self._checked = False
        self._no_block_receipts = Lapse()
        self.safes: SafeReader = Safes(rpc)
        self.observe = head.observe
        self.head = head.newest
        self.confirm = head.confirm
        self.composed = payer.composed
        self.withdraw = token.withdraw
        self.sweep = token.sweep
        self.top_up = token.top_up
        self.mint = token.mint

    @property
    def host(self) -> str:
        return self._rpc.current_host

    @property
    def treasury(self) -> str:
        return self.payer.treasury

    @property
    def account(self) -> str:
        return self._signer.address

    @property
    def approves_each(self) -> bool:
        return self.payer.approves_each

    @cached_property
    @decoded
    def token_domain(self) -> Domain:
        """The EIP-712 domain in which USDC's authorisations are signed; asked once."""
        return self._token.domain(self._rpc, self.chain_id)

    def approve(self, amount: Usdc) -> Call:
        return self._token.approve(self._contracts.spender, amount)

    def fill(self) -> Call:
        return Call(kind=StepKind.FILL, to=self.account, data="0x", gas_limit=GAS_LIMITS["fill"])

    def check(self) -> None:
        """Refuse an endpoint or contracts that are not what the settings say; nothing is signed."""
        if self._checked:
            return
        check_endpoints(self._rpc, self._network, self.chain_id)
        self._contracts.check(self._rpc)
        self._checked = True

    @decoded
    def block(self, number: int) -> Block:
        header = self._rpc.call("eth_getBlockByNumber", hex(number), False)
        if header is None:
            raise ChainUnavailable(f"the endpoint does not have block {number}")
        return block_of(header)

    @decoded
    def hashes(self, number: int, *, all_of_them: bool = False) -> Sequence[str]:
        """The block's hash as each endpoint tells it; those that don't have it are left out.

        With ``all_of_them`` ChainUnavailable unless every endpoint answers.
        """
        asked = [("eth_getBlockByNumber", [hex(number), False])]
        headers = self._rpc.everywhere(asked, all_of_them=all_of_them)
        told = [str(h["hash"]) for (h,) in headers if isinstance(h, dict) and h.get("hash")]
        if not told:
            raise ChainUnavailable(f"no endpoint has block {number}")
        return told

    @decoded
    def receipts(
        self, hashes: Sequence[str], *, block: Block | None = None
    ) -> Mapping[str, Receipt]:
        """Read receipts of blocks that are on the chain; of many in ``block``, all in one call."""
        found: dict[str, Any] = {}
        if block is not None and len(hashes) >= _WHOLE_BLOCK_FROM:
            found = self._receipts_of_block(block, set(hashes))
        single = [tx_hash for tx_hash in hashes if tx_hash not in found]
        answers = self._rpc.batch([("eth_getTransactionReceipt", [h]) for h in single])
        _check_answered(answers, "receipts")
        found |= {
            tx_hash: answer
            for tx_hash, answer in zip(single, answers, strict=True)
            if isinstance(answer, dict) and answer.get("blockNumber")
        }
        # A preconfirmed or orphaned receipt names a block that is not on the chain.
        sealed = {hex(block.number): block.hash} if block is not None else {}
        numbers = sorted({answer["blockNumber"] for answer in found.values()} - sealed.keys())
        headers = self._rpc.batch([("eth_getBlockByNumber", [n, False]) for n in numbers])
        _check_answered(headers, "the blocks of receipts")
        sealed |= {
            number: header["hash"]
            for number, header in zip(numbers, headers, strict=True)
            if isinstance(header, dict)
        }
        return {
            tx_hash: receipt_of(tx_hash, answer)
            for tx_hash, answer in found.items()
            if sealed.get(answer["blockNumber"]) == answer["blockHash"]
        }

    def _receipts_of_block(self, block: Block, wanted: set[str]) -> dict[str, Any]:
        """Read a block's receipts at once; none where the endpoint can't, or lately could not."""
        if self._no_block_receipts.pass_by():
            return {}
        answer = self._rpc.batch([("eth_getBlockReceipts", [block.hash])])[0]
        if isinstance(answer, list):
            return {r["transactionHash"]: r for r in answer if r["transactionHash"] in wanted}
        self._no_block_receipts.begin()
        return {}

    def mined_at_nonce(self, nonce: int, *, by: int) -> str | None:
        return mined_at_nonce(self._rpc, self.account, nonce, by=by)

    @decoded
    def confirm_nonce(self, seen: Observation, *, known: int) -> None:
        confirm_count(self._rpc, self.account, seen.nonce, at=seen.head.number, known=known)

    def sign(self, call: Call, *, nonce: int, fees: Fees) -> Attempt:
        self.check()
        return self._signer.sign(call, nonce=nonce, fees=fees, chain_id=self.chain_id)

    def send(self, raws: Sequence[str], *, everywhere: bool = False) -> Sequence[SendAnswer]:
        calls = [("eth_sendRawTransaction", [raw]) for raw in raws]
        try:
            told = self._rpc.everywhere(calls) if everywhere else [self._rpc.send(calls)]
        except ChainUnavailable as fault:
            return [SendAnswer(Sent.UNKNOWN, str(fault))] * len(raws)
        return [
            best([sent_of(answer) for answer in answers]) for answers in zip(*told, strict=True)
        ]

    def send_gas(self, to: str) -> str | None:
        """Send all ETH but the fee to another account; None where nothing would arrive.

        ChainUnavailable above the fee ceiling, or when no endpoint takes it.
        """
        self.check()
        seen = self.observe()
        if seen.fees is None:
            raise ChainUnavailable("the fee is above COORDINATOR_MAX_FEE_GWEI: try again later")
        gas = GAS_LIMITS["fill"]
        value = seen.gas_balance_wei - seen.fees.signed_wei(gas)
        if value <= 0:
            return None
        raw = self._signer.sign_raw(
            {
                "type": 2,
                "chainId": self.chain_id,
                "nonce": seen.nonce,
                "to": to,
                "value": value,
                "data": "0x",
                "gas": gas,
                "maxFeePerGas": seen.fees.max_fee_per_gas,
                "maxPriorityFeePerGas": seen.fees.max_priority_fee_per_gas,
            }
        )
        (answer,) = self.send([raw], everywhere=True)
        if answer.sent is not Sent.ACCEPTED:
            raise ChainUnavailable(f"the ETH was not taken by the endpoint: {answer.said[:200]}")
        return "0x" + keccak256(bytes.fromhex(raw[2:])).hex()

    def look_elsewhere(self, *, above: int) -> bool:
        return self._rpc.use_where(("eth_blockNumber", []), lambda said: quantity(said) > above)

    def turn_away(self) -> None:
        self._rpc.use_next()

    @decoded
    def refusal(self, call: Call, *, block_number: int | None = None) -> str | None:
        """Why ``call`` would revert at a block's end (latest: None); None if it succeeds."""
        at = "latest" if block_number is None else hex(block_number)
        (made,) = self.payer.composed([call])
        request = {"from": self.account, "to": made.to, "data": made.data}
        answer = self._rpc.batch([("eth_call", [request, at])])[0]
        if not isinstance(answer, RpcRefusal):
            return None
        if (said := self.payer.reason(answer.data)) is not None:
            return said
        within = self._within(made, at) if refused_by_contract(answer) else None
        return refusal_of(within or answer, self._contracts.abis())

    def _within(self, call: Call, at: str) -> RpcRefusal | None:
        """The refusal of the call that the payer's own contract makes; None where nobody tells."""
        data = self.payer.reading(call)
        if data is None:
            return None
        request = {"from": self.account, "to": call.to, "data": data}
        answer = self._rpc.batch([("eth_call", [request, at])])[0]
        found = self.payer.revert_data(answer) if isinstance(answer, str) else None
        return RpcRefusal(REVERTED, "execution reverted", found) if found is not None else None


def _check_answered(answers: Sequence[Any], what: str) -> None:
    """ChainUnavailable for an error of the node, which is not the answer that there is none."""
    refused = next((a for a in answers if isinstance(a, RpcRefusal)), None)
    if refused is not None:
        raise ChainUnavailable(f"the endpoint refused {what}: {refused.message[:200]}")
