"""`scanloop scan`: look at one file as intake would; search the scans that were received and mark them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from shutil import copyfile
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scanloop.cli.searching import add_searching

if TYPE_CHECKING:
    import numpy as np

    from scanloop.scans.content import ScanContent
    from scanloop.scans.threat_report import ReportContent

_NAMED_UIDS = ("sop_class", "transfer_syntax")
_TEXTS = ("manufacturer", "model", "serial", "site", "issuer", "bag", "view")

app = typer.Typer(
    no_args_is_help=True,
    help="Look at one file as intake would, without a deployment; search received scans by query, and give them tags and attributes.",
)
add_searching(app, "scan")


@app.command("inspect")
def inspect(
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="A file of any format of `scanloop scan formats`.", show_default=False)
    ],
    sidecar: Annotated[
        Path | None, typer.Option("--sidecar", exists=True, dir_okay=False, help="Sidecar.", show_default="FILE.json")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", file_okay=False, help="Write planes and pictures here.", show_default="nothing")
    ] = None,
    palette: Annotated[str, typer.Option("--palette", help="Colours of the picture: standard, warm or cool.")] = "standard",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Read a file in the sandbox and say what it is: a scan, or a report about scans. Exit code 65 with the reason if it would go to quarantine."""
    from tempfile import TemporaryDirectory

    from scanloop.errors import DataWrong, WrongArguments
    from scanloop.scans.decoder_rooms import open_reader
    from scanloop.scans.decoders import chosen_decoders
    from scanloop.scans.errors import ScanRefused
    from scanloop.scans.sidecar import SUFFIX
    from scanloop.scans.threat_report import ReportContent
    from scanloop.scans.views import palette_named
    from scanloop.settings import read_settings

    palette_named(palette)
    decoders = chosen_decoders(read_settings())
    beside = file.with_name(file.name + SUFFIX)
    sidecar = sidecar or (beside if beside.exists() else None)
    for given in filter(None, (file, sidecar)):
        if not given.is_file():
            raise WrongArguments(f"Expected a file, found {str(given)!r}, which is a folder, a pipe or a device.")
    # Copies, so that the confined reader may see these two files and nothing beside them.
    with TemporaryDirectory(prefix="scanloop-") as folder, open_reader(Path(folder), decoders=decoders) as sandbox:
        copy = Path(copyfile(file, Path(folder) / "file"))
        try:
            content = sandbox.read(copy, Path(copyfile(sidecar, Path(folder) / "sidecar")) if sidecar else None)
        except ScanRefused as refusal:
            if as_json:
                sys.stdout.write(json.dumps({"refused": refusal.reason_code, "reason": refusal.message}, indent=1) + "\n")
            raise DataWrong(f"{refusal.message} It would go to quarantine as {refusal.reason_code}.") from None
    if isinstance(content, ReportContent):
        _inspect_report(file, content, out, as_json=as_json)
        return
    facts = _facts(file, content)
    if out is not None:
        facts["written"] = _write(content, file.stem, out, palette)
    if as_json:
        sys.stdout.write(json.dumps(facts, indent=1, default=str) + "\n")
    else:
        _print(facts)


@app.command("formats")
def formats(as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False) -> None:
    """List the formats that are read, and every decoder plug-in that is installed or chosen (`SCANLOOP_DECODERS`), with what is wrong with it."""
    from tempfile import TemporaryDirectory

    from scanloop.scans.decoder_rooms import check_decoders
    from scanloop.scans.decoders import built_in_formats, list_decoders
    from scanloop.settings import read_settings

    settings = read_settings()
    plugins = list_decoders(settings.decoders, settings.plugin_folder)
    with TemporaryDirectory(prefix="scanloop-") as folder:
        checked = check_decoders(plugins, settings.plugin_folder, Path(folder))
    rows = [*built_in_formats(), *checked]
    if as_json:
        sys.stdout.write(json.dumps(rows, indent=1) + "\n")
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("format", "read by", "version", "state", "problem")
    for row in rows:
        table.add_row(*(escape(row[name]) for name in ("format", "distribution", "version", "state", "problem")))
    Console().print(table)


def _inspect_report(file: Path, content: ReportContent, out: Path | None, *, as_json: bool) -> None:
    from scanloop.cli.inspect_report import print_report, report_facts, write_report

    facts = report_facts(file, content)
    if out is not None:
        facts["written"] = write_report(content, file.stem, out)
    if as_json:
        sys.stdout.write(json.dumps(facts, indent=1, default=str) + "\n")
    else:
        print_report(facts)


