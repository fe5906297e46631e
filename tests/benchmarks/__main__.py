"""Benchmarks: ``scripts/bench PART [--json]``.

Each part is a module: ``parse(parser)`` adds its arguments, ``measure(arguments, tell)`` makes the
summary, and ``show(summary)`` prints it. One with ``plot(summary)`` can be drawn, one with
``code(summary)`` decides the exit code.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Final

from tests.benchmarks.console import teller

PARTS: Final = {
    "decisions": "durable decisions a second, and their ratios",
    "start": "how long the command line takes to start",
    "purchase": "purchases until they are funded, beside the least that the chain allows",
    "gas": "gas and fees of a purchase",
    "reconcile": "comparing books with the chain, beside downloading the same logs",
    "http": "a decision over HTTP, and many long polls",
    "x402": "how soon a payment for an HTTP request comes back signed",
    "idle": "what a worker with nothing to do asks and uses, and how soon it notices",
}


def main(given: Sequence[str] | None = None) -> int:
    """0 when it was measured, whatever came of it, unless the part says so; 2 for bad arguments."""
    arguments = parse(given)
    part = _module(arguments.what)
    summary = part.measure(arguments, teller())
    if getattr(arguments, "svg", None):
        from tests.benchmarks.plots import write

        write(part.plot(summary), arguments.svg)
    if arguments.json:
        print(json.dumps(summary, indent=2))
    else:
        part.show(summary)
    return int(part.code(summary)) if hasattr(part, "code") else 0


def parse(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments; those that make no sense end the process with 2."""
    asked = sys.argv[1:] if given is None else given
    parser = argparse.ArgumentParser(prog="scripts/bench", description=_DESCRIPTION)
    commands = parser.add_subparsers(dest="what", required=True, metavar="|".join(PARTS))
    for name, text in PARTS.items():
        command = commands.add_parser(name, help=text)
        command.add_argument("--json", action="store_true", help="one JSON object on stdout")
        if name in asked:
            # Importing all of them takes seconds of the time that is measured.
            part = _module(name)
            part.parse(command)
            if hasattr(part, "plot"):
                command.add_argument("--svg", type=Path, help="a file to draw bars into")
    return parser.parse_args(asked)


def _module(part: str) -> ModuleType:
    return importlib.import_module(f"tests.benchmarks.{part}")


_DESCRIPTION = """Measure the coordinator beside what the machine, the chain or a plain client does
by itself. Figures of different machines, or of different runs of one, are no comparison; the ratios
within a run are."""

if __name__ == "__main__":
    sys.exit(main())
