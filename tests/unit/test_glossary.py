"""Names say what the glossary's words mean; retired words are in none."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import coordinator

_PACKAGE = Path(coordinator.__file__).parent
_GLOSSARY = (_PACKAGE.parent / "docs" / "glossary.md").read_text()


def retired() -> list[str]:
    listed = _GLOSSARY.partition("## Retired\n")[2]
    return [word.split()[0] for word in listed.split(",")]


def words() -> list[str]:
    return re.findall(r"^\| ([a-z][^|]*?) \|", _GLOSSARY.replace("| word |", ""), re.MULTILINE)


def names() -> Iterator[tuple[str, str]]:
    """Each class, function and module of the package, in snake case, with where it stands."""
    for file in sorted(_PACKAGE.rglob("*.py")):
        yield file.stem, str(file)
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                snake = re.sub(r"(?<!^)(?=[A-Z])", "_", node.name).lower()
                yield snake, f"{file.relative_to(_PACKAGE)}:{node.lineno}"


def test_no_name_has_a_retired_word() -> None:
    gone = set(retired())
    assert gone, "the glossary lists them"
    assert [(n, at) for n, at in names() if gone & set(n.split("_"))] == []


def test_no_docstring_begins_with_a_clause_in_place_of_a_verb_or_a_noun() -> None:
    clause = re.compile(r"(What|Where|Who|Whose|How|Which|Those)\b")
    found = []
    for file in sorted(_PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            # A command's docstring is its help, which answers a person's question.
            if file.parent.name == "cli" and isinstance(node, ast.FunctionDef):
                continue
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node) or ""
                if clause.match(text):
                    found.append(f"{file.relative_to(_PACKAGE)}: {text.splitlines()[0]}")
    assert found == []


def test_each_word_stands_once_and_in_order() -> None:
    listed = words()
    assert len(listed) > 40
    assert listed == sorted(set(listed))
