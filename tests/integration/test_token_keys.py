"""A key in a PKCS#11 token signs for its own address alone; without the token nothing is signed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path

import pytest
from eth_account import Account
from pkcs11 import TokenFlag

from coordinator.chain.signers.opening import load_signer
from coordinator.chain.signers.pkcs11_token import TokenKey, TokenUri
from coordinator.chain.signers.secp256k1 import ORDER
from coordinator.config import Secrets
from coordinator.doctor.local import LocalPatient
from coordinator.domain.address import checksummed
from coordinator.domain.chain.gas import Fees
from coordinator.domain.chain.steps import Call, StepKind
from coordinator.domain.errors import ConfigurationError, SignerUnavailable
from coordinator.domain.typed_data import Trust, TypedData
from tests.integration.softhsm import PIN, SoftToken, needs_softhsm, soft_token
from tests.integration.world import World

pytestmark = needs_softhsm

OTHER = "0x" + "ab" * 20
CALL = Call(kind=StepKind.CREATE, to="0x" + "12" * 20, data="0x1234", gas_limit=21_000)
FEES = Fees(10, 2)


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SoftToken]:
    with soft_token(tmp_path, monkeypatch) as made:
        yield made


def test_what_the_token_signs_is_its_addresss_with_a_low_s(
    token: SoftToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    signer = load_signer(token.uri(), token.secrets)
    key, given = signer._key, []
    assert key is not None
    sign = key.sign
    monkeypatch.setattr(key, "sign", lambda digest: given.append(sign(digest)) or given[-1])
    for number in range(40):
        message = TypedData(Trust(OTHER, 1, OTHER), "Note", (("n", "uint256"),), (number,))
        signature = bytes.fromhex(signer.sign_typed(message)[2:])
        assert Account._recover_hash(message.digest, signature=signature) == signer.address
        assert int.from_bytes(signature[32:64], "big") <= ORDER // 2
    highs = [int.from_bytes(signature[32:64], "big") > ORDER // 2 for signature in given]
    # The token itself gives both: all alike happens once in 2**39 runs.
    assert set(highs) == {False, True}
    attempt = signer.sign(CALL, nonce=7, fees=FEES, chain_id=84532)
    assert Account.recover_transaction(attempt.raw) == signer.address


def test_an_address_in_the_setting_is_known_without_the_token_and_compared(
    token: SoftToken,
) -> None:
    address = load_signer(token.uri(), token.secrets).address
    wrong = load_signer(token.uri(address=OTHER), token.secrets)
    with pytest.raises(ConfigurationError, match=f"holds the key of {address}"):
        wrong.sign(CALL, nonce=0, fees=FEES, chain_id=1)
    right = load_signer(token.uri(address=address), token.secrets)
    with token.unplugged():
        assert right.address == address
        with pytest.raises(SignerUnavailable, match="nothing was signed"):
            right.open()
    right.open()


def test_a_wrong_pin_is_tried_once_and_told_without_it(
    token: SoftToken, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    address = "0x" + "ab" * 20
    asked = Pins("9999-wrong", PIN)
    signer = load_signer(token.uri(address=address), asked)
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=r"refused the PIN .*PinIncorrect") as refused:
            signer.open()
        assert "9999" not in str(refused.value)
    assert asked.left == [PIN], "a token locks itself after a few wrong PINs"
    assert "9999" not in caplog.text + repr(signer)
    with pytest.raises(ConfigurationError, match="COORDINATOR_PKCS11_PIN is not set"):
        load_signer(token.uri(), {})


def test_the_last_try_of_a_pin_is_left_to_a_person(token: SoftToken) -> None:
    class Worn:
        """A token after wrong PINs; SoftHSM2 never locks itself."""

        flags = TokenFlag.LOGIN_REQUIRED | TokenFlag.USER_PIN_FINAL_TRY

        def open(self, **_: object) -> None:
            raise AssertionError("the last try was made")

    uri = TokenUri(module_path="/module.so", object="payer")
    with pytest.raises(ConfigurationError, match="one more wrong PIN locks the token"):
        TokenKey(uri, lambda: PIN)._log_in(Worn())  # type: ignore[arg-type]


class Pins(Mapping[str, str]):
    """Gives another PIN each time that it is asked."""

    def __init__(self, *pins: str) -> None:
        self.left = list(pins)

    def __getitem__(self, name: str) -> str:
        return self.left.pop(0)

    def __iter__(self) -> Iterator[str]:
        return iter(("COORDINATOR_PKCS11_PIN",))

    def __len__(self) -> int:
        return 1


def test_the_pin_is_taken_from_a_file(token: SoftToken, tmp_path: Path) -> None:
    (tmp_path / "pin").write_text(f"{PIN}\n")
    secrets = Secrets({"COORDINATOR_PKCS11_PIN_FILE": str(tmp_path / "pin")})
    load_signer(token.uri(), secrets).open()


def test_two_keys_of_one_token_sign_beside_each_other_and_after_it_was_away(
    token: SoftToken,
) -> None:
    token.make_key("approver")
    signers = [load_signer(token.uri(key), token.secrets) for key in ("payer", "approver")]
    assert signers[0].address != signers[1].address
    # One of them finds out, and takes the sessions of both away.
    with token.unplugged(), pytest.raises(SignerUnavailable):
        signers[0].sign(CALL, nonce=0, fees=FEES, chain_id=1)
    for signer in signers[::-1] * 2:
        attempt = signer.sign(CALL, nonce=0, fees=FEES, chain_id=1)
        assert Account.recover_transaction(attempt.raw) == signer.address


def test_a_key_that_is_none_or_not_the_only_one_is_named(token: SoftToken) -> None:
    token.make_key("nist", curve="prime256v1")
    with pytest.raises(ConfigurationError, match="on another curve than secp256k1"):
        load_signer(token.uri("nist"), token.secrets)
    with pytest.raises(
        ConfigurationError, match="0 objects like this of the kind PRIVATE_KEY, not one"
    ):
        load_signer(token.uri("nobody"), token.secrets)
    token.make_key()
    with pytest.raises(ConfigurationError, match="2 objects like this"):
        load_signer(token.uri(), token.secrets)
    token.make_token()
    with pytest.raises(ConfigurationError, match="2 tokens are like this"):
        load_signer(token.uri(), token.secrets)


def test_a_module_or_token_that_is_not_there_is_told(token: SoftToken) -> None:
    uri = "pkcs11:token=treasury;object=payer?module-path=/nowhere/module.so"
    with pytest.raises(ConfigurationError, match=r"/nowhere/module\.so can't be loaded"):
        load_signer(uri, token.secrets)
    with pytest.raises(SignerUnavailable, match="no such token is there"):
        load_signer(token.uri().replace("token=treasury", "token=other"), token.secrets)


def test_the_doctor_tells_a_token_that_is_away(
    token: SoftToken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    env = {"COORDINATOR_SIGNER": token.uri(), "COORDINATOR_NETWORK": "base", **token.secrets}
    env["COORDINATOR_RPC_URL"] = "http://127.0.0.1:1"
    address = load_signer(token.uri(), token.secrets).address
    found = {}
    for away in (False, True):
        with token.unplugged() if away else nullcontext():
            rows = LocalPatient(env).checks_before_the_chain()
            (found[away],) = (row for row in rows if row.name == "key")
    assert (found[False].status, found[True].status) == ("ok", "fail")
    assert address in found[False].found
    assert "nothing was signed" in found[True].found
    assert found[True].action is not None and "reachable" in found[True].action
    env["COORDINATOR_PKCS11_PIN"] = "9999-wrong"
    (wrong,) = (c for c in LocalPatient(env).checks_before_the_chain() if c.name == "key")
    assert (wrong.status, wrong.action) == ("fail", "see docs/keys.md")
    assert "refused the PIN" in wrong.found


def test_a_purchase_is_paid_with_the_tokens_key_and_waits_while_it_is_away(
    token: SoftToken, make_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(signer=token.uri(), more_secrets=token.secrets)
    chain = world.chain
    purchase = world.buy("25.00")
    turned_away: list[str] = []
    monkeypatch.setattr(world.wiring.rpc, "use_next", lambda: turned_away.append(chain.url))
    with token.unplugged():
        for _ in range(2):
            with pytest.raises(SignerUnavailable):
                world.round()
        assert world.status(purchase) == "approved"
        assert [step.status for step in world.steps_of(purchase)] == ["allocated"] * 2
        assert all(step.attempts == () for step in world.in_flight())
        assert chain.pool(world.treasury) == []
    assert turned_away == [], "the endpoint has nothing to do with it"
    world.go()
    assert world.status(purchase) == "funded"
    senders = {chain.receipt(t.hash)["from"] for t in world.get(purchase).transactions}
    assert [checksummed(sender) for sender in senders] == [world.treasury]
    chain.deliver(world.get(purchase).escrow_id)
    world.go()
    assert world.coordinator.settle(purchase.id, approver="alice").done
    world.go()
    assert world.status(purchase) == "settled"
    world.check_books()
