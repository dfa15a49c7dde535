"""`scanloop trace ID`: where anything came from and where it went."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scanloop.cli.options import open_world, print_result

if TYPE_CHECKING:
    from rich.tree import Tree

    from scanloop.catalog.trace import Branch, Node, Trace

SHORT = 12
"""Characters of a digest that people read."""


def trace(
    wanted: Annotated[
        str, typer.Argument(metavar="ID", help="An id or its first 6 characters: a scan, a bag, a model, a run, …; or noun:id.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print nodes and edges as one JSON line.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="Show at most so many of one noun beyond one thing.")] = 10,
) -> None:
    """Follow anything to everything it came from and everything it went into.

    Nouns: site, scanner, delivery, quarantine, bag, scan, validation, selection, task, annotation, review, snapshot, model, evaluation,
    decision, champion, release, device, run.
    """
    from scanloop.catalog.trace import find, follow
    from scanloop.catalog.trace_snapshots import membership

    world = open_world()
    with closing(world.catalog), world.catalog.read() as connection:
        origin = find(connection, wanted)
        found = follow(connection, origin, membership(world.store, connection), limit=limit)
    if as_json:
        print_result(_as_json(found))
    else:
        _print(found)


def _as_json(found: Trace) -> dict[str, Any]:
    """Nodes and edges; an edge points from what came first to what it went into."""
    nodes: dict[Node, dict[str, Any]] = {}
    edges: set[tuple[str, str]] = set()
    left_out: list[dict[str, Any]] = []

    def walk(branch: Branch, direction: str) -> None:
        nodes.setdefault(branch.node, {"noun": branch.node.noun, "id": branch.node.id, "direction": direction, "facts": branch.facts})
        left_out.extend(
            {"beyond": str(branch.node), "direction": direction, "noun": noun, "count": count} for noun, count in branch.left_out.items()
        )
        for each in branch.branches:
            ends = (str(each.node), str(branch.node))
            edges.add(ends if direction == "upstream" else (ends[1], ends[0]))
            walk(each, direction)

    nodes[found.origin] = {"noun": found.origin.noun, "id": found.origin.id, "direction": "origin", "facts": found.facts}
    walk(found.upstream, "upstream")
    walk(found.downstream, "downstream")
    return {
        "origin": str(found.origin),
        "nodes": [nodes[node] for node in sorted(nodes)],
        "edges": [{"from": start, "to": end} for start, end in sorted(edges)],
        "left_out": left_out,
    }


def _print(found: Trace) -> None:
    from rich.console import Console
    from rich.tree import Tree

    console = Console()
    console.print(_line(found.upstream))
    for title, root in (("came from", found.upstream), ("went into", found.downstream)):
        tree = Tree(f"[bold]{title}[/bold]" if root.branches else f"[bold]{title}[/bold] nothing")
        _hang(tree, root)
        console.print(tree)


def _hang(tree: Tree, branch: Branch) -> None:
    for each in branch.branches:
        _hang(tree.add(_line(each)), each)
    for noun, count in sorted(branch.left_out.items()):
        tree.add(f"[dim]and {count} more of {noun}[/dim]")


def _line(branch: Branch) -> str:
    from rich.markup import escape

    node = branch.node
    is_digest = len(node.id) >= 2 * SHORT and set(node.id) <= set("0123456789abcdef")
    facts = ", ".join(", ".join(value) if isinstance(value, list) else f"{name} {value}" for name, value in branch.facts.items())
    again = " [dim](see above)[/dim]" if branch.is_repeated else ""
    return f"{node.noun} [cyan]{escape(node.id[:SHORT] if is_digest else node.id)}[/cyan] [dim]{escape(facts)}[/dim]{again}"
