"""The scheme ``exact`` for the official SDK: the treasury judges, makes and signs the payment.

The SDK's own scheme signs whatever it is given, with a random nonce each time. This one has no
key: before a payment is made it posts the whole answer of the server, and hands on what came
back. The SDK's one-dollar cap is off, since the treasury's limits decide.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

from x402 import x402Client, x402ClientSync
from x402.http.x402_http_client import x402HTTPClient, x402HTTPClientSync
from x402.mechanisms.evm.v1.constants import V1_NETWORKS
from x402.schemas import NoMatchingRequirementsError

from coordinator_client.errors import CoordinatorError
from coordinator_client.x402 import asking
from coordinator_client.x402.asking import AsyncTreasury, Authorised, Treasury
from coordinator_client.x402.calls import Call, current, wanted

#: Seconds to wait for a signature, unless said otherwise.
SIGNATURE_SECONDS: Final = 30.0
_NETWORKS: Final = "eip155:*"


@dataclass(frozen=True)
class _Judged:
    """One answer of a server, the offer of it that the treasury took, and the payment."""

    required: Any
    offer: Any
    payload: Mapping[str, Any]


_judged: Final[ContextVar[_Judged | None]] = ContextVar("coordinator_x402_judged", default=None)


class TreasuryExact:
    """Scheme ``exact`` of a client of the SDK; it makes no payment that was not judged before."""

    scheme = "exact"

    def create_payment_payload(self, requirements: Any) -> dict[str, Any]:
        """Return the signed payment of the offer that the treasury took."""
        judged = _judged.get()
        if judged is None or judged.offer is not requirements:
            raise CoordinatorError("the treasury was not asked for this payment")
        return dict(judged.payload)


def sdk_client(
    agent: AsyncTreasury, *, signature_seconds: float = SIGNATURE_SECONDS
) -> x402HTTPClient:
    """Return a client of the official SDK for ``AsyncAgent``, to use with its transports."""

    async def judge(context: Any, url: str) -> None:
        call = _call()
        answer = _answer(context.payment_required)
        flow = asking.payment(call, answer, url, seconds=signature_seconds)
        _keep(context.payment_required, await asking.ask_async(agent, flow))

    async def before_choice(context: Any) -> None:
        await judge(context, context.request_url)

    async def before_payment(context: Any) -> None:
        if not _is_judged(context):
            await judge(context, _told_url(context.payment_required))
        _check_choice(context)

    client = x402Client(_choose)
    _register(client)
    client.on_before_payment_creation(before_payment)
    return x402HTTPClient(client).on_payment_required(before_choice)


def sdk_client_sync(
    agent: Treasury, *, signature_seconds: float = SIGNATURE_SECONDS
) -> x402HTTPClientSync:
    """Return a client of the official SDK for ``Agent``, to use with its adapters."""

    def judge(context: Any, url: str) -> None:
        call = _call()
        answer = _answer(context.payment_required)
        flow = asking.payment(call, answer, url, seconds=signature_seconds)
        _keep(context.payment_required, asking.ask(agent, flow))

    def before_choice(context: Any) -> None:
        judge(context, context.request_url)

    def before_payment(context: Any) -> None:
        if not _is_judged(context):
            judge(context, _told_url(context.payment_required))
        _check_choice(context)

    client = x402ClientSync(_choose)
    _register(client)
    client.on_before_payment_creation(before_payment)
    return x402HTTPClientSync(client).on_payment_required(before_choice)


def _register(client: x402Client | x402ClientSync) -> None:
    client.register(_NETWORKS, TreasuryExact())
    for network in V1_NETWORKS:
        client.register_v1(network, TreasuryExact())
    client.set_spend_controls(False)


def _call() -> Call:
    return current.get() or wanted() or Call.of()


def _answer(required: Any) -> Mapping[str, Any]:
    """Return the answer as it came where it is known, for the SDK drops names it does not know."""
    call = current.get()
    if call is not None and call.answer is not None:
        return call.answer
    dumped: dict[str, Any] = required.model_dump(by_alias=True, exclude_none=True)
    return dumped


def _told_url(required: Any) -> str:
    """Return the URL that the server names: without HTTP there is no other."""
    resource = getattr(required, "resource", None)
    url = resource.url if resource is not None else getattr(required.accepts[0], "resource", None)
    if not url:
        raise CoordinatorError("the answer names no resource to pay for")
    return str(url)


def _keep(required: Any, said: Authorised) -> None:
    payment = said.payment
    assert payment is not None
    taken = [
        offer
        for offer in required.accepts
        if type(offer).model_validate(payment["accepted"]) == offer
    ]
    if not taken:
        raise CoordinatorError("the treasury took an offer that the server did not make")
    _judged.set(_Judged(required, taken[0], payment["payload"]))


def _is_judged(context: Any) -> bool:
    judged = _judged.get()
    return judged is not None and judged.required is context.payment_required


def _choose(version: int, offers: list[Any]) -> Any:
    """Choose the offer that the treasury took; before it was asked, the first."""
    judged = _judged.get()
    if judged is not None and any(offer is judged.offer for offer in offers):
        return judged.offer
    return offers[0]


def _check_choice(context: Any) -> None:
    judged = _judged.get()
    if judged is None or judged.offer is not context.selected_requirements:
        raise NoMatchingRequirementsError("the treasury took another offer than this client")
