"""Amounts are exact, and text that could mean something else is refused."""

from __future__ import annotations

import copy
import pickle
import re
from decimal import Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from coordinator.domain.usdc import ZERO, Usdc

base_units = st.integers(min_value=-(10**18), max_value=10**18)


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("25.00", 25_000_000),
        ("25", 25_000_000),
        ("0", 0),
        ("0.000001", 1),
        ("0.1", 100_000),
        ("007.50", 7_500_000),
        ("1000000000000", 10**18),
    ],
)
def test_a_decimal_string_is_counted_in_base_units(text: str, units: int) -> None:
    assert Usdc(text).base_units == units


@pytest.mark.parametrize(
    "text",
    [
        "",
        "abc",
        "-1",
        "+1",
        "1e3",
        "1E3",
        "NaN",
        "Infinity",
        "inf",
        "0.0000001",
        "25.0000000",
        " 25",
        "25 ",
        "25\n",
        "\t25",
        "1,000",
        "1_000",
        "1.000,00",
        "25.",
        ".5",
        ".",
        "1.2.3",
        "$25",
        "25 USDC",
        "0x19",
        "٢٥",
        "²",
        "2５",  # noqa: RUF001
        pytest.param("9" * 10_000, id="huge"),
        pytest.param("0." + "0" * 10_000, id="huge part"),
    ],
)
def test_text_that_is_not_a_plain_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not an amount") as refused:
        Usdc(text)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("number", [25, 0, -1, True, 25.0, float("nan"), float("inf")])
def test_an_int_or_a_float_is_refused_and_told_why(number: float) -> None:
    with pytest.raises(ValueError, match="could mean USDC or base units"):
        Usdc(number)  # type: ignore[arg-type]


@pytest.mark.parametrize("thing", [None, b"25", ["25"], object()])
def test_anything_but_text_is_refused(thing: object) -> None:
    with pytest.raises(ValueError, match="must be a decimal string"):
        Usdc(thing)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("number", "units"),
    [
        ("25", 25_000_000),
        ("0.000001", 1),
        ("1.50000000", 1_500_000),
        ("1E+3", 10**9),
        ("0E-20", 0),
        ("0", 0),
        ("1000000000000", 10**18),
    ],
)
def test_a_decimal_is_an_amount_when_it_is_a_whole_number_of_base_units(
    number: str, units: int
) -> None:
    with localcontext(prec=2):
        assert Usdc(Decimal(number)).base_units == units


@pytest.mark.parametrize(
    ("number", "says"),
    [
        ("0.0000001", "six decimals"),
        ("1.0000005", "six decimals"),
        ("-1", "not negative"),
        ("-0", "not negative"),
        ("NaN", "not negative"),
        ("sNaN", "not negative"),
        ("Infinity", "not negative"),
        ("1000000000000.000001", "largest amount"),
        ("1E+15", "largest amount"),
        ("1E+999999", "largest amount"),
        ("1E-999999", "six decimals"),
    ],
)
def test_a_decimal_that_is_no_exact_amount_is_refused(number: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as told:
        Usdc(Decimal(number))
    assert len(str(told.value)) < 200


@given(st.integers(min_value=0, max_value=10**18))
def test_an_amount_comes_back_from_its_decimal(units: int) -> None:
    assert Usdc(Decimal(units).scaleb(-6)) == Usdc.from_base_units(units)


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("", "1234567.50"),
        ("s", "1234567.50"),
        (",", "1,234,567.50"),
        (",.2f", "1,234,567.50"),
        (".6f", "1234567.500000"),
        (">14", "    1234567.50"),
        ("<12s", "1234567.50  "),
    ],
)
def test_an_amount_is_formatted_as_a_decimal_is(spec: str, text: str) -> None:
    assert format(Usdc("1234567.50"), spec) == text


def test_amounts_are_summed() -> None:
    amounts = [Usdc("0.10"), Usdc("0.20"), Usdc("0.30")]
    assert sum(amounts) == Usdc.sum(amounts) == Usdc("0.60")
    assert Usdc.sum([]) == ZERO
    for other in (1, 0.0, False, "0"):
        with pytest.raises(TypeError):
            other + amounts[0]  # type: ignore[operator]


class _Invoice(BaseModel):
    amount: Usdc


