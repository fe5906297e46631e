"""The errors. Answers of policy, approvers and chain are returned, not raised."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final


class CoordinatorError(Exception):
    """Root of everything the client raises.

    ``money_moved`` is False when nothing left the treasury, True when something did, and
    None when it is not known: ask again with the same idempotency key, never with another.
    """

    money_moved: bool | None = False
    code: str = "error"


class InvalidRequest(CoordinatorError, ValueError):
    """The request is malformed; nothing was written and nothing is held."""

    def __init__(self, message: str, *, code: str = "invalid_request") -> None:
        super().__init__(message)
        self.code = code


class UnknownId(InvalidRequest):
    """The agent has nothing with this id; nothing was written."""

    def __init__(self, message: str, *, code: str = "not_found") -> None:
        super().__init__(message, code=code)


class Denied(CoordinatorError):
    """A refused cost was used as if it were held; nothing is held or spent.

    ``code`` is the refusal's own.
    """

    def __init__(self, message: str, *, code: str = "denied") -> None:
        super().__init__(message)
        self.code = code


class IdempotencyConflict(CoordinatorError):
    """The key belongs to a purchase with other terms; nothing was written."""

    code = "idempotency_conflict"


class LedgerUnavailable(CoordinatorError):
    """The database cannot be read or written; the decision was not made."""

    code = "ledger_unavailable"


class ServiceUnavailable(LedgerUnavailable):
    """The service could not be reached, or did not answer what was only read."""

    code = "unavailable"


class ChainUnavailable(CoordinatorError):
    """The service's endpoint of the chain did not answer a read; nothing was sent."""

    code = "chain_unavailable"


class ConfigurationError(CoordinatorError):
    """The URL, the key or the service's settings can't be right; every fault is in ``faults``."""

    code = "configuration"

    def __init__(self, *faults: str) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class Unauthenticated(CoordinatorError):
    """The API key does not count: unknown, expired or revoked."""

    code = "unauthenticated"


class Forbidden(CoordinatorError):
    """A key of this role may not do this."""

    code = "forbidden"


class TooManyRequests(CoordinatorError):
    """The key asked too often for longer than the call may take.

    ``retry_after_seconds`` is what the service said last; None where it said nothing.
    """

    code = "too_many_requests"
    retry_after_seconds: float | None = None


class OutcomeUnknown(CoordinatorError):
    """A request that changes something was sent, and no answer tells what became of it.

    Ask again with the same ``idempotency_key`` (the same key never pays twice), or look with
    ``get(idempotency_key=…)``. It is None for what has no key and may be repeated as it is.
    """

    code = "outcome_unknown"
    money_moved = None

    def __init__(self, message: str, *, idempotency_key: str | None = None) -> None:
        super().__init__(message)
        self.idempotency_key = idempotency_key


# Errors that judge the terms themselves: an earlier try with the same terms had no other answer.
VERDICTS: Final = (InvalidRequest, IdempotencyConflict, Denied)

_BY_STATUS: Final[Mapping[int, type[CoordinatorError]]] = {
    400: InvalidRequest,
    401: Unauthenticated,
    403: Forbidden,
    404: UnknownId,
    405: InvalidRequest,
    413: InvalidRequest,
    415: InvalidRequest,
    422: InvalidRequest,
    429: TooManyRequests,
    503: LedgerUnavailable,
}
_BY_CODE: Final[Mapping[str, type[CoordinatorError]]] = {
    "idempotency_conflict": IdempotencyConflict,
    "chain_unavailable": ChainUnavailable,
    "configuration": ConfigurationError,
}


def of_problem(status: int, problem: Mapping[str, Any]) -> CoordinatorError:
    """Return the error of RFC 9457 problem details; ``code`` and ``money_moved`` are theirs."""
    code, detail = str(problem["code"]), str(problem["detail"])
    kind = _BY_CODE.get(code) or _BY_STATUS.get(status)
    if kind is None:
        kind = Denied if status == 409 else CoordinatorError
    error = kind(detail)
    error.code = code
    error.money_moved = problem.get("money_moved")
    return error
