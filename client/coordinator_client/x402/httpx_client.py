"""An ``httpx.AsyncClient`` that pays what the treasury allows."""

from __future__ import annotations

from typing import Any

import httpx

from coordinator_client.errors import InvalidRequest
from coordinator_client.x402 import outcomes
from coordinator_client.x402.asking import AsyncTreasury
from coordinator_client.x402.calls import Call, Memory, entered, wanted
from coordinator_client.x402.exact import SIGNATURE_SECONDS, sdk_client

_EXTENSION = "x402"


class PayingClient(httpx.AsyncClient):
    """Pays servers that answer 402, once for each request, after the treasury judged them.

    ``extensions={"x402": {"idempotency_key": …, "purpose": …}}`` of a request, or ``paying``
    around it, give its key and terms. PaymentUnknown when a payment was sent and no answer tells
    what became of it: the same request with the same key sends the same payment.
    """

    def __init__(
        self,
        agent: AsyncTreasury,
        *,
        signature_seconds: float = SIGNATURE_SECONDS,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._paying = sdk_client(agent, signature_seconds=signature_seconds)
        self._memory = Memory()

    async def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        """Send it, and once more with a payment if the server asks for one."""
        if any(name in request.headers for name in outcomes.PAYMENT_HEADERS):
            return await super().send(request, **options)
        body = await request.aread()
        given = _given(request)
        with self._memory.call(request.method, str(request.url), body, given) as call:
            response = await super().send(request, **options)
            if response.status_code != 402:
                call.open = call.open and response.is_error
                return response
            call.answer = outcomes.read_answer(response.headers.get, await response.aread())
            if call.answer is None:
                return response
            await response.aclose()
            return await self._sent(call, await self._paid(call, response), options)

    async def _paid(self, call: Call, response: httpx.Response) -> httpx.Request:
        """Return the request of this response, with its payment."""
        required = outcomes.understood(self._paying, response.headers.get, call.answer)
        asked = response.request
        body = await asked.aread()
        call.open = True
        with entered(call):
            await self._paying.handle_payment_required(required, str(asked.url))
            made = await self._paying.create_payment_payload(required)
        headers = httpx.Headers(asked.headers)
        headers.update(
            outcomes.write_payment(call, self._paying.encode_payment_signature_header(made))
        )
        return httpx.Request(
            asked.method, asked.url, headers=headers, content=body, extensions=asked.extensions
        )

    async def _sent(
        self, call: Call, request: httpx.Request, options: dict[str, Any]
    ) -> httpx.Response:
        # A payment is for one host: it is not carried along to where that one points.
        options = {**options, "follow_redirects": False}
        try:
            response = await super().send(request, **options)
            # A body that is cut off leaves as much unknown as an answer that never came.
            await response.aread()
        except httpx.HTTPError as fault:
            told = f"{type(fault).__name__}: {fault}".removesuffix(": ")
            raise outcomes.unknown(call, f"no whole answer came ({told})") from fault
        found = outcomes.judge(call, response.status_code, response.headers.get, response)
        response.extensions[outcomes.PAID] = found
        call.open = response.is_error
        return response


def _given(request: httpx.Request) -> Call | None:
    terms = request.extensions.get(_EXTENSION)
    if terms is None:
        return wanted()
    if not isinstance(terms, dict):
        raise InvalidRequest('the extension "x402" of a request must be a dict')
    return Call.of(**terms)
