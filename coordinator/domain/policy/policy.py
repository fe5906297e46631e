"""The policy: who may spend how much on what, as one validated value."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from coordinator.domain.errors import ConfigurationError
from coordinator.domain.policy.contradictions import contradictions
from coordinator.domain.policy.faults import Fault, besides, fault_of, fault_text, without
from coordinator.domain.policy.model import PolicyModel
from coordinator.domain.policy.values import UNLIMITED


class Policy(PolicyModel):
    """The whole policy.

    ``from_dict`` and a policy file tell every fault at once, contradictions too. One built in code
    raises pydantic's ValidationError (a ValueError) for a wrong type, and its contradictions are
    told as a ConfigurationError when a coordinator is made with it.
    """

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Policy:
        """Make the policy of a parsed document; ConfigurationError lists every fault."""
        policy, faults = cls.examine(document)
        if policy is None:
            raise ConfigurationError(*(fault_text(path, text) for path, text in faults))
        return policy

    @classmethod
    def examine(cls, document: dict[str, Any]) -> tuple[Policy | None, list[Fault]]:
        """Return the policy, or None and every fault as (key path, sentence)."""
        try:
            policy = cls.model_validate(document)
        except ValidationError as error:
            faults = [fault_of(details) for details in error.errors()]
            return None, faults + cls._hidden_contradictions(document, faults)
        faults = contradictions(policy)
        return (None, faults) if faults else (policy, [])

    @classmethod
    def _hidden_contradictions(cls, document: dict[str, Any], faults: list[Fault]) -> list[Fault]:
        """Find the contradictions besides ``faults``, so that one reading tells everything."""
        rest, spoils = document, [path for path, _ in faults]
        while spoils and all(spoils):
            rest = without(rest, spoils)
            rest.setdefault("organisation", {"total_limit": UNLIMITED})
            try:
                sound = cls.model_validate(rest)
            except ValidationError as error:
                # A table that lacks what it needs goes as a whole.
                spoils = [fault_of(details)[0][:-1] for details in error.errors()]
            else:
                return besides(faults, contradictions(sound), sound)
        return []
