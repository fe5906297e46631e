"""coordinator init: the files of a new treasury."""

from __future__ import annotations

import os
import re
import secrets
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Final

import typer

from coordinator.cli.command import ask, at_terminal, mode, note
from coordinator.cli.output import card, emit, heading, next_commands, say
from coordinator.doctor.check import start_anvil
from coordinator.domain.errors import CoordinatorError, InvalidRequest

_KEYS: Final = ("new-env", "new-keystore", "existing")
_KEY_NAME: Final = "TREASURY_PRIVATE_KEY"
_APPROVERS_LINE: Final = re.compile(r"^approvers = .*$", re.MULTILINE)
_PROVIDER_TABLE: Final = re.compile(r"^\[providers\..*?(?=^\[)", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers of the person or the options; ``signer`` only for an existing key."""

    network: str
    rpc_url: str
    key: str
    signer: str | None
    approver: str | None
    credential: str | None
    provider_address: str | None


def init(
    network: Annotated[str | None, typer.Option(help="anvil, base-sepolia or base.")] = None,
    rpc_url: Annotated[
        str | None, typer.Option(help="One or more endpoint URLs, comma separated.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="The treasury's key: new-env, new-keystore or existing.")
    ] = None,
    signer: Annotated[
        str | None,
        typer.Option(
            help="An existing key: env:NAME, keystore:PATH, aws-kms:KEY_ID or pkcs11:URI."
        ),
    ] = None,
    approver: Annotated[str | None, typer.Option(help="Who approves large purchases.")] = None,
    credential: Annotated[
        str | None,
        typer.Option(
            help="The credential that the approver signs with: address:0x… or safe:0x…;"
            " needed on a public network."
        ),
    ] = None,
    provider_address: Annotated[
        str | None, typer.Option(help="The first provider's address, for a public network.")
    ] = None,
    folder: Annotated[Path, typer.Option(help="The folder to write the files to.")] = Path("."),
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Take the defaults without asking.")
    ] = False,
) -> None:
    """Write .env (network, key, id secret) and policy.toml; never overwrites a file."""
    env_path, policy_path = folder / ".env", folder / "policy.toml"
    if env_path.exists():
        raise InvalidRequest(
            f"{env_path} exists already and init overwrites nothing: its id secret must not be"
            " lost. Use another --folder, or move it away",
            code="exists",
        )
    asking = at_terminal() and not yes
    if not asking and not yes:
        raise InvalidRequest("not at a terminal: add --yes, and --network and --key to choose them")
    answers = _answers(
        network, rpc_url, key, signer, approver, credential, provider_address, asking=asking
    )
    _check(answers)
    lines, address, keystore = _settings(answers)
    policy_written = not policy_path.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(env_path, "\n".join(lines) + "\n", 0o600)
        if policy_written:
            _write(policy_path, policy_text(answers), 0o644)
    except OSError as fault:
        raise InvalidRequest(f"{fault.filename} can't be written: {fault.strerror}") from None
    if mode.json:
        emit(
            {
                "network": answers.network,
                "address": address,
                "env": str(env_path),
                "policy": str(policy_path),
                "policy_written": policy_written,
                "keystore": str(keystore) if keystore else None,
            }
        )
        return
    rows = [
        ("network", f"{answers.network}, {_host(answers.rpc_url)}"),
        ("treasury", address or "the key that you have"),
        ("settings", f"{env_path} (secret: nobody else can read it)"),
        ("policy", policy_path if policy_written else f"{policy_path} (kept as it was)"),
        ("keystore", keystore),
    ]
    card("Ready", "ok", rows)
    _advise(answers, address)


def _answers(
    network: str | None,
    rpc_url: str | None,
    key: str | None,
    signer: str | None,
    approver: str | None,
    credential: str | None,
    provider_address: str | None,
    *,
    asking: bool,
) -> Answers:
    from coordinator.provisioning.contracts import find_network, list_networks

    def answer(question: str, given: str | None, default: str) -> str:
        if given is not None or not asking:
            return given if given is not None else default
        return ask(question, None, question, default=default)

    # A simulated chain ends with its process: there is nothing to write a .env for.
    offered = [known.name for known in list_networks() if not known.simulated]
    network = answer(f"Network ({', '.join(offered)})", network, "anvil")
    if network not in offered:
        raise InvalidRequest(f"the network is one of {', '.join(offered)}, not {network[:40]!r}")
    known = find_network(network)
    rpc_url = answer("Endpoint", rpc_url, known.rpc_url)
    if key is None and signer is not None:
        key = "existing"
    key = answer(
        f"Treasury's key ({', '.join(_KEYS)})",
        key,
        "new-keystore" if network == "base" else "new-env",
    )
    if key == "existing":
        question = "Signer (env:NAME, keystore:PATH, aws-kms:KEY_ID or pkcs11:URI)"
        signer = answer(question, signer, f"env:{_KEY_NAME}")
    if asking and approver is None:
        approver = ask("Who approves large purchases", None, "--approver NAME", default="alice")
    if asking and not known.local and credential is None:
        question = "Credential that this approver signs with (address:0x… or safe:0x…)"
        credential = ask(question, None, "--credential address:0x…")
    if asking and not known.local and provider_address is None:
        question = "Address of the first provider (empty: none yet)"
        provider_address = ask(question, None, "--provider-address", default="") or None
    return Answers(network, rpc_url, key, signer, approver, credential, provider_address)


def _check(answers: Answers) -> None:
    from coordinator.domain.address import checksummed
    from coordinator.domain.inputs import identifier

    if answers.key not in _KEYS:
        raise InvalidRequest(f"the key is one of {', '.join(_KEYS)}")
    by_name = answers.key == "new-env" or (answers.signer or "").startswith("env:")
    if answers.network == "base" and by_name:
        raise InvalidRequest(
            "on base the key is kept in a keystore (--key new-keystore), in AWS KMS or in a token"
        )
    if answers.approver is not None:
        identifier("approver", answers.approver)
    _check_credential(answers)
    if answers.provider_address is not None:
        try:
            checksummed(answers.provider_address)
        except ValueError as fault:
            raise InvalidRequest(str(fault), code="invalid_provider") from None


def _check_credential(answers: Answers) -> None:
    from coordinator.domain.policy.credentials import Credential

    if answers.credential is None:
        if answers.network != "anvil":
            raise InvalidRequest(
                f"on {answers.network} approvers sign what they decide: add"
                " --credential address:0x… (`coordinator wallet new NAME` makes a key)"
            )
        return
    try:
        Credential.parse(answers.credential)
    except ValueError as fault:
        raise InvalidRequest(str(fault), code="invalid_credential") from None


def _settings(answers: Answers) -> tuple[list[str], str | None, Path | None]:
    """The lines of ``.env``, the treasury's address where it is known, a new keystore's path."""
    from coordinator.cli.wallet import password
    from coordinator.provisioning.keys import (
        KEYSTORE_FOLDER,
        address_of_key,
        new_key,
        new_keystore,
    )

    lines = [
        "# Made by `coordinator init`. It holds secrets: keep it out of version control.",
        f"COORDINATOR_NETWORK={answers.network}",
        f"COORDINATOR_RPC_URL={answers.rpc_url}",
    ]
    address: str | None = None
    keystore: Path | None = None
    if answers.key == "new-env":
        key = new_key()
        address = address_of_key(key)
        lines += [
            f"COORDINATOR_SIGNER=env:{_KEY_NAME}",
            f"# The key of {address}.",
            f"{_KEY_NAME}=0x{key.hex()}",
        ]
    elif answers.key == "new-keystore":
        made = new_keystore(password(new=True), KEYSTORE_FOLDER)
        address, keystore = made.address, made.path.resolve()
        lines.append(f"COORDINATOR_SIGNER=keystore:{keystore}")
    else:
        lines.append(f"COORDINATOR_SIGNER={answers.signer}")
    lines += [
        "# Back this up apart from the database: only this secret proves which escrows are ours.",
        f"COORDINATOR_ID_SECRET={secrets.token_hex(32)}",
    ]
    start = _head(answers)
    if start is not None:
        lines.append(f"COORDINATOR_START_BLOCK={start}")
    return lines, address, keystore


def _head(answers: Answers) -> int | None:
    """The endpoint's latest block: a new treasury has nothing before it on a public network."""
    from coordinator.domain.access.urls import call_urls
    from coordinator.provisioning.contracts import find_network, read_head

    network = find_network(answers.network)
    # What an old key did before belongs into its journal.
    if network.local or answers.key == "existing":
        return None
    try:
        head = read_head(network.name, call_urls(answers.rpc_url))
    except CoordinatorError as fault:
        note(f"{fault}: the journal will start at the contracts' first block")
        return None
    if head is None:
        note(f"the endpoint is not one of {network.name}: `coordinator doctor` says more")
    return head


def policy_text(answers: Answers) -> str:
    """The shipped policy with the approver; on a public network only a provider that was named.

    The example's address has a key that everybody knows: whoever reads it could take the USDC.
    """
    text = template("policy.toml")
    if answers.credential is not None:
        named = (
            f'{{ {answers.approver or "alice"} = {{ credentials = ["{answers.credential}"] }} }}'
        )
        signs = 'signatures = "required"                  # who has no credential decides nothing'
        text = _APPROVERS_LINE.sub(f"approvers = {named}\n{signs}", text)
    elif answers.approver is not None:
        text = _APPROVERS_LINE.sub(f'approvers = ["{answers.approver}"]', text)
    if answers.network == "anvil":
        return text
    example = _PROVIDER_TABLE.search(text)
    assert example is not None
    if answers.provider_address is not None:
        named = f'[providers.paper-api]\naddress = "{answers.provider_address}"\n'
        named += 'service = "papers"                       # the name that it listens for\n\n'
        return text.replace(example[0], named)
    shown = re.sub(r'"0x[0-9a-fA-F]{40}".*', '"0x…"', example[0].rstrip())
    commented = "".join(f"# {line}\n" for line in shown.splitlines())
    return text.replace(example[0], commented + "\n")


def template(name: str) -> str:
    """The text of a file that ships with the package."""
    return (resources.files("coordinator.cli") / "templates" / name).read_text()


def _advise(answers: Answers, address: str | None) -> None:
    heading("Back up, in separate places")
    holds = "id secret and the treasury's key" if answers.key == "new-env" else "id secret"
    say(f"  .env            holds the {holds}: if you lose it, nobody can recover them")
    if answers.key == "new-keystore":
        say("  the keystore    and its password: if you lose either, nobody can recover the key;")
        say("                  it is among Foundry's keystores, not in this folder")
    say("  coordinator.db  holds budgets, approvals and the audit log: keep it apart from .env")
    if answers.network == "anvil":
        start = start_anvil(answers.rpc_url)
        next_commands(
            *([start] if start else []),
            "coordinator deploy",
            "coordinator fund",
            "coordinator doctor",
        )
        return
    if answers.provider_address is None:
        heading("Before the first purchase")
        say("  name a provider in policy.toml: without one every purchase is denied")
    to = f" for gas to {address}" if address else " for gas to the treasury"
    fund = ["coordinator fund"] if answers.network == "base-sepolia" else []
    next_commands("coordinator doctor", f"send ETH{to}", *fund)


def _host(rpc_url: str) -> str:
    from urllib.parse import urlsplit

    return ", ".join(urlsplit(url.strip()).netloc.rpartition("@")[2] for url in rpc_url.split(","))


def _write(path: Path, text: str, permissions: int) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, permissions)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
