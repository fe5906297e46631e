"""The chain port: an EVM chain, a payer on it, and ACTP as the rail."""

from __future__ import annotations

from coordinator.chain.actp.contracts import ActpContracts
from coordinator.chain.actp.events import EventReader
from coordinator.chain.actp.rail import ActpRail
from coordinator.chain.actp.reads import EscrowReader
from coordinator.chain.evm.chain import EvmChain
from coordinator.chain.evm.contract_reader import ContractReader
from coordinator.chain.evm.fiat_token import FiatToken
from coordinator.chain.evm.logs import LogReader
from coordinator.chain.evm.payer import Payer, Wallet
from coordinator.chain.networks import Deployment, Network
from coordinator.chain.rpc.client import Rpc
from coordinator.chain.signers.signers import Signer
from coordinator.domain.chain.accounts import OwnAccount
from coordinator.domain.ports import Accounts


class ActpChain(EvmChain):
    """Acts for one account that pays through one kernel and vault, and reads for all of ours.

    ``payer`` is whose USDC is paid, by default the signer's own. ``wallet`` is one whose USDC is
    observed with the account's. ``check`` has to pass before anything is signed.
    """

    def __init__(
        self,
        rpc: Rpc,
        network: Network,
        deployment: Deployment,
        signer: Signer,
        *,
        confirmations: int,
        finality: str,
        max_fee_wei: int | None,
        payer: Payer | None = None,
        accounts: Accounts | None = None,
        wallet: str | None = None,
    ) -> None:
        kernel, vault = deployment.kernel, deployment.vault
        paying = payer or Wallet(signer.address)
        treasury = paying.treasury
        token = FiatToken(deployment.usdc, treasury)
        super().__init__(
            rpc,
            network,
            deployment.chain_id,
            signer,
            paying,
            token,
            ActpContracts(deployment, treasury),
            confirmations=confirmations,
            finality=finality,
            max_fee_wei=max_fee_wei,
            wallet=wallet,
        )
        ours = accounts or (lambda: (OwnAccount(treasury),))
        escrows = EscrowReader(ContractReader(rpc), token, kernel, vault, ours)
        self.escrow = escrows.escrow
        self.escrows_at = escrows.escrows_at
        self.windows = escrows.windows
        self.funded_by_treasury = escrows.funded_by_treasury
        self.usdc_of = escrows.usdc_of
        self.held_for = escrows.held_for
        self.authorisations_used = escrows.authorisations_used
        watched = paying.watched(kernel=kernel, signer=signer.address)
        events = EventReader(LogReader(rpc), escrows, token, kernel, vault, ours, watched)
        self.events = events.events
        self.tail = events.tail
        self.anything_after = events.anything_after
        rail = ActpRail(kernel, vault, treasury)
        self.create = rail.create
        self.link = rail.link
        self.cancel = rail.cancel
        self.reclaim = rail.reclaim
        self.settle = rail.settle
        self.dispute = rail.dispute
