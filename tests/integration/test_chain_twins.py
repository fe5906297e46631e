"""The simulated contracts against the compiled ones: the same acts at the same seconds.

Accounts are the same on both, and so are the kernel's ids; the contracts' own addresses are
replaced by names. Everything else has to be equal to the last byte.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest

from coordinator.chain.abi import Abi, token_abi
from coordinator.chain.actp.abi import kernel_abi, vault_abi
from coordinator.chain.evm.safes import safe_abi
from coordinator.chain.rpc.client import RpcRefusal
from coordinator.chain.signers.secp256k1 import ORDER
from coordinator.domain.usdc import ZERO, Usdc
from tests.integration.authorisations import FOR_EVER, Authorisation
from tests.integration.chains import CHAINS, open_chain
from tests.integration.local_chain import LocalChain
from tests.integration.safes import SIGNATURES, family
from tests.integration.test_kernel_table import EFFECTS, NEVER_CREATED, WHAT, Board, Effect

_START = 2_000_000_000
_STEP_SECONDS = 10
_WORD = "0" * 24
# What a call of each costs, simulated over real: a constant stands for many paths.
_GAS_LEAST, _GAS_MOST = 0.94, 2.2

_ADMINISTRATION: list[tuple[str, Abi, str, tuple[Any, ...]]] = [
    ("usdc", token_abi(), "mint", ("stranger", 5)),
    ("usdc", token_abi(), "approve", ("vault", 7)),
    ("usdc", token_abi(), "transfer", ("stranger", 0)),
    ("usdc", token_abi(), "configureMinter", ("stranger", 7)),
    ("usdc", token_abi(), "blacklist", ("stranger",)),
    ("usdc", token_abi(), "unBlacklist", ("stranger",)),
    ("usdc", token_abi(), "pause", ()),
    ("usdc", token_abi(), "unpause", ()),
    ("kernel", kernel_abi(), "pause", ()),
    ("kernel", kernel_abi(), "approveEscrowVault", ("stranger", True)),
    ("kernel", kernel_abi(), "approveEscrowVault", ("vault", False)),
    ("kernel", kernel_abi(), "setArchiveTreasury", ("stranger",)),
    ("kernel", kernel_abi(), "updateFeeRecipient", ("stranger",)),
    # Refused: nothing is left of them.
    ("kernel", kernel_abi(), "unpause", ()),
    ("kernel", kernel_abi(), "updateFeeRecipient", ("nobody",)),
    ("vault", vault_abi(), "payout", (NEVER_CREATED, "stranger", 1)),
]
# A wallet whose key is known, and the nonce of all that it signs.
_WALLET_KEY = "0x" + "17" * 32
_NONCE = "0x" + "2a" * 32

Change = Callable[["Twin", Authorisation], tuple[Authorisation, str | None]]


def _AS_IT_IS(twin: Twin, given: Authorisation) -> tuple[Authorisation, str | None]:
    return given, None


def _signed(change: Callable[[bytes], bytes]) -> Change:
    return lambda twin, given: (given, given.call(change(given.signature())))


def _listed(function: str, *args: str) -> Change:
    def change(twin: Twin, given: Authorisation) -> tuple[Authorisation, str | None]:
        values = [given.owner if arg == "wallet" else twin.board.who[arg] for arg in args]
        twin.chain.token_admin(function, *values)
        twin.chain.mine()
        return given, None

    return change


def _with(**values: Any) -> Change:
    return lambda twin, given: (replace(given, **values), None)


def _with_high_s(signature: bytes) -> bytes:
    s = ORDER - int.from_bytes(signature[32:64], "big")
    return signature[:32] + s.to_bytes(32, "big") + bytes([55 - signature[64]])


_REFUSED: dict[str, Change] = {
    "not valid yet": _with(valid_after=FOR_EVER),
    "expired": _with(valid_before=1),
    "more than it has": _with(amount=Usdc("1000.00")),
    "to nobody": _with(to="0x" + "00" * 20),
    "by another key": lambda twin, given: (
        given,
        given.call(replace(given, key="0x" + "18" * 32).signature()),
    ),
    "of another amount": lambda twin, given: (
        given,
        replace(given, amount=Usdc("2.00")).call(given.signature()),
    ),
    "too short": _signed(lambda signature: signature[:64]),
    "upper s": _signed(_with_high_s),
    "wrong v": _signed(lambda signature: signature[:64] + b"\x01"),
    "no point of the curve": _signed(lambda signature: bytes(64) + b"\x1b"),
    "the payer is listed": _listed("blacklist", "wallet"),
    "the payee is listed": _listed("blacklist", "stranger"),
    "the token is paused": _listed("pause"),
}


class Twin:
    """A board whose blocks are ten seconds apart, and what can be seen of it, with names."""

    def __init__(self, chain: LocalChain) -> None:
        self.chain = chain
        self._next = _START
        send, mine = chain.send, chain.mine

        def send_timed(*args: Any, **fields: Any) -> str:
            self._step()
            chain.hold_blocks()
            return send(*args, **fields)

        def mine_timed(blocks: int = 1) -> None:
            mine(blocks)
            chain.rpc.call("evm_setAutomine", True)

        chain.send, chain.mine = send_timed, mine_timed  # type: ignore[method-assign]
        self.board = Board(chain)
        self.board.escrows["-"] = NEVER_CREATED
        self.board.escrows["disputed by the provider"] = self.board.make("disputed by the provider")
        chain.send, chain.mine = send, mine  # type: ignore[method-assign]
        chain.hold_blocks()
        d = chain.deployment
        self.contracts = {"kernel": d.kernel, "vault": d.vault, "usdc": d.usdc}

    def _step(self) -> None:
        self.next_at(self._next)
        self._next += _STEP_SECONDS

    def next_at(self, second: int) -> None:
        self.chain.rpc.call("evm_setNextBlockTimestamp", second)

    def named(self, answer: Any) -> Any:
        """The answer with the contracts' addresses replaced by their names."""
        text = json.dumps(answer).lower()
        for name, address in self.contracts.items():
            text = text.replace(address[2:].lower(), f"<{name}>")
        return json.loads(text)

    def done(self, sender: str, to: str, data: str) -> dict[str, Any]:
        receipt = self.chain.receipt(self._mined(sender, to, data))
        return {
            "status": receipt["status"],
            "logs": self.named([[g["address"], g["topics"], g["data"]] for g in receipt["logs"]]),
            "gas": int(receipt["gasUsed"], 16),
        }

    def _mined(self, sender: str, to: str, data: str) -> str:
        tx_hash = self.chain.send(sender, to, data)
        self.chain.mine()
        return tx_hash

    def effect(self, effect: Effect) -> dict[str, Any]:
        """The step's receipt, and all that the contracts then say of its escrow."""
        board = self.board
        given, who, when, what = effect.step
        escrow_id = board.escrows[given]
        at = self._next if when == "now" else board.time(when, escrow_id)
        data = WHAT[what](board, escrow_id, at)
        self.next_at(at)
        found = self.done(board.who[who], self.contracts["kernel"], data)
        key = board.keys.get(escrow_id, NEVER_CREATED)
        found["said"] = [
            self._said("kernel", kernel_abi().call("getTransaction", escrow_id)),
            self._said("vault", vault_abi().call("escrows", key)),
            self._said("vault", vault_abi().call("remaining", key)),
            self._said("vault", vault_abi().call("bondBalance", escrow_id)),
            *(
                self._said("usdc", token_abi().call("balanceOf", account))
                for account in board.who.values()
            ),
            *(
                self._said("usdc", token_abi().call("allowance", account, board.who["vault"]))
                for account in board.who.values()
            ),
        ]
        return found

    def _said(self, contract: str, data: str) -> Any:
        asked = {"to": self.contracts[contract], "data": data}
        (answer,) = self.chain.rpc.batch([("eth_call", [asked, "latest"])])
        if isinstance(answer, RpcRefusal):
            answer = [answer.code, answer.message, answer.data]
        return self.named(answer)

    def administered(self, contract: str, abi: Abi, function: str, args: Any) -> dict[str, Any]:
        board = self.board
        values = [board.who.get(a, a) if isinstance(a, str) else a for a in args]
        self._step()
        data = abi.call(function, *values)
        return self.done(board.who["admin"], self.contracts[contract], data)

    def fund_wallet(self) -> None:
        wallet = Authorisation(self.chain, _WALLET_KEY, "", ZERO).owner
        self.chain.set_balance(wallet, Usdc("5.00"))

    def safe(self) -> dict[str, Any]:
        """What a Safe says of itself, and of every form of a signature."""
        safe, digest = family(self.chain), b"\x17" * 32
        self.contracts |= {"safe": safe.address, "its owner": safe.owners[0].address}
        asked = {name: safe_abi().call(name) for name in ("VERSION", "getOwners", "getThreshold")}
        for form, made in SIGNATURES.items():
            asked[form] = safe_abi().call("isValidSignature", digest, made(safe, digest))
        return {name: self._said("safe", call) for name, call in asked.items()}

    def authorised(self, change: Change, *, by_parts: bool = False) -> dict[str, Any]:
        """What a payment by an authorisation leaves, and why the token refuses it (again)."""
        self._step()
        before = Authorisation(
            self.chain,
            _WALLET_KEY,
            self.board.who["stranger"],
            Usdc("3.00"),
            nonce=_NONCE,
            valid_after=self._next - _STEP_SECONDS - 1,
            valid_before=self._next - _STEP_SECONDS + 1,
        )
        given, data = change(self, before)
        data = given.call_by_parts() if by_parts else data or given.call()
        found = self.done(self.board.who["admin"], self.contracts["usdc"], data)
        state = token_abi().call("authorizationState", given.owner, _NONCE)
        balance = token_abi().call("balanceOf", given.owner)
        # Behind a reason Circle's compiler leaves what was in memory: its words are compared.
        code, why, _ = self._said("usdc", data)
        said = code, why, self._said("usdc", state), self._said("usdc", balance)
        return found | {"said": said}

    def getters(self) -> dict[str, Any]:
        """What every view of the contracts says that takes no argument, or one account."""
        found = {}
        for name, abi in (("kernel", kernel_abi()), ("vault", vault_abi()), ("usdc", token_abi())):
            for item in abi.items:
                if item["type"] != "function" or item["stateMutability"] not in ("view", "pure"):
                    continue
                # A hash of the address, which the chains have each another of.
                if item["name"] == "DOMAIN_SEPARATOR":
                    continue
                kinds = [i["type"] for i in item["inputs"]]
                if kinds == ["bytes32"]:
                    args: list[Any] = [next(iter(self.board.escrows.values()))]
                elif all(kind == "address" for kind in kinds):
                    args = [self.board.who["vault"], self.board.who["requester"]][: len(kinds)]
                else:
                    continue
                key = f"{name}.{item['name']}"
                found[key] = self._said(name, abi.call(item["name"], *args))
        return found


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Twin]]:
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("deployments")
        yield [Twin(stack.enter_context(open_chain(kind, folder))) for kind in CHAINS]


