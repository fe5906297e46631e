"""coordinator wallet: keystore files of keys, and their addresses."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from coordinator.cli.command import at_terminal, command, mode, new_app, note
from coordinator.cli.output import card, emit, next_commands, say
from coordinator.domain.errors import InvalidRequest
from coordinator.domain.plain_text import decode_file

if TYPE_CHECKING:
    from coordinator.provisioning.keys import KeystoreFile

app = new_app("wallet", "Create and list keystore files, and tell the addresses of keys.")

# Foundry's, which `cast wallet` uses too. The command line shows it before anything is imported.
_FOLDER: Final = Path("~/.foundry/keystores")
_PASSWORD: Final = "COORDINATOR_KEYSTORE_PASSWORD"
_NEW_PASSWORD: Final = "COORDINATOR_KEYSTORE_NEW_PASSWORD"
_PASSWORD_LENGTH_MIN: Final = 8
_DEVICES: Final = ("aws-kms:", "pkcs11:")
_KINDS: Final = ("env:", "keystore:", "address:", *_DEVICES)

Folder = Annotated[Path, typer.Option(help="The folder of the keystore files.")]
Name = Annotated[
    str | None, typer.Argument(help="The file's name; the key's address unless it is given.")
]


@command(app, "new")
def new(name: Name = None, folder: Folder = _FOLDER) -> None:
    """Create a new key in a keystore file."""
    from coordinator.provisioning.keys import new_keystore

    _tell(new_keystore(password(new=True), folder, name))


@command(app, "import")
def import_(
    name: Name = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="A file with the key in hex, or a keystore file.")
    ] = None,
    folder: Folder = _FOLDER,
) -> None:
    """Import a key you have, from a prompt, a file or stdin, into a keystore file."""
    from coordinator.provisioning.keys import import_keystore, import_private_key

    if file is not None:
        try:
            text = decode_file(file.read_bytes())
        except OSError as fault:
            raise InvalidRequest(f"{file} can't be read: {fault.strerror}") from None
        except ValueError as fault:
            raise InvalidRequest(f"{file} {fault}") from None
        if text.lstrip().startswith("{"):
            _tell(import_keystore(file, password(new=False), folder, name))
            return
    else:
        text = str(
            typer.prompt("Private key", hide_input=True, err=True)
            if at_terminal()
            else sys.stdin.readline()
        )
    _tell(import_private_key(text, lambda: password(new=True), folder, name))


@command(app, "list")
def list_(folder: Folder = _FOLDER) -> None:
    """List the keystore files of a folder, and mark the one in use."""
    from coordinator.config import environment, load_settings
    from coordinator.provisioning.keys import find_keystore, list_keystores

    used = load_settings(environment()).signer
    in_use = None
    if used.startswith("keystore:"):
        in_use = find_keystore(used.removeprefix("keystore:")).resolve()
    found = [
        {
            "name": one.name,
            "address": one.address,
            "path": str(one.path),
            "in_use": one.path.resolve() == in_use,
        }
        for one in list_keystores(folder)
    ]
    if in_use is not None and not any(one["in_use"] for one in found):
        note(f"in use is {in_use}, which is not in this folder")
    if mode.json:
        emit(found)
        return
    if not found:
        say(f"no keystore files in {folder}")
    for one in found:
        say(f"{one['name']}{'  in use' if one['in_use'] else ''}", style="bold")
        say(f"  {one['address'] or 'address not in the file'}")
        say(f"  {one['path']}")


@command(app, "address")
def address(
    key: Annotated[
        str | None,
        typer.Argument(
            help="A keystore's name or path, or a signer such as aws-kms:KEY_ID; the one in use"
            " unless it is given."
        ),
    ] = None,
    folder: Folder = _FOLDER,
) -> None:
    """Open a key and print its address."""
    from coordinator.config import Secrets, environment, load_settings
    from coordinator.provisioning.keys import find_keystore, open_address

    secrets: Mapping[str, str] = Secrets(environment())
    signer = load_settings(environment()).signer if key is None else key
    if not signer.startswith(_KINDS):
        signer = f"keystore:{find_keystore(signer, folder)}"
    if signer.startswith("keystore:"):
        secrets = {_PASSWORD: password(new=False)}
    found = open_address(signer, secrets)
    if signer.startswith(_DEVICES) and "address=" not in signer:
        signer += f"{'&' if '?' in signer else '?'}address={found}"
    if mode.json:
        emit({"address": found, "signer": signer})
        return
    say(found)
    if signer.startswith(_DEVICES):
        note(f"to have it compared at every start: COORDINATOR_SIGNER={signer}")


@command(app, "change-password")
def change_password(
    name: Annotated[str, typer.Argument(help="The keystore's name or path.")],
    folder: Folder = _FOLDER,
) -> None:
    """Encrypt the key of a keystore file with another password."""
    from coordinator.provisioning import keys

    path = keys.find_keystore(name, folder)
    old = password(new=False)
    found = keys.change_password(path, old, password(new=True, setting=_NEW_PASSWORD))
    if mode.json:
        emit({"address": found, "path": str(path)})
        return
    card("Password changed", "ok", [("address", found), ("file", path)])
    note("copies of the file, such as backups, still open with the old password")


def password(*, new: bool, setting: str = _PASSWORD) -> str:
    """The password of the environment (or its file), or what the person types."""
    from coordinator.config import Secrets, environment

    given = Secrets(environment()).get(setting)
    if given is None:
        if not sys.stdin.isatty():
            raise InvalidRequest(f"{setting} (or {setting}_FILE) is not set")
        asked = "New password" if setting == _NEW_PASSWORD else "Password"
        given = str(typer.prompt(asked, hide_input=True, confirmation_prompt=new, err=True))
    if new and len(given) < _PASSWORD_LENGTH_MIN:
        raise InvalidRequest(f"the password must have at least {_PASSWORD_LENGTH_MIN} characters")
    return given


def _tell(made: KeystoreFile) -> None:
    if mode.json:
        emit({"name": made.name, "address": made.address, "path": str(made.path)})
        return
    card("Keystore", None, [("name", made.name), ("address", made.address), ("file", made.path)])
    next_commands(
        f"for the treasury: put COORDINATOR_SIGNER=keystore:{made.path} into .env, and the password"
        f" into {_PASSWORD}, or into a file whose path is in {_PASSWORD}_FILE",
        f'for an approver: put credentials = ["address:{made.address}"] into the policy, and'
        f" COORDINATOR_APPROVER_SIGNER=keystore:{made.path} into the environment of who signs",
    )
    if not os.environ.get(_PASSWORD):
        note("back up the file and its password, in separate places")
