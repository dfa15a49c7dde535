"""Pages for people: one HTML file with everything in it, so that it can be mailed, printed and kept."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Image:
    """A chart or a picture."""

    name: str
    """What it shows, a slug."""
    data: bytes
    """PNG or JPEG."""
    caption: str = ""
    """What to write under it."""
    bag_id: str = ""
    """The bag it shows, for a picture."""
    is_wide: bool = False
    """Whether it takes a row of its own."""

    @property
    def suffix(self) -> str:
        """File name extension of the data."""
        return ".png" if self.data.startswith(b"\x89PNG") else ".jpg"

    @property
    def src(self) -> str:
        """The image as a data URL."""
        kind = "png" if self.suffix == ".png" else "jpeg"
        return f"data:image/{kind};base64,{base64.b64encode(self.data).decode()}"


def render(template: str, folders: Sequence[Path], **values: Any) -> bytes:
    """Fill a template; every value is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(loader=FileSystemLoader(folders), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return environment.get_template(template).render(**values).encode()


def evaluation_page(results: Mapping[str, Any], charts: Sequence[Image], misses: Sequence[Image], false_alarms: Sequence[Image]) -> bytes:
    """The page of one evaluation."""
    return render("evaluation.html", [TEMPLATES], results=results, charts=charts, misses=misses, false_alarms=false_alarms)
