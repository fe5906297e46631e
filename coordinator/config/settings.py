"""Settings from the environment or ``.env``, and the policy file; every fault at once."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from coordinator.config.sources import PREFIX, SECRET_NAMES, SIMULATED, Secrets
from coordinator.domain.access.destinations import networks
from coordinator.domain.access.urls import call_urls, is_ws, public_origin, split_urls
from coordinator.domain.address import checksummed
from coordinator.domain.errors import ConfigurationError
from coordinator.domain.hosts import parse_host_name
from coordinator.domain.plain_text import decode_file
from coordinator.domain.policy.faults import fault_text
from coordinator.domain.policy.policy import Policy
from coordinator.domain.policy.text import parse_policy
from coordinator.domain.statements.pins import Pins
from coordinator.domain.usdc import Usdc

log = logging.getLogger(__name__)

_HEX_SECRET: Final = re.compile(r"(0x)?[0-9a-fA-F]{64,}", re.ASCII)
# Settings that may hold a password or an endpoint's key: they too can be given as a file.
_RPC_SCHEMES: Final = ("http", "https", "ws", "wss")
_MAY_BE_FILES: Final = ("database_url", "rpc_url")


class Settings(BaseSettings):
    """Every setting, frozen; names are ``COORDINATOR_`` and the field in capitals."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    network: Literal["anvil", "simulated", "base-sepolia", "base"] = "anvil"
    rpc_url: str | None = None
    # Not shown: it may hold a password.
    database_url: Annotated[str, Field(repr=False)] = "sqlite:///coordinator.db"
    policy_file: Path = Path("policy.toml")
    signer: str = "env:TREASURY_PRIVATE_KEY"
    # An approver's, on the approver's own machine.
    approver_signer: str | None = None
    former_signers: str = ""
    x402_signer: str | None = None
    payer: Literal["wallet", "safe"] = "wallet"
    safe_address: str | None = None
    roles_address: str | None = None
    rail: Literal["actp"] = "actp"
    kernel_address: str | None = None
    vault_address: str | None = None
    usdc_address: str | None = None
    start_block: Annotated[int, Field(ge=0)] | None = None
    confirmations: Annotated[int, Field(ge=1, le=1000)] = 1
    finality: str | None = None
    allowance_limit: str = "1000"
    max_fee_gwei: str | None = None
    poll_seconds: Annotated[float, Field(ge=0.1, le=600)] | None = None
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["text", "json"] = "text"
    public_url: str | None = None
    deployments_folder: Path = Path(".local/deployments")
    state_folder: Path = Path(".local/state")
    webhook_allow: str = ""
    host_name: str | None = None
    host_key_file: Path | None = None
    worker_approvers: str | None = None
    worker_required: Annotated[int, Field(ge=1, le=20)] | None = None
    worker_daily_limit: str | None = None
    worker_total_limit: str | None = None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what is given counts: ``environment`` says where it comes from."""
        return (init_settings,)

    @field_validator(
        "kernel_address", "vault_address", "usdc_address", "safe_address", "roles_address"
    )
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        return checksummed(value) if value else None

    @field_validator("host_name")
    @classmethod
    def _host_name(cls, value: str | None) -> str | None:
        return parse_host_name(value) if value else None

    @field_validator("rpc_url")
    @classmethod
    def _urls(cls, value: str | None) -> str | None:
        for url in (value or "").split(","):
            if "@" in url.strip().partition("@")[2]:
                raise ValueError("has two @: write an @ in the password as %40")
            parts = urlsplit(url.strip())
            if "@" in parts.path + parts.query:
                raise ValueError("has a / or ? in its password: write them as %2F and %3F")
            if url.strip() and (parts.scheme not in _RPC_SCHEMES or not parts.hostname):
                raise ValueError(
                    "must be URLs such as http://127.0.0.1:8545, comma separated; one with ws:// or"
                    " wss:// announces new blocks"
                )
        return value

    @field_validator("public_url")
    @classmethod
    def _origin(cls, value: str | None) -> str | None:
        return public_origin(value) if value else None

    @field_validator("finality")
    @classmethod
    def _finality(cls, value: str | None) -> str | None:
        # A depth counts like confirmations: 1 is the latest block itself, 0 would be the next.
        if value and value not in ("finalized", "safe") and not re.fullmatch("[1-9][0-9]*", value):
            raise ValueError("must be finalized, safe or a number of blocks from 1")
        return value or None

    @field_validator("max_fee_gwei")
    @classmethod
    def _gwei(cls, value: str | None) -> str | None:
        if value and not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", value):
            raise ValueError("must be a number of gwei such as 0.5")
        return value or None

    @field_validator("webhook_allow")
    @classmethod
    def _networks(cls, value: str) -> str:
        networks(value)
        return value

    @field_validator("allowance_limit", "worker_daily_limit", "worker_total_limit")
    @classmethod
    def _usdc(cls, value: str | None) -> str | None:
        if value:
            Usdc(value)
        return value or None

    @field_validator("worker_approvers")
    @classmethod
    def _pinned(cls, value: str | None) -> str | None:
        if value:
            Pins.parse(value, None)
        return value or None

    @model_validator(mode="after")
    def _pins(self) -> Settings:
        if self.worker_approvers is not None:
            Pins.parse(self.worker_approvers, self.worker_required)
        return self

    @model_validator(mode="after")
    def _payer(self) -> Settings:
        named = (self.safe_address, self.roles_address)
        if self.payer == "safe" and not all(named):
            raise ValueError(
                "COORDINATOR_PAYER=safe needs COORDINATOR_SAFE_ADDRESS and"
                " COORDINATOR_ROLES_ADDRESS: `coordinator treasury show` tells both"
            )
        if self.payer == "safe" and self.network == SIMULATED:
            raise ValueError(
                "COORDINATOR_PAYER=safe needs a chain with Safe's contracts, and the simulated"
                " one has none: use anvil, base-sepolia or base"
            )
        if self.payer == "wallet" and any(named):
            raise ValueError(
                "COORDINATOR_SAFE_ADDRESS and COORDINATOR_ROLES_ADDRESS are for"
                " COORDINATOR_PAYER=safe"
            )
        return self

    @property
    def pins(self) -> Pins | None:
        """The approvers that the worker pins; None where it believes the policy in force."""
        if self.worker_approvers is None:
            return None
        return Pins.parse(self.worker_approvers, self.worker_required)

    @property
    def max_fee_wei(self) -> int | None:
        """The fee ceiling in wei per gas; None for none."""
        if self.max_fee_gwei is None:
            return None
        whole, _, part = self.max_fee_gwei.partition(".")
        return int(whole) * 10**9 + int(part.ljust(9, "0"))

    @property
    def former_signer_specs(self) -> tuple[str, ...]:
        """Former signers, the last one before the present first."""
        return tuple(s.strip() for s in self.former_signers.split(",") if s.strip())

    @property
    def rpc_urls(self) -> tuple[str, ...]:
        """The endpoints that are asked, all of them HTTP."""
        return call_urls(self.rpc_url or "")

    @property
    def ws_urls(self) -> tuple[str, ...]:
        """The endpoints that may announce new blocks, all of them WebSocket."""
        return tuple(url for url in split_urls(self.rpc_url or "") if is_ws(url))


def load_settings(env: Mapping[str, str]) -> Settings:
    """Return the settings in ``env``; ConfigurationError lists every fault and unknown name."""
    known = {f"{PREFIX}{name.upper()}": name for name in Settings.model_fields}
    files = {f"{PREFIX}{name.upper()}": name for name in _MAY_BE_FILES}
    filed = {f"{name}_FILE" for name in (*SECRET_NAMES, *files)}
    others = {*SECRET_NAMES, *filed, "COORDINATOR_KILL_AT"}
    faults = [
        f"{name} is not a setting"
        for name in sorted(env)
        if name.startswith(PREFIX) and name not in known and name not in others
    ]
    values = {field: env[name] for name, field in known.items() if name in env}
    for name, field in files.items():
        if field not in values and f"{name}_FILE" in env:
            try:
                values[field] = Secrets(env)[name]
            except ConfigurationError as fault:
                faults += fault.faults
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        faults += [
            fault_text((f"{PREFIX}{str(item['loc'][0]).upper()}",), _without_prefix(item["msg"]))
            for item in error.errors()
        ]
    if faults:
        raise ConfigurationError(*faults)
    return settings


def _without_prefix(message: str) -> str:
    return message.removeprefix("Value error, ").replace("Input should be", "must be")


def checked_settings(env: Mapping[str, str]) -> Settings:
    """Return the settings in ``env``; ConfigurationError with their faults and missing secrets.

    The simulated network makes the secrets that it is not given.
    """
    faults: list[str] = []
    settings = None
    try:
        settings = load_settings(env)
    except ConfigurationError as fault:
        faults += fault.faults
    if env.get("COORDINATOR_NETWORK") != SIMULATED:
        try:
            id_secret(Secrets(env))
        except ConfigurationError as fault:
            faults += fault.faults
        kind, _, name = (settings.signer if settings else "").partition(":")
        if kind == "env" and name and name not in env and f"{name}_FILE" not in env:
            faults.append(
                f"{name} is not set: put the treasury's private key there (see COORDINATOR_SIGNER)"
            )
    if faults or settings is None:
        raise ConfigurationError(*faults)
    return settings


def id_secret(secrets: Mapping[str, str]) -> bytes:
    """Return the id secret, at least 32 bytes in hex; ConfigurationError when missing or weak."""
    text = secrets.get("COORDINATOR_ID_SECRET")
    if not text:
        raise ConfigurationError(
            "COORDINATOR_ID_SECRET is not set: `coordinator init` makes one; for an existing"
            " database set the secret it was made with"
        )
    if not _HEX_SECRET.fullmatch(text.strip()):
        raise ConfigurationError("COORDINATOR_ID_SECRET must be at least 64 hex digits")
    digits = text.strip().removeprefix("0x")
    return bytes.fromhex(digits[: len(digits) // 2 * 2])


def read_policy(source: Policy | Path) -> Policy:
    """Return the policy of a file, or a policy built in code, with every fault told at once."""
    if isinstance(source, Policy):
        return Policy.from_dict(source.document())
    try:
        text = decode_file(source.read_bytes())
    except FileNotFoundError:
        raise ConfigurationError(
            f"there is no policy file {source}: `coordinator init` writes one"
        ) from None
    except OSError as fault:
        raise ConfigurationError(f"the policy file {source} can't be read: {fault}") from None
    except ValueError as fault:
        raise ConfigurationError(f"the policy file {source} {fault}") from None
    return parse_policy(text, name=source.name)
