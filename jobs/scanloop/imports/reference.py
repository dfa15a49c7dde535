"""The tables of docs/imports.md, from the presets and the kinds of problems: `python -m scanloop.imports.reference docs/imports.md`."""

from __future__ import annotations

import sys
from pathlib import Path

from scanloop.imports.presets import FORMATS, PRESETS, Preset, Split
from scanloop.imports.problems import KINDS

_END = "<!-- end -->"


def filled(page: str) -> str:
    """The page with every generated table as the code has it."""
    for name, table in (("presets", presets_table()), ("categories", categories_table()), ("problems", problems_table())):
        before, mark, rest = page.partition(f"<!-- {name} -->\n")
        page = f"{before}{mark}{table}{_END}{rest.partition(_END)[2]}"
    return page


def presets_table() -> str:
    """What lies where in each known set."""
    lines = ["| preset | format | splits | expects, below its folder |", "|---|---|---|---|"]
    for preset in PRESETS.values():
        splits = ", ".join(split.name for split in preset.splits)
        usual = f"; usual: {', '.join(preset.default_splits)}" if preset.default_splits else ""
        title = f"[{preset.title}]({preset.page})" if preset.page else preset.title
        lines.append(f"| `{preset.name}` ({title}) | {preset.format} | {splits}{usual} | {_expects(preset)} |")
    return "\n".join(lines) + "\n"


def _expects(preset: Preset) -> str:
    split = preset.splits[0]
    return f"for `{split.name}`: {'; '.join(_places(split))}. {preset.note}"


def _places(split: Split) -> list[str]:
    named = (("index", split.index), ("list", split.listing), ("labels", split.labels), ("pictures", split.pictures))
    return [f"{what} {' or '.join(f'`{place}`' for place in places)}" for what, places in named if places]


def categories_table() -> str:
    """What the categories of each known set become."""
    lines = ["| preset | mapped | left out |", "|---|---|---|"]
    for preset in PRESETS.values():
        if preset.name in FORMATS:
            continue
        mapped = ", ".join(f"{name} → `{found}`" for name, found in preset.categories.categories.items() if found)
        left = ", ".join(name for name, found in preset.categories.categories.items() if not found)
        lines.append(f"| `{preset.name}` | {mapped or 'none'} | {left or 'none'} |")
    return "\n".join(lines) + "\n"


def problems_table() -> str:
    """Every kind of problem."""
    lines = ["| kind | is | what is done |", "|---|---|---|"]
    lines += [f"| `{kind}` | {meaning} | {effect} |" for kind, (meaning, effect) in KINDS.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    place = Path(sys.argv[1])
    place.write_text(filled(place.read_text(encoding="utf-8")), encoding="utf-8")
