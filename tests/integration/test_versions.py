"""Contracts of another version are refused before anything is asked of them."""

from __future__ import annotations

import pytest

from coordinator.chain.actp.checks import check_contracts, version_faults
from coordinator.domain.errors import ConfigurationError
from tests.integration.local_chain import LocalChain

# Answers 1 to every call: as a kernel would that returns an empty transaction for an unknown one.
YES = "0x600160005260206000f3"
# Answers nothing to every call.
NOTHING = "0x00"


def test_the_supported_version_has_no_faults(chain: LocalChain) -> None:
    assert version_faults(chain.rpc, chain.deployment) == []
    check_contracts(chain.rpc, chain.deployment)


def test_a_kernel_that_does_not_refuse_an_unknown_transaction_is_of_another_version(
    chain: LocalChain,
) -> None:
    chain.rpc.call("anvil_setCode", chain.deployment.kernel, YES)
    with pytest.raises(
        ConfigurationError, match=r"kernel .* is of a version that is not supported"
    ):
        check_contracts(chain.rpc, chain.deployment)


@pytest.mark.parametrize("what", ["kernel", "vault"])
def test_a_contract_that_lacks_a_function_is_of_another_version(
    chain: LocalChain, what: str
) -> None:
    chain.rpc.call("anvil_setCode", getattr(chain.deployment, what), NOTHING)
    assert any(what in fault for fault in version_faults(chain.rpc, chain.deployment))
