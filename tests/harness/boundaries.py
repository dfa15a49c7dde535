"""Every named boundary in the source, read from its syntax tree."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "jobs" / "scanloop"


def boundaries(package: Path = PACKAGE) -> dict[str, str]:
    """Boundary → `file:line` of its `step("…")`.

    Raises:
        SyntaxError: a boundary has no literal name, or two have the same.
    """
    found: dict[str, str] = {}
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "step"):
                continue
            where = f"{path.relative_to(package).as_posix()}:{node.lineno}"
            argument = node.args[0] if node.args else None
            name = argument.value if isinstance(argument, ast.Constant) else None
            if not name or name in found:
                raise SyntaxError(
                    f"{where} marks {name}, as {found[name]} does" if name else f"{where} marks a boundary without a literal name"
                )
            found[str(name)] = where
    return found


def passed(trace: Path) -> Counter[str]:
    """How often each boundary was passed, from a trace."""
    return Counter(trace.read_text().split()) if trace.exists() else Counter()


def passings(count: int, most: int) -> list[int]:
    """Which of `count` passings to try, at most `most`: the first, the last, and some evenly between."""
    if count <= most:
        return list(range(1, count + 1))
    if most == 1:
        return [count]
    return sorted({1 + round(number * (count - 1) / (most - 1)) for number in range(most)})