def test_an_amount_is_text_in_the_json_of_a_model() -> None:
    invoice = _Invoice.model_validate_json('{"amount": "25.5"}')
    assert invoice.amount == Usdc("25.50")
    assert invoice.model_dump_json() == '{"amount":"25.50"}'
    assert invoice.model_dump() == {"amount": Usdc("25.50")}
    assert _Invoice(amount=Decimal("1.5")).amount == Usdc("1.50")  # type: ignore[arg-type]
    for malformed in ('"-1"', '"1e3"', "25", "25.0", "null", '"0.0000001"'):
        with pytest.raises(ValidationError):
            _Invoice.model_validate_json(f'{{"amount": {malformed}}}')


def test_the_schema_of_an_amount_takes_what_the_amount_takes() -> None:
    taken = _Invoice.model_json_schema()["properties"]["amount"]
    shown = _Invoice.model_json_schema(mode="serialization")["properties"]["amount"]
    assert taken["type"] == shown["type"] == "string"
    for text, amount, difference in (
        ("25.00", True, True),
        ("-25.00", False, True),
        ("25.0000000", False, False),
        ("1e3", False, False),
        ("25 ", False, False),
    ):
        assert bool(re.search(taken["pattern"], text)) is amount, text
        assert bool(re.search(shown["pattern"], text)) is difference, text


def test_an_amount_above_the_largest_is_refused() -> None:
    assert Usdc("1000000000000").base_units == 10**18
    with pytest.raises(ValueError, match="largest amount"):
        Usdc("1000000000000.000001")


@pytest.mark.parametrize("units", [1.0, "1", True, None, Decimal(1)])
def test_base_units_are_an_int_and_nothing_like_one(units: object) -> None:
    with pytest.raises(TypeError, match="base units must be an int"):
        Usdc.from_base_units(units)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("units", "text"),
    [
        (0, "0.00"),
        (1, "0.000001"),
        (10, "0.00001"),
        (10_000, "0.01"),
        (1_500_000, "1.50"),
        (25_000_000, "25.00"),
        (-1, "-0.000001"),
        (-1_500_000, "-1.50"),
    ],
)
def test_an_amount_is_written_with_two_to_six_decimals(units: int, text: str) -> None:
    amount = Usdc.from_base_units(units)
    assert str(amount) == text
    assert repr(amount) == f"Usdc('{text}')"


@given(st.integers(min_value=0, max_value=10**18))
def test_writing_and_reading_an_amount_changes_nothing(units: int) -> None:
    amount = Usdc.from_base_units(units)
    assert Usdc(str(amount)) == amount
    assert Usdc(amount) == amount


@given(st.text(max_size=50))
def test_any_text_is_either_refused_or_an_exact_decimal(text: str) -> None:
    try:
        amount = Usdc(text)
    except ValueError:
        return
    assert Decimal(text) * 10**6 == amount.base_units


@given(base_units, base_units)
def test_sums_and_differences_are_those_of_the_base_units(a: int, b: int) -> None:
    left, right = Usdc.from_base_units(a), Usdc.from_base_units(b)
    assert (left + right).base_units == a + b
    assert (left - right).base_units == a - b
    assert left + right - right == left


@given(base_units, base_units)
def test_amounts_are_ordered_and_hashed_by_their_base_units(a: int, b: int) -> None:
    left, right = Usdc.from_base_units(a), Usdc.from_base_units(b)
    assert (left < right, left <= right, left > right, left >= right) == (
        a < b,
        a <= b,
        a > b,
        a >= b,
    )
    assert (left == right) == (a == b)
    assert len({left, right}) == len({a, b})


@pytest.mark.parametrize("other", [1, 1.0, "0.000001", None, Decimal(1)])
def test_an_amount_never_mixes_with_a_bare_number(other: object) -> None:
    amount = Usdc("0.000001")
    assert amount != other
    with pytest.raises(TypeError):
        amount + other  # type: ignore[operator]
    with pytest.raises(TypeError):
        amount - other  # type: ignore[operator]
    with pytest.raises(TypeError):
        amount < other  # type: ignore[operator]  # noqa: B015


def test_an_amount_cannot_be_changed() -> None:
    amount = Usdc("25")
    with pytest.raises(AttributeError):
        amount.base_units = 1
    with pytest.raises(AttributeError):
        del amount.base_units
    with pytest.raises(AttributeError):
        amount.other = 1  # type: ignore[attr-defined]
    assert amount == Usdc("25")


def test_only_zero_is_falsy() -> None:
    assert not ZERO
    assert Usdc("0.000001")
    assert ZERO - Usdc("1")


def test_an_amount_survives_copies_and_pickles() -> None:
    amount = Usdc("25.123456")
    assert pickle.loads(pickle.dumps(amount)) == amount
    assert copy.deepcopy(amount) == amount
