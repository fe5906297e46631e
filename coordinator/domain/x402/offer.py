"""Read what a server that answered 402 accepts, and take what this treasury can pay.

The answer is https://www.x402.org, protocol versions 2 and 1; the scheme is ``exact``, by EIP-3009.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from coordinator.domain.address import checksummed
from coordinator.domain.canonical import canonical_json
from coordinator.domain.errors import InvalidRequest
from coordinator.domain.usdc import Usdc

NOT_PAYABLE: Final = "x402_not_payable"
#: An authorisation is valid for so many seconds at most, whatever the server asks.
VALID_SECONDS_MAX: Final = 600
_ANSWER_BYTES_MAX: Final = 32_768
_OFFERS_MAX: Final = 32
_NAMES: Final = {"base": 8453, "base-sepolia": 84532}
# A server's own words may be meant for a model that reads why it can't be paid.
_SHOWN: Final = re.compile(r"[A-Za-z0-9:/._+-]{0,64}", re.ASCII)
_UNITS: Final = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Offer:
    """One way of paying that a server accepts and this treasury can use.

    ``payee`` is an address; an authorisation must be valid for ``seconds``, at most 600.
    ``accepted`` is the server's own text of it, which a payment repeats.
    """

    payee: str
    amount: Usdc
    seconds: int
    version: int
    accepted: Mapping[str, Any]
    resource: Mapping[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return what a payment repeats of it."""
        found = {"x402Version": self.version, "accepted": self.accepted, "seconds": self.seconds}
        return found if self.resource is None else found | {"resource": self.resource}


def take_offer(answer: object, *, chain_id: int, usdc: str) -> Offer:
    """Return the first way of paying in USDC on this chain.

    InvalidRequest for what is no answer of a server, or accepts nothing that can be paid.
    """
    if not isinstance(answer, Mapping):
        raise InvalidRequest("the answer must be the JSON object of a 402 answer")
    try:
        size = len(canonical_json(answer))
    except (TypeError, ValueError, RecursionError):
        raise InvalidRequest("the answer must be the JSON object of a 402 answer") from None
    if size > _ANSWER_BYTES_MAX:
        raise InvalidRequest(f"the answer has {size} bytes; at most {_ANSWER_BYTES_MAX} are read")
    version, offers = answer.get("x402Version"), answer.get("accepts")
    if type(version) is not int or version not in (1, 2):
        raise _not_payable(f"its x402Version is {_shown(version)}; 1 and 2 are understood")
    if not isinstance(offers, list) or not offers:
        raise _not_payable("it accepts nothing")
    resource = answer.get("resource")
    refused = []
    for one in offers[:_OFFERS_MAX]:
        if not isinstance(one, Mapping):
            refused.append("it is no object")
            continue
        why = next(_refusals(one, chain_id, usdc), None)
        if why is None:
            return _offer(one, version, resource if isinstance(resource, Mapping) else None)
        refused.append(why)
    raise _not_payable("; ".join(dict.fromkeys(refused[:3])))


def _not_payable(why: str) -> InvalidRequest:
    return InvalidRequest(f"nothing in the 402 answer can be paid: {why}", code=NOT_PAYABLE)


def _refusals(one: Mapping[str, Any], chain_id: int, usdc: str) -> Iterator[str]:
    if one.get("scheme") != "exact":
        yield f"the scheme is {_shown(one.get('scheme'))}, not 'exact'"
    network = one.get("network")
    if network != f"eip155:{chain_id}" and _NAMES.get(str(network)) != chain_id:
        yield f"the network is {_shown(network)}, not 'eip155:{chain_id}'"
    if str(one.get("asset")).lower() != usdc.lower():
        yield f"the asset is {_shown(one.get('asset'))}, not USDC at {usdc}"
    extra = one.get("extra")
    if isinstance(extra, Mapping) and extra.get("assetTransferMethod") not in (None, "eip3009"):
        yield f"the transfer method is {_shown(extra['assetTransferMethod'])}, not 'eip3009'"
    if _payee(one) is None:
        yield f"payTo is {_shown(one.get('payTo'))}, not an address"
    units = _units(one)
    if not isinstance(units, str) or not _UNITS.fullmatch(units):
        yield f"the amount is {_shown(units)}, not a whole number of base units as text"
    seconds = one.get("maxTimeoutSeconds")
    if not isinstance(seconds, int) or isinstance(seconds, bool) or seconds < 1:
        yield f"maxTimeoutSeconds is {_shown(seconds)}, not a number of seconds"


def _shown(value: object) -> str:
    """Return a short value without spaces as it stands; of any other, what it is."""
    if isinstance(value, str) and _SHOWN.fullmatch(value):
        return repr(value)
    if value is None or (isinstance(value, int | float) and len(text := repr(value)) <= 64):
        return "missing" if value is None else text
    return "something else"


def _offer(one: Mapping[str, Any], version: int, resource: Mapping[str, Any] | None) -> Offer:
    payee = _payee(one)
    assert payee is not None
    return Offer(
        payee=payee,
        amount=Usdc.from_base_units(int(_units(one))),
        seconds=min(int(one["maxTimeoutSeconds"]), VALID_SECONDS_MAX),
        version=version,
        accepted=dict(one),
        resource=dict(resource) if resource is not None else None,
    )


def _units(one: Mapping[str, Any]) -> Any:
    return one.get("amount", one.get("maxAmountRequired"))


def _payee(one: Mapping[str, Any]) -> str | None:
    try:
        return checksummed(one["payTo"])
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
