"""Bodies of requests and answers about the policy, as OpenAPI describes them."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from coordinator.server.models import Anything, Body, Usdc


class OwnLimit(BaseModel):
    """A limit in force of an agent, and where its amount comes from."""

    scope: str
    window: str
    limit: Usdc
    source: str


class Payee(BaseModel):
    """A provider that the agent may pay."""

    name: str
    address: str
    service: str | None


class OwnPolicy(BaseModel):
    """The policy as it concerns one agent."""

    agent: str
    role: str | None
    enabled: bool
    approval_threshold: Annotated[
        str, Field(description='Above it people are asked; "unlimited": never.')
    ]
    limits: list[OwnLimit]
    providers: list[Payee]
    categories: list[str]
    default_category: str | None
    policy_hash: str


class PolicyText(Body):
    """A policy file's text."""

    toml: Annotated[str, Field(min_length=1, max_length=60_000)]


class PolicyModel(BaseModel):
    """A policy, key for key as its file, with its hash."""

    hash: str
    policy: Anything


class PolicyCheck(BaseModel):
    """Whether a policy file is valid, and what applying it would change."""

    ok: bool
    hash: str | None
    faults: list[str]
    changes: list[Anything]