@pytest.fixture(autouse=True)
def _put_back(twins: list[Twin]) -> Iterator[None]:
    snapshots = [twin.chain.rpc.call("evm_snapshot") for twin in twins]
    yield
    for twin, snapshot in zip(twins, snapshots, strict=True):
        assert twin.chain.rpc.call("evm_revert", snapshot) is True


def check_equal(real: dict[str, Any], simulated: dict[str, Any]) -> None:
    """Equal but for the gas, which is modelled: hardly less, or limits would pass that are none."""
    ratio = simulated.pop("gas") / real.pop("gas")
    assert simulated == real
    assert _GAS_LEAST < ratio < _GAS_MOST


@pytest.mark.parametrize("effect", EFFECTS, ids=lambda effect: effect.name)
def test_every_step_of_the_kernel_leaves_the_same(twins: list[Twin], effect: Effect) -> None:
    real, simulated = (twin.effect(effect) for twin in twins)
    assert real["status"] == "0x1"
    check_equal(real, simulated)


@pytest.mark.parametrize("row", _ADMINISTRATION, ids=lambda row: f"{row[0]} {row[2]} {row[3]}")
def test_every_act_of_the_administrator_leaves_the_same(
    twins: list[Twin], row: tuple[str, Abi, str, tuple[Any, ...]]
) -> None:
    real, simulated = (twin.administered(*row) for twin in twins)
    check_equal(real, simulated)