def _facts(file: Path, content: ScanContent) -> dict[str, Any]:
    from scanloop.intake.rows import measurement
    from scanloop.store.base import sha256_of

    about = content.metadata
    row = measurement(content, "", delivered_site="", sidecar_sha256=None)
    kept = ["source_format", "modality", "site_id", "scanner_id", "bag_id", "view_name", "acquired_at", "scan_type", "is_projected"]
    kept += ["planes", "statistics", "phash"]
    uids = {name: _uid_name(str(about.attributes.get(f"{name}_uid", about.attributes.get(name, "")))) for name in _NAMED_UIDS}
    return {
        "scan_id": sha256_of(file)[0],
        **{name: row[name] for name in kept},
        **{name: said for name, said in uids.items() if said},
        "metadata": {name: getattr(about, name) for name in _TEXTS},
        "attributes": dict(about.attributes),
        "missing": list(about.missing),
    }


def _uid_name(uid: str) -> str:
    """What a UID is called in the standard, with the UID; empty for none."""
    from pydicom.uid import UID

    known = {"1.2.840.10008.1.2.1.64": "Explicit VR Little Endian, extended lengths"}
    return f"{known.get(uid) or UID(uid, validation_mode=0).name} ({uid})" if uid else ""


def _write(content: ScanContent, stem: str, out: Path, palette: str) -> list[str]:
    """The curated planes, each plane's numbers as the file holds them, the pictures, and how each picture lies in the scan."""
    from scanloop.scans.pictures import views_of
    from scanloop.scans.planes import encode_planes
    from scanloop.scans.views import encode_png

    out.mkdir(parents=True, exist_ok=True)
    written: list[str] = []

    def put(name: str, data: bytes) -> None:
        (out / name).write_bytes(data)
        written.append(str(out / name))

    put(f"{stem}.planes.tiff", encode_planes(content.planes, content.bits))
    for name in content.planes:
        path = out / f"{stem}.{'plane.' if name == 'planes' else ''}{name}.tiff"
        _write_stored(path, content.stored(name))
        written.append(str(path))
    transforms = {}
    for view in views_of(content, palette):
        put(f"{stem}.{view.name}.png", encode_png(view.pixels))
        transforms[view.name] = {"kind": view.kind, "transform": view.transform.as_dict()}
    put(f"{stem}.views.json", (json.dumps(transforms, indent=1) + "\n").encode())
    return written


def _write_stored(path: Path, numbers: np.ndarray) -> None:
    """Write a plane (H, W) or volume (D, H, W), uint16 or int16, as a plain TIFF with a page a slice: what any reader opens."""
    import tifffile

    with tifffile.TiffWriter(path) as tiff:
        for page in numbers if numbers.ndim == 3 else (numbers,):
            tiff.write(page, photometric="minisblack", metadata=None, software=False, contiguous=False)


def _print(facts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Column, Table

    table = Table("", Column(overflow="fold"), show_header=False)
    for name, value in facts.items():
        if name not in ("statistics", "planes", "views"):
            table.add_row(name, escape(_shown(value)))
    for plane in facts["planes"]:
        table.add_row(f"plane {plane['name']}", escape(_plane_line(plane, facts["statistics"][plane["name"]])))
    Console().print(table)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {part}" for name, part in value.items() if part != "")
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _plane_line(plane: dict[str, Any], figures: dict[str, Any]) -> str:
    """A plane in words: size, depth, scale, quality."""
    depth = f"{plane['depth_px']} x " if "depth_px" in plane else ""
    parts = [f"{depth}{plane['height_px']} x {plane['width_px']} px", f"{plane['bits']} bits"]
    if spacing := plane.get("spacing_mm"):
        parts.append(f"voxels of {' x '.join(f'{side:g}' for side in spacing)} mm")
    if scale := plane.get("scale"):
        parts += [word for word in ("signed", "inverted") if scale[f"is_{word}"]]
        parts.append(f"value = {scale['slope']:g} * number + {scale['intercept']:g} {scale['unit']}".strip())
    if not depth:
        parts += [f"air {figures['air_mean']:.3f}", f"dead columns {figures['dead_columns']}"]
    return ", ".join(parts)
