"""coordinator wallet: keystore files for the treasury's key."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from coordinator.cli.command import at_terminal, command, mode, new_app, note
from coordinator.cli.output import card, emit, next_commands, say
from coordinator.domain.errors import InvalidRequest
from coordinator.domain.plain_text import decode_file

app = new_app("wallet", "Create and list keystore files for the treasury's key.")

KEYSTORE_FOLDER: Final = Path(".local/keystores")
_PASSWORD: Final = "COORDINATOR_KEYSTORE_PASSWORD"
_PASSWORD_LENGTH_MIN: Final = 8

Folder = Annotated[Path, typer.Option(help="The folder of the keystore files.")]


@command(app, "new")
def new(folder: Folder = KEYSTORE_FOLDER) -> None:
    """Create a new key in a keystore file."""
    from coordinator.provisioning.keys import new_keystore

    _tell(*new_keystore(password(new=True), folder))


@command(app, "import")
def import_(
    file: Annotated[
        Path | None, typer.Option("--file", help="A file with the key in hex, or a keystore file.")
    ] = None,
    folder: Folder = KEYSTORE_FOLDER,
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
            _tell(*import_keystore(file, password(new=False), folder))
            return
    else:
        text = str(
            typer.prompt("Private key", hide_input=True, err=True)
            if at_terminal()
            else sys.stdin.readline()
        )
    _tell(*import_private_key(text, lambda: password(new=True), folder))


@command(app, "list")
def list_(folder: Folder = KEYSTORE_FOLDER) -> None:
    """List the keystore files of a folder, and mark the one in use."""
    from coordinator.config import environment, load_settings
    from coordinator.provisioning.keys import list_keystores

    used = load_settings(environment()).signer
    found = [
        {
            "address": address,
            "path": str(path),
            "in_use": used.startswith("keystore:")
            and Path(used.removeprefix("keystore:")).expanduser().resolve() == path.resolve(),
        }
        for address, path in list_keystores(folder)
    ]
    if mode.json:
        emit(found)
        return
    if not found:
        say(f"no keystore files in {folder}")
    for one in found:
        address = one["address"] or "address not in the file"
        say(f"{address}{'  in use' if one['in_use'] else ''}", style="bold")
        say(f"  {one['path']}")


def password(*, new: bool) -> str:
    """The password of the environment (or its file), or what the person types."""
    from coordinator.config import Secrets, environment

    given = Secrets(environment()).get(_PASSWORD)
    if given is None:
        if not sys.stdin.isatty():
            raise InvalidRequest(f"{_PASSWORD} (or {_PASSWORD}_FILE) is not set")
        given = str(typer.prompt("Password", hide_input=True, confirmation_prompt=new, err=True))
    if new and len(given) < _PASSWORD_LENGTH_MIN:
        raise InvalidRequest(f"the password must have at least {_PASSWORD_LENGTH_MIN} characters")
    return given


def _tell(address: str, path: Path) -> None:
    if mode.json:
        emit({"address": address, "path": str(path)})
        return
    card("Keystore", None, [("address", address), ("file", path)])
    next_commands(
        f"put COORDINATOR_SIGNER=keystore:{path} into .env",
        f"put the password into {_PASSWORD}, or into a file whose path is in {_PASSWORD}_FILE",
    )
    if not os.environ.get(_PASSWORD):
        note("back up the file and its password, in separate places")
