"""Parts that all commands share: options, faults as sentences, asking before acting."""

from __future__ import annotations

import functools
import getpass
import inspect
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from coordinator.cli.exits import ExitCode, of_fault
from coordinator.domain.errors import ChainUnavailable, CoordinatorError, InvalidRequest
from coordinator.domain.plain_text import visible
from coordinator.monitoring.logs import Format, set_up

if TYPE_CHECKING:
    from coordinator.api.coordinator import Coordinator
    from coordinator.domain.reasons import Reason


@dataclass(slots=True)
class Mode:
    """The output mode of this run, set by the options that every command has."""

    json: bool = False
    debug: bool = False
    verbose: bool = False


mode: Final = Mode()

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would happen; change nothing.")]
Timeout = Annotated[
    int,
    typer.Option(
        "--timeout-seconds", min=0, max=86_400, help="Stop waiting after this many seconds."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON only.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks and debug logs.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Log progress to stderr.")]
_NO_CHAIN: Final = (
    "nothing more was sent; start the endpoint or change COORDINATOR_RPC_URL (coordinator doctor)"
)
_COMMON: Final[dict[str, Any]] = {"json": Json, "debug": Debug, "verbose": Verbose}


def new_app(name: str | None = None, summary: str | None = None) -> typer.Typer:
    """An empty group of commands."""
    return typer.Typer(
        name=name,
        help=summary,
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["--help", "-h"]},
    )


def set_mode(*, json: bool, debug: bool, verbose: bool) -> None:
    """Add a command's options to those given before it."""
    mode.json |= json
    mode.debug |= debug
    mode.verbose |= verbose


def with_common_options(function: Callable[..., int | None]) -> Callable[..., None]:
    """The command with --json, --debug and -v; it returns its exit code, faults become one."""
    signature = inspect.signature(function, eval_str=True)
    common = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=kind)
        for name, kind in _COMMON.items()
    ]

    @functools.wraps(function)
    def run(**given: Any) -> None:
        set_mode(**{name: given.pop(name) for name in _COMMON})
        raise typer.Exit(carry_out(lambda: function(**given) or ExitCode.OK))

    parameters = [
        p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in signature.parameters.values()
    ]
    joined = signature.replace(parameters=[*parameters, *common], return_annotation=None)
    run.__signature__ = joined  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in joined.parameters.values()}
    return run


def command(
    app: typer.Typer, name: str, *, panel: str | None = None
) -> Callable[[Callable[..., int | None]], Any]:
    """Add the function to the group under ``name``."""

    def add(function: Callable[..., int | None]) -> Callable[..., int | None]:
        app.command(name, rich_help_panel=panel)(with_common_options(function))
        return function

    return add


def carry_out(run: Callable[[], int]) -> int:
    """The exit code of ``run``; whatever it raises is told as one sentence."""
    try:
        set_up_logging("DEBUG" if mode.debug else "INFO" if mode.verbose else one_shot_level())
        code = run()
        sys.stdout.flush()
        return code
    except typer.Exit as ended:
        return ended.exit_code
    except ChainUnavailable as fault:
        # A node that refuses has answered: what it said is the whole of it.
        what_to_do = f": {_NO_CHAIN}" if fault.code == ChainUnavailable.code else ""
        return fail(fault.code, f"{fault}{what_to_do}", of_fault(fault))
    except CoordinatorError as fault:
        return fail(fault.code, str(fault), of_fault(fault))
    except (KeyboardInterrupt, typer.Abort):
        return fail("aborted", "stopped by you", ExitCode.FAILED)
    except BrokenPipeError:
        # The reader of our output left; Python would complain when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.FAILED
    except Exception as fault:
        said = f"{type(fault).__name__}: {fault}"
        return fail("internal", f"unexpected: {said} (--debug shows where)", 1)


def fail(code: str, message: str, exit_code: int, **more: Any) -> int:
    """Tell what went wrong, as JSON on stdout or a sentence on stderr; gives ``exit_code``."""
    if mode.debug and sys.exc_info()[0] is not None:
        traceback.print_exc()
    if mode.json:
        print(json.dumps({"error": {"code": code, "message": message}, **more}, indent=2))
    else:
        for line in message.splitlines() or [code]:
            print(f"error: {visible(line)}", file=sys.stderr)
    return exit_code


def refuse(reason: Reason | None, exit_code: int, **more: Any) -> int:
    """Tell that an order was not carried out, and why; gives ``exit_code``."""
    if reason is None:
        return fail("refused", "it was refused", exit_code, **more)
    return fail(reason.code.value, reason.message, exit_code, **more)


def note(message: str) -> None:
    """Tell something beside the answer; on stderr, so that JSON stays alone."""
    print(visible(message, lines=True), file=sys.stderr)


def at_terminal() -> bool:
    """Whether a person can be asked."""
    return sys.stdin.isatty() and not mode.json


def confirm(question: str, *, yes: bool) -> None:
    """Go on only with a yes; without a terminal it must have been given as an option."""
    if yes:
        return
    if not at_terminal():
        raise InvalidRequest(
            f"{question} Not at a terminal: add --yes to confirm.", code="not_confirmed"
        )
    if not typer.confirm(question, err=True):
        raise typer.Abort


def confirm_person(question: str, *, yes: bool) -> None:
    """Go on only with a yes where a person can be asked; a script has said it by its options."""
    if at_terminal():
        confirm(question, yes=yes)


def ask(question: str, given: str | None, option: str, *, default: str | None = None) -> str:
    """``given``, or what the person at the terminal answers; InvalidRequest without one."""
    if given is not None:
        return given
    if not at_terminal():
        if default is not None:
            return default
        raise InvalidRequest(f"{option} is missing")
    return str(typer.prompt(question, default=default, err=True))


def operator_name(given: str | None) -> str:
    """The name given, or the user account's, for the audit log."""
    if given is not None:
        return given
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "operator"


@contextmanager
def opened(*, act: bool = True) -> Iterator[Coordinator]:
    """The coordinator of the environment and ``.env``, closed at the end."""
    from coordinator.api.coordinator import Coordinator

    with Coordinator.from_env(act=act) as coordinator:
        yield coordinator


def one_shot_level() -> str:
    """Only warnings, unless the environment asks for more."""
    wanted = os.environ.get("COORDINATOR_LOG_LEVEL", "")
    return wanted if wanted in ("DEBUG", "INFO", "WARNING", "ERROR") else "WARNING"


def one_shot_format() -> Format:
    """Lines for people, unless the environment asks for JSON."""
    return "json" if os.environ.get("COORDINATOR_LOG_FORMAT") == "json" else "text"


def set_up_logging(level: str, format: Format | None = None) -> None:
    """Log events to stderr; without a ``format`` in the one that the environment asks for."""
    set_up(level, format=format or one_shot_format(), tracebacks=mode.debug)
