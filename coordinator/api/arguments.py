"""Check arguments of public methods against their annotations; refuse others by name."""

from __future__ import annotations

import functools
import inspect
import math
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar

from coordinator.budgets.budgets import Sharing
from coordinator.domain.errors import InvalidRequest
from coordinator.domain.policy.policy import Policy

_INTEGER_MAX: Final = 2**62

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_CODES: Final = {"provider": "invalid_provider", "purpose": "invalid_purpose"}

T = TypeVar("T")


def _is_text(value: object) -> bool:
    # What can't be encoded, such as half a surrogate pair, can't be stored or shown.
    return (
        isinstance(value, str)
        and "\0" not in value
        and (value.isascii() or _SURROGATE.search(value) is None)
    )


def _is_integer(value: object) -> bool:
    return type(value) is int and abs(value) < _INTEGER_MAX


def _is_number(value: object) -> bool:
    return _is_integer(value) or (isinstance(value, float) and math.isfinite(value))


_KINDS: Final[Mapping[str, tuple[str, Callable[[object], bool]]]] = {
    "str": ("text", _is_text),
    "int": ("a whole number", _is_integer),
    "float": ("a number", _is_number),
    "bool": ("True or False", lambda value: isinstance(value, bool)),
    "datetime": ("a datetime", lambda value: isinstance(value, datetime)),
    "Path": ("a path", lambda value: isinstance(value, Path) and "\0" not in str(value)),
    "Mapping[str, Any]": ("a table", lambda value: isinstance(value, Mapping)),
    "Policy": ("a Policy", lambda value: isinstance(value, Policy)),
    "Sharing": ("what `share` answered", lambda value: isinstance(value, Sharing)),
    "Progress": ("a function", callable),
    "None": ("None", lambda value: value is None),
}


def checked(owner: type[T]) -> type[T]:
    """Make every public method of the class refuse arguments that don't fit its annotations.

    InvalidRequest, before anything else is done. Where an annotation names other types than those
    in ``_KINDS`` the method itself tells what it takes.
    """
    for name, method in list(vars(owner).items()):
        if inspect.isfunction(method) and not name.startswith("_"):
            wanted = dict(_wanted(method))
            if wanted:
                setattr(owner, name, _checking(method, wanted))
    return owner


def _wanted(method: Callable[..., Any]) -> Iterator[tuple[str, list[str]]]:
    for name, annotation in method.__annotations__.items():
        kinds = str(annotation).split(" | ")
        if name != "return" and all(kind in _KINDS for kind in kinds):
            yield name, kinds


def _checking(method: Callable[..., Any], wanted: Mapping[str, list[str]]) -> Callable[..., Any]:
    signature = inspect.signature(method)
    names = tuple(signature.parameters)
    fits = {name: tuple(_KINDS[kind][1] for kind in kinds) for name, kinds in wanted.items()}

    def check(*args: Any, **named: Any) -> None:
        # Binding takes longer than all the rest: only what does not fit is told by it.
        for name, value in (*zip(names, args, strict=False), *named.items()):
            kinds = fits.get(name)
            if kinds is not None and not any([fit(value) for fit in kinds]):
                signature.bind(*args, **named)
                raise _refusal(name, value, wanted[name])

    if inspect.iscoroutinefunction(method):

        @functools.wraps(method)
        async def awaiting(*args: Any, **named: Any) -> Any:
            check(*args, **named)
            return await method(*args, **named)

        return awaiting

    @functools.wraps(method)
    def calling(*args: Any, **named: Any) -> Any:
        check(*args, **named)
        return method(*args, **named)

    return calling


def _refusal(name: str, value: object, kinds: list[str]) -> InvalidRequest:
    words = " or ".join(_KINDS[kind][0] for kind in kinds if kind != "None")
    given = "" if isinstance(value, str | int | float) else f", not {type(value).__name__}"
    told = "agent" if name == "agent_id" else name.replace("_", " ")
    code = _CODES.get(name, "invalid_request")
    return InvalidRequest(f"{told} must be {words}{given}", code=code)