@pytest.mark.parametrize("by_parts", [False, True], ids=["in one piece", "by v, r and s"])
def test_an_authorisation_pays_once_and_tells_of_itself_first(
    twins: list[Twin], by_parts: bool
) -> None:
    for twin in twins:
        twin.fund_wallet()
    real, simulated = (twin.authorised(_AS_IT_IS, by_parts=by_parts) for twin in twins)
    assert real["status"] == "0x1"
    used, moved = (log[1][0] for log in real["logs"])
    assert (used, moved) == tuple(map(token_abi().topic, ("AuthorizationUsed", "Transfer")))
    assert "used or canceled" in real["said"][1]
    check_equal(real, simulated)


@pytest.mark.parametrize("change", _REFUSED.values(), ids=_REFUSED)
def test_an_authorisation_is_refused_for_the_same_reason(twins: list[Twin], change: Change) -> None:
    for twin in twins:
        twin.fund_wallet()
    real, simulated = (twin.authorised(change) for twin in twins)
    assert real["status"] == "0x0"
    # Nobody of ours pays for it: how dear the checks are is not modelled.
    assert simulated | {"gas": 0} == real | {"gas": 0}


def test_a_pause_that_ends_leaves_the_same(twins: list[Twin]) -> None:
    for function in ("pause", "unpause"):
        acted = [twin.administered("kernel", kernel_abi(), function, ()) for twin in twins]
        assert acted[0]["status"] == "0x1"
        check_equal(*acted)


def test_every_getter_says_the_same(twins: list[Twin]) -> None:
    real, simulated = (twin.getters() for twin in twins)
    assert len(real) == 39
    assert simulated == real


def test_a_safe_says_the_same_of_itself_and_of_every_signature(twins: list[Twin]) -> None:
    real, simulated = (twin.safe() for twin in twins)
    assert len({str(said) for said in real.values()}) > 10
    assert simulated == real
