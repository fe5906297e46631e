"""A malformed request is refused with a code before anything is judged or written."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.domain.errors import CoordinatorError, InvalidRequest
from coordinator.domain.inputs import idempotency_key, identifier, positive_amount
from coordinator.domain.purchase.request import Request
from coordinator.domain.usdc import Usdc

PROVIDER = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
TREASURY = "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"


def ask(**changed: Any) -> Request:
    terms: dict[str, Any] = {
        "agent": "research-agent",
        "provider": PROVIDER,
        "amount": "25.00",
        "purpose": "Academic paper API access",
        "treasury_address": TREASURY,
    }
    return Request.of(**{**terms, **changed})


def refusal(**changed: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as refused:
        ask(**changed)
    return refused.value


def test_a_wellformed_request_keeps_its_terms() -> None:
    request = ask(service="papers", category="api", task="task-42", session="sess-1")
    assert request == Request(
        agent="research-agent",
        provider=PROVIDER,
        amount=Usdc("25"),
        purpose="Academic paper API access",
        service="papers",
        category="api",
        task="task-42",
        session="sess-1",
    )


@pytest.mark.parametrize(
    "amount",
    [
        "abc",
        "-1",
        "0",
        "0.00",
        "1e3",
        "NaN",
        "0.0000001",
        " 25",
        "1,000",
        "",
        25,
        25.0,
        True,
        None,
        Usdc("0"),
        Usdc.from_base_units(-1),
        "1000000000001",
    ],
)
def test_a_malformed_amount_is_invalid_amount(amount: object) -> None:
    assert refusal(amount=amount).code == "invalid_amount"


@pytest.mark.parametrize("amount", ["0.000001", "25", Usdc("25")])
def test_any_exact_amount_above_zero_is_accepted(amount: object) -> None:
    assert ask(amount=amount).amount == Usdc(amount)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "provider",
    [
        PROVIDER[:-1] + "D",
        "0x" + "0" * 40,
        "0x1234",
        "0X" + PROVIDER[2:],
        TREASURY,
        TREASURY.lower(),
        "0x" + TREASURY[2:].upper(),
        "",
        " paper-api",
        "paper api",
        "paper\napi",
        "-api",
        "a" * 65,
        None,
        7,
        b"paper-api",
    ],
)
def test_a_malformed_provider_is_invalid_provider(provider: object) -> None:
    assert refusal(provider=provider).code == "invalid_provider"


@pytest.mark.parametrize("treasury", [TREASURY, TREASURY.lower(), "0x" + TREASURY[2:].upper()])
def test_the_treasury_is_known_by_its_address_in_any_case(treasury: str) -> None:
    fault = refusal(provider=TREASURY, treasury_address=treasury)
    assert fault.code == "invalid_provider"
    assert "pay itself" in str(fault)
    assert ask(provider=PROVIDER, treasury_address=treasury).provider == PROVIDER
    assert ask(provider=TREASURY, treasury_address=None).provider == TREASURY


def test_an_address_is_kept_with_its_checksum_and_a_name_as_it_is() -> None:
    assert ask(provider=PROVIDER.lower()).provider == PROVIDER
    assert ask(provider="paper-api").provider == "paper-api"


@pytest.mark.parametrize(
    "purpose",
    [
        "",
        " ",
        "\u3000",
        pytest.param("x" * 2001, id="2001"),
        pytest.param("x" * 1_000_000, id="1 MB"),
        "a\x00b",
        "a\x1b[31mred",
        "a\nb",
        "a\tb",
        "a\x7fb",
        "a\x85b",
        pytest.param("a\ud800b", id="surrogate"),
        None,
        5,
        b"papers",
    ],
)
def test_an_empty_huge_or_unprintable_purpose_is_invalid_purpose(purpose: object) -> None:
    fault = refusal(purpose=purpose)
    assert fault.code == "invalid_purpose"
    assert len(str(fault)) < 200


@pytest.mark.parametrize(
    "purpose",
    [pytest.param("x" * 2000, id="2000"), "Ünïcode — 論文 🚀", "'; DROP TABLE purchases;--"],
)
def test_a_purpose_of_up_to_2000_printable_characters_is_kept_as_given(purpose: str) -> None:
    assert ask(purpose=purpose).purpose == purpose


@pytest.mark.parametrize("field", ["service", "task", "session"])
def test_service_task_and_session_are_up_to_200_printable_characters(field: str) -> None:
    assert getattr(ask(**{field: "x" * 200}), field) == "x" * 200
    for bad in ("", "  ", "x" * 201, "a\nb", "a\x00b", 5):
        assert refusal(**{field: bad}).code == "invalid_request"
    assert getattr(ask(**{field: None}), field) is None


@pytest.mark.parametrize("field", ["agent", "category"])
@pytest.mark.parametrize("bad", ["", " a", "a b", "a/b", "-a", "ä", "a\n", "a" * 65, 5, b"a"])
def test_agent_and_category_are_identifiers(field: str, bad: object) -> None:
    assert refusal(**{field: bad}).code == "invalid_request"


@pytest.mark.parametrize("good", ["a", "research-agent", "bot@example.com", "a:b._c-1", "9" * 64])
def test_an_identifier_is_1_to_64_letters_digits_or_signs(good: str) -> None:
    assert identifier("agent", good) == good


def test_an_idempotency_key_is_kept_as_given_up_to_200_characters() -> None:
    assert idempotency_key("task-42/papers") == "task-42/papers"
    assert idempotency_key("k" * 200) == "k" * 200
    for bad in ("", " ", "k" * 201, "a\nb", 5, None):
        with pytest.raises(InvalidRequest):
            idempotency_key(bad)


def test_an_invalid_request_is_a_value_error_and_moved_no_money() -> None:
    fault = refusal(amount=25)
    assert isinstance(fault, ValueError)
    assert isinstance(fault, CoordinatorError)
    assert fault.money_moved is False


@given(st.text())
def test_any_text_as_an_amount_is_refused_or_above_zero(text: str) -> None:
    try:
        assert positive_amount(text) > Usdc("0")
    except InvalidRequest as fault:
        assert fault.code == "invalid_amount"


@given(st.text(st.characters(), max_size=30))
def test_every_accepted_purpose_can_be_stored_as_utf_8_on_one_line(text: str) -> None:
    try:
        kept = ask(purpose=text).purpose
    except InvalidRequest:
        return
    assert kept.encode().decode() == kept
    assert not set(kept) & set("\r\n\t\x00\x1b")


TERMS: dict[str, Any] = {
    "service": "papers",
    "category": "api",
    "task": "task-42",
    "session": "sess-1",
}


def test_the_terms_of_a_key_are_all_but_the_purpose() -> None:
    first = ask(**TERMS)
    assert first.terms_hash(PROVIDER) == ask(**TERMS, purpose="in other words").terms_hash(PROVIDER)


@pytest.mark.parametrize(
    "changed",
    [
        {"amount": "25.000001"},
        *({field: "another"} for field in TERMS),
        *({field: None} for field in TERMS),
    ],
)
def test_a_changed_term_changes_the_terms(changed: dict[str, Any]) -> None:
    first = ask(**TERMS)
    assert ask(**{**TERMS, **changed}).terms_hash(PROVIDER) != first.terms_hash(PROVIDER)


def test_the_terms_name_the_provider_by_address_whatever_its_case() -> None:
    request = ask()
    assert request.terms_hash(PROVIDER) == request.terms_hash(PROVIDER.lower())
    assert request.terms_hash(PROVIDER) != request.terms_hash(TREASURY)


def test_a_value_never_slides_from_one_term_into_the_next() -> None:
    hashes = {ask(**{field: "x"}).terms_hash(PROVIDER) for field in TERMS}
    assert len(hashes) == len(TERMS)


def test_the_amounts_text_does_not_matter_to_the_terms() -> None:
    assert ask(amount="25").terms_hash(PROVIDER) == ask(amount="25.00").terms_hash(PROVIDER)


def test_a_request_cannot_be_changed_after_it_was_checked() -> None:
    with pytest.raises(AttributeError):
        ask().amount = Usdc("1")  # type: ignore[misc]
