"""Deploying the audited contracts and a treasury: what is missing, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.chain.safe.addresses import (
    CANONICAL,
    ROLES,
    SAFE,
    SAFE_SINGLETON_FACTORY,
    SINGLETON_FACTORY,
)
from coordinator.chain.safe.configuration import Places, set_up
from coordinator.chain.safe.creation_code import CreationCode
from coordinator.chain.safe.deploying import (
    deploy_canonical,
    deploy_safe,
    first_refusal,
    missing,
)
from coordinator.chain.safe.limits import ChainLimits
from coordinator.chain.safe.sending import Sender
from coordinator.chain.signers.signers import Signer
from coordinator.domain.errors import ConfigurationError, TxReverted
from tests.integration.local_chain import LocalChain
from tests.integration.treasuries import (
    OTHER_SALT,
    USUAL_SALT,
    SafeTreasury,
    deploy_treasury,
    lay_contracts,
    usual_limits,
)


def by_admin(chain: LocalChain) -> Sender:
    return Sender(chain.rpc, chain.admin)


def test_a_chain_that_has_nothing_gets_everything_once(chain: LocalChain) -> None:
    factories, contracts = missing(chain.rpc)
    assert factories == [SAFE_SINGLETON_FACTORY, SINGLETON_FACTORY]
    assert contracts == [*CANONICAL]

    done = deploy_canonical(by_admin(chain), CreationCode())

    assert len(done) == len(factories) + len(contracts)
    assert missing(chain.rpc) == ([], [])
    assert deploy_canonical(by_admin(chain), CreationCode(Path("/nowhere"))) == []


def test_one_that_is_missing_is_deployed_alone(chain: LocalChain) -> None:
    lay_contracts(chain)
    chain.rpc.call("anvil_setCode", ROLES.address, "0x")
    chain.rpc.call("anvil_setNonce", ROLES.address, "0x0")

    assert deploy_canonical(by_admin(chain), CreationCode()) == [ROLES.name]


def test_a_key_of_ones_own_pays_as_well(chain: LocalChain) -> None:
    signer = Signer.of_key(b"\x33" * 32)
    chain.fund(signer.address, usdc="0", wei=10**18)

    deploy_canonical(Sender(chain.rpc, signer.address, signer), CreationCode())

    assert missing(chain.rpc) == ([], [])


@pytest.mark.parametrize("address", [SINGLETON_FACTORY, SAFE.address, ROLES.address])
def test_other_code_at_an_address_is_refused(chain: LocalChain, address: str) -> None:
    lay_contracts(chain)
    code = str(chain.rpc.call("eth_getCode", address, "latest"))
    chain.rpc.call("anvil_setCode", address, code[:-2] + "00")

    with pytest.raises(ConfigurationError, match=address):
        deploy_canonical(by_admin(chain), CreationCode())


def test_nothing_is_sent_where_code_is_missing(chain: LocalChain, tmp_path: Path) -> None:
    before = chain.height
    with pytest.raises(ConfigurationError, match="SafeL2 1\\.4\\.1"):
        deploy_canonical(by_admin(chain), CreationCode(tmp_path))
    assert chain.height == before


def test_a_public_chain_without_safes_factory_is_told_whom_to_ask(
    chain: LocalChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    rpc_call = chain.rpc.call

    def call(method: str, *params: object) -> object:
        return "Geth/v1.16" if method == "web3_clientVersion" else rpc_call(method, *params)

    monkeypatch.setattr(chain.rpc, "call", call)
    before = chain.height
    with pytest.raises(ConfigurationError, match="safe-singleton-factory"):
        deploy_canonical(by_admin(chain), CreationCode())
    assert chain.height == before


def test_a_safe_is_created_once_at_its_predicted_address(treasury: SafeTreasury) -> None:
    sender = by_admin(treasury.chain)
    again = deploy_safe(sender, treasury.places, treasury.limits, salt_nonce=USUAL_SALT)
    assert again is False

    other = deploy_treasury(treasury.chain, treasury.limits, salt_nonce=OTHER_SALT)

    assert other.address != treasury.address
    assert other.places.roles != treasury.places.roles


def test_where_a_treasury_will_be_depends_on_its_owners_alone(treasury: SafeTreasury) -> None:
    deployed = treasury.chain.deployment
    fewer = usual_limits(treasury.chain, threshold=1)
    other = usual_limits(treasury.chain, providers=(treasury.chain.stranger,))

    def safe(limits: ChainLimits, salt: int) -> str:
        contracts = {"kernel": deployed.kernel, "vault": deployed.vault, "usdc": deployed.usdc}
        return Places.predicted(limits, **contracts, salt_nonce=salt).safe

    assert safe(other, USUAL_SALT) == treasury.address
    assert treasury.address not in (safe(fewer, USUAL_SALT), safe(other, OTHER_SALT))


def test_the_call_that_fails_is_named_where_the_safe_hides_it(treasury: SafeTreasury) -> None:
    calls = set_up(treasury.places, treasury.limits, salt_nonce=USUAL_SALT)

    told = first_refusal(treasury.chain.rpc, treasury.address, calls)
    assert told is not None
    assert told.startswith(f"deploy the Safe's roles {treasury.places.roles}: ")
    with pytest.raises(TxReverted, match="GS013"):
        treasury.owners_do(*calls)

    assert first_refusal(treasury.chain.rpc, treasury.address, calls[2:]) is None
