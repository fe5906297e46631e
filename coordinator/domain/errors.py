"""The errors. Answers of policy, approvers and chain are returned, not raised."""

from __future__ import annotations


class CoordinatorError(Exception):
    """Root of everything the coordinator raises.

    ``money_moved`` is False when nothing left the treasury, True when something did, and
    None when it is not known: reconcile first, never pay again.
    """

    money_moved: bool | None = False
    code: str = "error"


class InvalidRequest(CoordinatorError, ValueError):
    """The request is malformed; nothing was written and nothing is held."""

    def __init__(self, message: str, *, code: str = "invalid_request") -> None:
        super().__init__(message)
        self.code = code


class UnknownId(InvalidRequest):
    """No purchase, approval or agent has this id; nothing was written."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="not_found")


class Denied(CoordinatorError):
    """A refused cost was used as if it were held; nothing is held or spent.

    ``code`` is the refusal's own.
    """

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


class IdempotencyConflict(CoordinatorError):
    """The key belongs to a purchase with other terms; nothing was written."""

    code = "idempotency_conflict"


class LedgerUnavailable(CoordinatorError):
    """The database cannot be read or written; the decision was not made."""

    code = "ledger_unavailable"


class LedgerTampered(LedgerUnavailable):
    """Another program changed a row of the database; nothing was done because of it."""

    code = "ledger_tampered"

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(
            f"the database was changed outside this program: {what}; run `coordinator audit verify`"
        )


class CoordinatorClosed(LedgerUnavailable):
    """The coordinator was closed before this call; nothing was done."""

    code = "closed"


class ForkedProcess(LedgerUnavailable):
    """A forked child used its parent's coordinator; nothing was done."""

    code = "forked_process"


class CommitUnknown(LedgerUnavailable):
    """The database was cut off while it committed: it may or may not have been written."""

    money_moved = None


class ConfigurationError(CoordinatorError):
    """Settings or policy are missing or contradict each other; every fault is in ``faults``."""

    code = "configuration"

    def __init__(self, *faults: str) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class ChainUnavailable(CoordinatorError):
    """The endpoint did not answer a read; nothing was sent."""

    code = "chain_unavailable"


class SignerUnavailable(ChainUnavailable):
    """The device or service that has a key did not answer; nothing was signed or sent."""

    code = "signer_unavailable"


class TxReverted(CoordinatorError):
    """A contract refused a call, with ``reason`` as it gave it; no USDC moved."""

    code = "reverted"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class OutcomeUnknown(CoordinatorError):
    """A transaction was sent and nothing proves what became of it; reconcile first."""

    code = "outcome_unknown"
    money_moved = None

    def __init__(self, message: str, *, tx_hash: str) -> None:
        super().__init__(message)
        self.tx_hash = tx_hash


class LeaseLost(CoordinatorError):
    """Another executor holds the signer's lease; the refused bytes are never sent."""

    code = "lease_lost"


class ImpossibleState(CoordinatorError):
    """The books or the chain are in an impossible state; the executor stops instead of guessing."""

    code = "impossible_state"
    money_moved = None
