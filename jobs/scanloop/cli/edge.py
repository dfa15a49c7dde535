"""`scanloop edge`: the device at a site. Needs neither a database nor PyTorch."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    no_args_is_help=True,
    help="The device at a site: takes signed releases from a network or a USB medium, checks itself, and answers scans.",
)

DeviceHomeOption = Annotated[
    Path, typer.Option("--device-home", envvar="SCANLOOP_DEVICE_HOME", help="Folder of this device.", show_default=False)
]


@app.command("enrol")
def enrol(
    device_home: DeviceHomeOption,
    site: Annotated[str, typer.Option("--site", help="Where the device stands.", show_default=False)],
    product_line: Annotated[str, typer.Option("--product-line", help="Whose releases it takes.", show_default=False)],
    channel_url: Annotated[
        str, typer.Option("--channel-url", help="file:///folder or http(s)://host/path of the releases.", show_default=False)
    ],
    channel: Annotated[str, typer.Option("--channel", help="Channel it follows.")] = "stable",
    root: Annotated[Path | None, typer.Option("--root", help="File with the first root metadata, carried by hand.")] = None,
    root_sha256: Annotated[
        str | None,
        typer.Option("--root-sha256", help="Digest of the first root, as `scanloop release init` printed it; the root is then fetched."),
    ] = None,
) -> None:
    """Make this machine a device: its own key, the root it trusts, its identity. Running it again changes nothing."""
    from scanloop.edge.channel import fetch_first_root
    from scanloop.edge.device import DeviceHome, check_channel_url
    from scanloop.edge.device import enrol as enrol_device
    from scanloop.errors import WrongArguments

    if (root is None) == (root_sha256 is None):
        raise WrongArguments("Name what the device should trust: --root FILE or --root-sha256 HEX, one of them.")
    check_channel_url(channel_url)
    if root is not None:
        try:
            content = root.read_bytes()
        except OSError as error:
            raise WrongArguments(f"{root} cannot be read: {error.strerror}.") from None
    else:
        content = fetch_first_root(channel_url, str(root_sha256))
    home = DeviceHome(device_home.expanduser().absolute())
    device = enrol_device(home, site=site, product_line=product_line, channel=channel, channel_url=channel_url, root=content)
    _print({"device_id": device.device_id, "device_home": str(home.folder), "enrolment": str(home.enrolment)})


@app.command("update")
def update(
    device_home: DeviceHomeOption,
    channel_url: Annotated[
        str | None, typer.Option("--channel-url", help="Read the releases from here this once, such as a USB medium.")
    ] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Try a release again that this device refused.")] = False,
) -> None:
    """Install the newest release: 0 done, 99 it is current already, 65 refused, 75 the channel is away. The current release always stays whole."""
    from scanloop.edge.device import DeviceHome
    from scanloop.edge.update import update as update_device

    _print(update_device(DeviceHome(device_home.expanduser().absolute()), channel_url=channel_url, retry=retry).to_json())


@app.command("answer")
def answer(
    scan: Annotated[Path, typer.Argument(help="File of one view, in any format of `scanloop scan formats`.", show_default=False)],
    device_home: DeviceHomeOption,
    out: Annotated[Path | None, typer.Option("--out", help="Write a DICOS Threat Detection Report here.")] = None,
    json_out: Annotated[Path | None, typer.Option("--json", help="Write the answer as JSON here too.")] = None,
    picture: Annotated[Path | None, typer.Option("--picture", help="Write a PNG with the boxes drawn here.")] = None,
    sidecar: Annotated[
        Path | None, typer.Option("--sidecar", help="JSON sidecar of a TIFF, PNG or JPEG export.", show_default="<file>.json")
    ] = None,
) -> None:
    """Answer one scan with the current release; the answer is one JSON line."""
    from scanloop.edge.answer import answer_scan
    from scanloop.edge.device import DeviceHome
    from scanloop.scans.decoders import chosen_decoders
    from scanloop.settings import read_settings

    home, decoders = DeviceHome(device_home.expanduser().absolute()), chosen_decoders(read_settings())
    found = answer_scan(home, scan, sidecar=sidecar, report_path=out, json_path=json_out, picture_path=picture, decoders=decoders)
    _print(found.to_json())


@app.command("status")
def status(device_home: DeviceHomeOption) -> None:
    """Say who the device is, what runs on it and what it remembers; goes back to the release before if the current one is damaged."""
    from scanloop.edge.device import DeviceHome
    from scanloop.edge.report import device_status

    _print(device_status(DeviceHome(device_home.expanduser().absolute())))


@app.command("report")
def report(
    device_home: DeviceHomeOption,
    to: Annotated[
        Path | None, typer.Option("--to", help="Folder to put it in: a medium, or a share.", show_default="<device home>/reports")
    ] = None,
) -> None:
    """Write a report for the people who look after the fleet, signed by the device."""
    from scanloop.edge.device import DeviceHome
    from scanloop.edge.report import write_device_report

    _print(write_device_report(DeviceHome(device_home.expanduser().absolute()), folder=to))


def _print(result: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(result, sort_keys=True) + "\n")
