"""A Safe that signs: by ERC-1271 at every endpoint, and offline by its recorded owners."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import pytest

from coordinator.chain.evm.safes import Safes, safe_abi
from coordinator.chain.rpc.client import Call, RpcRefusal
from coordinator.chain.simulated import SimulatedNode, SimulatedRpc
from coordinator.chain.simulated.rpc import Ask
from coordinator.domain.chain.events import Block
from coordinator.domain.errors import ChainUnavailable, ConfigurationError
from coordinator.domain.signatures.faults import BadSignature, SignatureFault
from coordinator.domain.signatures.safe_signatures import SafeState, signers_of
from tests.integration.local_chain import LocalChain
from tests.integration.safes import (
    SIGNATURES,
    SafeWallet,
    create,
    deploy_safe,
    family,
    head,
    named,
    owner_accounts,
)

DIGEST: Final = bytes(range(32))
F = SignatureFault


def offline(
    safe: SafeWallet, signature: bytes, state: SafeState | None = None
) -> tuple[str, ...] | SignatureFault:
    """The owners who signed by the export alone, or why they did not."""
    try:
        return signers_of(DIGEST, signature, chain_id=safe.chain_id, state=state or safe.state())
    except BadSignature as refused:
        return refused.code


def test_what_the_owners_signed_counts_on_chain_and_from_the_record(held_chain: LocalChain) -> None:
    first, second, third = owners = owner_accounts(3)
    safe = deploy_safe(held_chain, owners, 2)
    state = safe.state()
    assert (state.threshold, state.version) == (2, "1.5.0")
    assert set(state.owners) == {owner.address for owner in owners}
    assert (state.block_number, state.block_hash) == (
        head(held_chain).number,
        head(held_chain).hash,
    )
    for signers in ((first, second), (second, third), (first, second, third)):
        signature = safe.sign(DIGEST, signers)
        assert safe.accepts(DIGEST, signature)
        assert offline(safe, signature) == tuple(signer.address for signer in signers)
        assert not safe.accepts(bytes(32), signature)


# Of each form whether the Safe takes it, and what the export proves by itself.
JUDGED: Final[dict[str, tuple[bool, SignatureFault | None]]] = {
    "as many as it asks for": (True, None),
    "more than it asks for": (True, None),
    "eth_sign": (True, None),
    "one owner short": (False, F.TOO_FEW_OWNERS),
    "a stranger": (False, F.NOT_AN_OWNER),
    "an owner twice": (False, F.NOT_IN_ORDER),
    "another order": (False, F.NOT_IN_ORDER),
    "of another Safe with these owners": (False, F.NOT_AN_OWNER),
    "of the bare digest": (False, F.NOT_AN_OWNER),
    "high s": (True, F.HIGH_S),
    "bytes behind it": (True, F.MALFORMED),
    "a byte short": (False, F.MALFORMED),
    "empty": (False, F.MALFORMED),
    "another v": (False, F.MALFORMED),
    "r of nothing": (False, F.MALFORMED),
    "a Safe that owns it": (True, F.CONTRACT_SIGNATURE),
    "a Safe that owns it, one short": (False, F.CONTRACT_SIGNATURE),
    "an owner's contract that is none": (False, F.CONTRACT_SIGNATURE),
    "a contract's part that points inside": (False, F.CONTRACT_SIGNATURE),
    "a contract's part that points outside": (False, F.CONTRACT_SIGNATURE),
    "a contract's part that is cut off": (False, F.CONTRACT_SIGNATURE),
    "a hash that nobody approved": (False, F.APPROVED_HASH),
}


def test_every_form_of_a_signature_is_judged() -> None:
    assert list(JUDGED) == list(SIGNATURES)


@pytest.mark.parametrize("form", JUDGED)
def test_a_form_of_signature_on_chain_and_from_the_record(
    held_chain: LocalChain, form: str
) -> None:
    accepted, fault = JUDGED[form]
    safe = family(held_chain)
    signature = SIGNATURES[form](safe, DIGEST)
    assert safe.accepts(DIGEST, signature) is accepted
    found = offline(safe, signature)
    assert found is fault if fault is not None else len(found) >= safe.threshold


def test_an_approved_hash_counts_on_chain_and_proves_nothing_in_an_export(
    chain: LocalChain,
) -> None:
    first, second = owners = owner_accounts(2)
    safe = deploy_safe(chain, owners, 2)
    with chain.as_account(first.address):
        chain.fund(first.address, usdc="0", wei=10**18)
        safe.owner_approves(first, DIGEST)
    signature = named(first.address) + b"\1" + safe.sign(DIGEST, [second])
    assert safe.accepts(DIGEST, signature)
    assert offline(safe, signature) is F.APPROVED_HASH


def test_what_owners_signed_before_they_left_stays_proved_at_its_block(
    held_chain: LocalChain,
) -> None:
    first, second, third, fourth = owner_accounts(4)
    safe = deploy_safe(held_chain, [first, second, third], 2)
    signature, then, before = safe.sign(DIGEST, [first, second]), head(held_chain), safe.state()
    safe.swap_owner(second, fourth)
    after = safe.state()
    assert not safe.accepts(DIGEST, signature)
    assert offline(safe, signature, after) is F.NOT_AN_OWNER
    # The record and the chain agree about the block at which it was given.
    assert offline(safe, signature, before) == (first.address, second.address)
    assert safe.accepts(DIGEST, signature, then)
    assert safe.state(then) == before == SafeState.from_dict(before.as_dict())
    assert set(after.owners) == {first.address, third.address, fourth.address}


def test_owners_that_were_made_up_are_found_at_the_block_of_the_record(
    held_chain: LocalChain,
) -> None:
    first, second, forger = owner_accounts(3)
    safe = deploy_safe(held_chain, [first, second], 2)
    honest = safe.state()
    forged = replace(honest, owners=(forger.address,), threshold=1)
    signature = safe.sign(DIGEST, [forger])
    assert offline(safe, signature, forged) == (forger.address,)
    there = Block(forged.block_number, forged.block_hash, 0)
    assert safe.state(there) == honest != forged
    assert not safe.accepts(DIGEST, signature, there)


def test_a_block_that_was_replaced_tells_nothing(held_chain: LocalChain) -> None:
    safe = deploy_safe(held_chain, owner_accounts(2), 2)
    held_chain.mine()
    gone, signature = head(held_chain), safe.sign(DIGEST)
    assert safe.accepts(DIGEST, signature, gone)
    held_chain.rpc.call("anvil_reorg", 1, [])
    held_chain.mine()
    for ask in (lambda: safe.accepts(DIGEST, signature, gone), lambda: safe.state(gone)):
        with pytest.raises(ChainUnavailable, match="contradict each other about its hash"):
            ask()


# Contracts that are no Safe, by hand: on Anvil.


def answering(word: str, size: int) -> str:
    """Code that answers every call with the first bytes of a word, and zeros behind it."""
    return f"7f{word.ljust(64, '0')}5f5260{size:02x}5ff3"


MAGIC: Final = "1626ba7e"
ODD: Final = {
    "the word": (answering(MAGIC, 32), True),
    "a shorter word": (answering(MAGIC, 31), False),
    "four bytes": (answering(MAGIC, 4), False),
    "a longer word": (answering(MAGIC, 33), False),
    "two words": (answering(MAGIC, 64), False),
    "the word and dirt": (answering(MAGIC + "1".rjust(56, "0"), 32), False),
    "the word on the right": (answering(MAGIC.rjust(64, "0"), 32), False),
    "true": (answering("1".rjust(64, "0"), 32), False),
    "another ERC's word": (answering("20c13b0b", 32), False),
    "nothing": ("00", False),
    "a revert": ("5f5ffd", False),
    "the word in a revert": (answering(MAGIC, 32)[:-2] + "fd", False),
}


@pytest.mark.parametrize("name", ODD)
def test_only_the_whole_word_says_that_a_contract_signed(chain: LocalChain, name: str) -> None:
    code, says = ODD[name]
    contract = create_odd(chain, code)
    safes = Safes(chain.rpc)
    assert safes.is_valid(contract, DIGEST, b"\1" * 65, block=head(chain)) is says
    with pytest.raises(ConfigurationError, match="does not answer as a Safe does"):
        safes.state(contract, block=head(chain))


@pytest.mark.parametrize("code", ["fe", "5b5f56"], ids=["halts", "takes all gas"])
def test_a_call_that_the_node_could_not_run_is_no_answer(chain: LocalChain, code: str) -> None:
    with pytest.raises(ChainUnavailable, match="could not run a call"):
        Safes(chain.rpc).is_valid(create_odd(chain, code), DIGEST, b"\1" * 65, block=head(chain))


def create_odd(chain: LocalChain, code: str) -> str:
    return create(chain, bytes.fromhex(f"60{len(code) // 2:02x}8060095f395ff3{code}"))


def test_an_address_without_code_has_signed_nothing(held_chain: LocalChain) -> None:
    safes, block = Safes(held_chain.rpc), head(held_chain)
    assert not safes.is_valid(held_chain.stranger, DIGEST, b"\1" * 65, block=block)
    with pytest.raises(ConfigurationError, match="there is no contract at the Safe's address"):
        safes.state(held_chain.stranger, block=block)


def test_another_contract_is_no_safe(held_chain: LocalChain) -> None:
    safes, block = Safes(held_chain.rpc), head(held_chain)
    for contract in (held_chain.deployment.kernel, held_chain.deployment.vault):
        assert not safes.is_valid(contract, DIGEST, b"\1" * 65, block=block)
        with pytest.raises(ConfigurationError, match="does not answer as a Safe does"):
            safes.state(contract, block=block)


# Two endpoints, of which the first tells something else: simulated.

HERE, THERE = "http://here.localhost", "http://there.localhost"
Lie = Callable[[str, Sequence[Any], Any], Any]


@dataclass(slots=True)
class Pair:
    """A Safe that two endpoints tell of."""

    rpc: SimulatedRpc
    safe: SafeWallet
    block: Block

    def lie(self, lie: Lie, *, at: Sequence[str] = (HERE,)) -> None:
        """From now on these endpoints change what they tell."""

        def tell(url: str, calls: Sequence[Call], ask: Ask) -> list[Any]:
            told = zip(calls, ask(url, calls), strict=True)
            return [lie(*call, answer) if url in at else answer for call, answer in told]

        self.rpc.tell = tell

    def ask(self) -> tuple[bool, SafeState]:
        signature = self.safe.sign(DIGEST)
        return self.safe.accepts(DIGEST, signature, self.block), self.safe.state(self.block)


@pytest.fixture
def pair(tmp_path: Any) -> Iterator[Pair]:
    node = SimulatedNode(84532)
    rpc = SimulatedRpc({HERE: node, THERE: node})
    safe = deploy_safe(LocalChain(rpc, tmp_path), owner_accounts(3), 2)
    yield Pair(rpc, safe, head(safe.chain))


def called(function: str, answer: Callable[[Any], Any]) -> Lie:
    selector = "0x" + MAGIC if function == "isValidSignature" else safe_abi().call(function)

    def lie(method: str, params: Sequence[Any], told: Any) -> Any:
        mine = method == "eth_call" and params[0]["data"].startswith(selector)
        return answer(told) if mine else told

    return lie


def of(wanted: str, answer: Any) -> Lie:
    return lambda method, params, told: answer if method == wanted else told


REVERT = RpcRefusal(3, "execution reverted", "0x")
ABOUT_SIGNATURE: Final = {
    "says yes": called("isValidSignature", lambda _: "0x" + MAGIC.ljust(64, "0")),
    "says no": called("isValidSignature", lambda _: REVERT),
}
ABOUT_SAFE: Final = {
    "one owner is enough": called("getThreshold", lambda _: f"0x{1:064x}"),
    "another owner": called("getOwners", lambda told: told[:-4] + "beef"),
    "another version": called("VERSION", lambda told: told.replace("312e35", "312e34")),
    "no contract": of("eth_getCode", "0x"),
    "no Safe": called("getOwners", lambda _: REVERT),
}


@pytest.mark.parametrize("name", ABOUT_SIGNATURE)
def test_endpoints_that_contradict_each_other_about_a_signature(pair: Pair, name: str) -> None:
    good, bad = pair.safe.sign(DIGEST), pair.safe.sign(DIGEST)[:65]
    signature = bad if name == "says yes" else good
    honest = pair.safe.accepts(DIGEST, signature, pair.block)
    assert honest is (name == "says no")
    pair.lie(ABOUT_SIGNATURE[name])
    with pytest.raises(ChainUnavailable, match="contradict each other about a signature"):
        pair.safe.accepts(DIGEST, signature, pair.block)


@pytest.mark.parametrize("name", ABOUT_SAFE)
def test_endpoints_that_contradict_each_other_about_a_safe(pair: Pair, name: str) -> None:
    pair.lie(ABOUT_SAFE[name])
    with pytest.raises(ChainUnavailable, match="contradict each other about the Safe"):
        pair.safe.state(pair.block)


NO_ANSWER: Final = {
    "a fault of the node": called("isValidSignature", lambda _: RpcRefusal(-32000, "overloaded")),
    "a pruned state": of("eth_call", RpcRefusal(-32000, "missing trie node")),
    "null": of("eth_call", None),
    "a number": called("isValidSignature", lambda _: 1),
    "digits": called("isValidSignature", lambda _: MAGIC.ljust(64, "0")),
}


@pytest.mark.parametrize("at", [(HERE,), (HERE, THERE)], ids=["one", "all"])
@pytest.mark.parametrize("name", NO_ANSWER)
def test_an_endpoint_that_does_not_answer_has_not_said_no(
    pair: Pair, name: str, at: Sequence[str]
) -> None:
    pair.lie(NO_ANSWER[name], at=at)
    with pytest.raises(ChainUnavailable):
        pair.safe.accepts(DIGEST, pair.safe.sign(DIGEST), pair.block)


@pytest.mark.parametrize("method", ["eth_getCode", "eth_call", "eth_getBlockByNumber"])
@pytest.mark.parametrize("answer", [RpcRefusal(-32000, "overloaded"), 7, []], ids=str)
def test_a_safe_that_an_endpoint_does_not_tell_of_is_not_no_safe(
    pair: Pair, method: str, answer: Any
) -> None:
    pair.lie(of(method, answer))
    with pytest.raises(ChainUnavailable):
        pair.safe.state(pair.block)


def test_with_all_endpoints_silent_nothing_is_said(pair: Pair) -> None:
    def silent(url: str, calls: Sequence[Call], ask: Ask) -> list[Any]:
        raise ChainUnavailable(f"{url} does not answer")

    pair.rpc.tell = silent
    for ask in (pair.ask, pair.safe.state):
        with pytest.raises(ChainUnavailable):
            ask()


def test_an_endpoint_that_is_down_leaves_the_word_to_the_other(pair: Pair) -> None:
    def down(url: str, calls: Sequence[Call], ask: Ask) -> list[Any]:
        if url == HERE:
            raise ChainUnavailable("down")
        return ask(url, calls)

    before = pair.ask()
    pair.rpc.tell = down
    assert pair.ask() == before


def test_an_endpoint_behind_is_waited_for(pair: Pair) -> None:
    newest, asked = pair.block.number, [0]

    def behind(method: str, params: Sequence[Any], told: Any) -> Any:
        """It has one block more at every look, and none of what comes after."""
        if method == "eth_getBlockByNumber":
            asked[0] += 1
        has = newest - 4 + asked[0]
        if method == "eth_blockNumber":
            return hex(min(newest, has))
        if has >= newest:
            return told
        return None if method == "eth_getBlockByNumber" else RpcRefusal(-32000, "header not found")

    before = pair.ask()
    pair.lie(behind)
    assert pair.ask() == before
    assert asked[0] == 5


def test_an_endpoint_that_stands_still_leaves_the_word_to_the_other(pair: Pair) -> None:
    def still(method: str, params: Sequence[Any], told: Any) -> Any:
        if method == "eth_blockNumber":
            return hex(pair.block.number - 1)
        return None if method == "eth_getBlockByNumber" else RpcRefusal(-32000, "header not found")

    before = pair.ask()
    pair.lie(still)
    assert pair.ask() == before


def test_a_block_that_an_endpoint_has_otherwise_is_no_block_to_ask_about(pair: Pair) -> None:
    made_up = replace(pair.block, hash="0x" + "ab" * 32)
    with pytest.raises(ChainUnavailable, match="contradict each other about its hash"):
        pair.safe.state(made_up)
    with pytest.raises(ChainUnavailable, match="no endpoint has block"):
        pair.safe.state(replace(pair.block, number=pair.block.number + 1))


def test_a_safe_whose_owners_sign_for_every_chain_is_refused(pair: Pair) -> None:
    older = called("VERSION", lambda told: told.replace("312e35", "312e32"))
    pair.lie(older, at=(HERE, THERE))
    with pytest.raises(ConfigurationError, match=r"version '1\.2\.0': use one of 1\.3\.0 or later"):
        pair.safe.state(pair.block)
