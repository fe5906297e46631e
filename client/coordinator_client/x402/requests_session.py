"""A ``requests.Session`` that pays what the treasury allows."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Final

import requests

from coordinator_client.errors import InvalidRequest
from coordinator_client.x402 import outcomes
from coordinator_client.x402.asking import Treasury
from coordinator_client.x402.calls import Call, Memory, entered, wanted
from coordinator_client.x402.exact import SIGNATURE_SECONDS, sdk_client_sync

# requests follows redirects with the session's own ``send``: one request pays once.
_inside: Final[ContextVar[bool]] = ContextVar("coordinator_x402_inside", default=False)


class PayingSession(requests.Session):
    """Pays servers that answer 402, once for each request, after the treasury judged them.

    ``paying`` around a request gives its key and terms. PaymentUnknown when a payment was sent
    and no answer tells what became of it: the same request with the same key sends the same
    payment. ``timeout_seconds`` is for requests that name no timeout.
    """

    def __init__(
        self,
        agent: Treasury,
        *,
        signature_seconds: float = SIGNATURE_SECONDS,
        timeout_seconds: float = 60,
    ) -> None:
        super().__init__()
        self._paying = sdk_client_sync(agent, signature_seconds=signature_seconds)
        self._memory = Memory()
        self._timeout_seconds = timeout_seconds

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        """Send it, and once more with a payment if the server asks for one."""
        if options.get("timeout") is None:
            options["timeout"] = self._timeout_seconds
        if _inside.get() or any(name in request.headers for name in outcomes.PAYMENT_HEADERS):
            return super().send(request, **options)
        token = _inside.set(True)
        try:
            return self._send(request, options)
        finally:
            _inside.reset(token)

    def _send(
        self, request: requests.PreparedRequest, options: dict[str, Any]
    ) -> requests.Response:
        asked = str(request.method), str(request.url), _body(request)
        with self._memory.call(*asked, wanted()) as call:
            response = super().send(request, **options)
            if response.status_code != 402:
                call.open = call.open and not response.ok
                return response
            call.answer = outcomes.read_answer(response.headers.get, response.content)
            if call.answer is None:
                return response
            return self._sent(call, self._paid(call, response), options)

    def _paid(self, call: Call, response: requests.Response) -> requests.PreparedRequest:
        """Return the request of this response, with its payment."""
        required = outcomes.understood(self._paying, response.headers.get, call.answer)
        call.open = True
        with entered(call):
            self._paying.handle_payment_required(required, str(response.request.url))
            made = self._paying.create_payment_payload(required)
        paying = response.request.copy()
        paying.headers.update(
            outcomes.write_payment(call, self._paying.encode_payment_signature_header(made))
        )
        return paying

    def _sent(
        self, call: Call, request: requests.PreparedRequest, options: dict[str, Any]
    ) -> requests.Response:
        # A payment is for one host: it is not carried along to where that one points. The whole
        # body is read, since one that is cut off leaves as much unknown as no answer.
        options = {**options, "allow_redirects": False, "stream": False}
        try:
            response = super().send(request, **options)
        except requests.RequestException as fault:
            told = f"{type(fault).__name__}: {fault}".removesuffix(": ")
            raise outcomes.unknown(call, f"no whole answer came ({told})") from fault
        found = outcomes.judge(call, response.status_code, response.headers.get, response)
        setattr(response, outcomes.PAID, found)
        call.open = not response.ok
        return response


def _body(request: requests.PreparedRequest) -> bytes:
    if request.body is None:
        return b""
    if isinstance(request.body, str):
        return request.body.encode()
    if isinstance(request.body, bytes):
        return request.body
    raise InvalidRequest("a streamed body can't be sent a second time, with the payment")
