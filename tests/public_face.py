"""Everything that programs and people rely on, as plain values: ``python -m tests.public_face``.

``tests/public_face.json`` keeps it; what differs from that file is a change that users notice.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Final

import typer
from pydantic import BaseModel

import coordinator
from coordinator.cli import make_app
from coordinator.cli.exits import ExitCode
from coordinator.config import Settings
from coordinator.domain.policy.policy import Policy
from coordinator.domain.reasons import ReasonCode

FILE: Final = Path(__file__).with_name("public_face.json")
KEPT: Final[dict[str, Any]] = json.loads(FILE.read_text())


def face() -> dict[str, Any]:
    """Return names with signatures, commands with options, codes, settings and policy keys."""
    return {
        "python": {name: _described(getattr(coordinator, name)) for name in coordinator.__all__},
        "commands": dict(_commands(typer.main.get_command(make_app()), "coordinator")),
        "exit_codes": {code.name: code.value for code in ExitCode},
        "reason_codes": sorted(ReasonCode),
        "settings": sorted(Settings.model_fields),
        "policy": sorted(_keys(Policy.model_json_schema(by_alias=True))),
    }


def _described(item: Any) -> Any:
    if not inspect.isclass(item):
        return str(inspect.signature(item)) if callable(item) else repr(item)
    if issubclass(item, Enum):
        return [str(member.value) for member in item]
    members = {
        name: _signature(value)
        for owner in reversed(item.__mro__)
        if owner.__module__.startswith("coordinator.")
        for name, value in vars(owner).items()
        if not name.startswith("_") and name not in dir(BaseModel)
    }
    owners = [owner for owner in item.__mro__ if owner.__module__.startswith("coordinator.")]
    fields = {name for owner in owners for name in vars(owner).get("__annotations__", {})}
    shown = {name: "field" for name in fields if not name.startswith("_")}
    return dict(sorted({**shown, **members}.items()))


def _signature(value: Any) -> str:
    function = getattr(value, "__func__", value)
    return str(inspect.signature(function)) if inspect.isfunction(function) else "attribute"


def _commands(command: Any, path: str) -> Iterator[tuple[str, list[str]]]:
    yield path, sorted(" ".join(p.opts + p.secondary_opts) for p in command.params)
    for name, inner in sorted(getattr(command, "commands", {}).items()):
        yield from _commands(inner, f"{path} {name}")


def _keys(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    """Yield each table with each of its keys, by the name of the table's type."""
    for name, table in {"policy": schema, **schema.get("$defs", {})}.items():
        for key in table.get("properties", {}):
            yield f"{name}.{key}"


if __name__ == "__main__":
    FILE.write_text(json.dumps(face(), indent=1, ensure_ascii=False) + "\n")
