"""Draw the package's rooms from its imports: ``python -m tests.rooms`` writes the picture."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import coordinator

PACKAGE: Final = Path(coordinator.__file__).parent
PAGE: Final = PACKAGE.parent / "docs" / "architecture.md"
_BEGIN: Final = "<!-- rooms: made by `python -m tests.rooms` -->\n"
_END: Final = "<!-- end of rooms -->\n"


def drawn() -> str:
    """Return the rooms as a table, top to bottom, and what each imports directly, as mermaid."""
    rows = [f"| `{name}` | {_summary(name)} | {_lines(name)} |" for name in _in_order()]
    edges = [f"    {above} --> {below}" for above, below in sorted(_imports())]
    table = ["| room | what it does | files |", "|---|---|---|", *rows]
    return "\n".join([*table, "", "```mermaid", "graph TD", *edges, "```", ""])


def kept() -> str:
    """Return the picture as the page has it."""
    return PAGE.read_text().partition(_BEGIN)[2].partition(_END)[0]


def _rooms() -> list[str]:
    inside = [p.name for p in PACKAGE.iterdir() if (p / "__init__.py").exists()]
    return sorted([*inside, *(p.stem for p in PACKAGE.glob("[a-z]*.py"))])


def _summary(room: str) -> str:
    file = PACKAGE / room / "__init__.py"
    text = (file if file.exists() else PACKAGE / f"{room}.py").read_text()
    return (ast.get_docstring(ast.parse(text)) or "").splitlines()[0]


def _files(room: str) -> list[Path]:
    folder = PACKAGE / room
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [PACKAGE / f"{room}.py"]


def _lines(room: str) -> str:
    inner = [p.name for p in sorted((PACKAGE / room).glob("*")) if (p / "__init__.py").exists()]
    shown = f" ({', '.join(inner)})" if inner else ""
    return f"{len(_files(room))}{shown}"


def _imports() -> set[tuple[str, str]]:
    return {
        (room, other)
        for room in _rooms()
        for file in _files(room)
        for other in _imported(file)
        if other != room and other in _rooms()
    }


def _imported(file: Path) -> Iterator[str]:
    for found in re.findall(r"from coordinator\.(\w+)", file.read_text()):
        yield str(found)


def _in_order() -> list[str]:
    """Rooms above those that they import."""
    edges, left, order = _imports(), set(_rooms()), []
    while left:
        top = sorted(room for room in left if not any(b == room and a in left for a, b in edges))
        order += top
        left -= set(top)
    return order


if __name__ == "__main__":
    before, _, rest = PAGE.read_text().partition(_BEGIN)
    PAGE.write_text(before + _BEGIN + drawn() + _END + rest.partition(_END)[2])
