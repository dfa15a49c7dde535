"""What a device tells about itself: its release, its memory, its last answers. A file in a folder that somebody carries or fetches."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from scanloop.canonical import canonical_json
from scanloop.edge import install
from scanloop.edge.device import DeviceHome, sign_as_device
from scanloop.edge.state import write_durably
from scanloop.edge.update import system_clock


def device_status(home: DeviceHome) -> dict[str, Any]:
    """Who the device is, what runs on it and what it remembers. Falls back first if the current release is damaged."""
    device = home.device()
    current, state = install.running(home)
    return {
        "device_id": device.device_id,
        "site": device.site,
        "product_line": device.product_line,
        "channel": device.channel,
        "channel_url": device.channel_url,
        "release_version": current.version if current else None,
        "model_id": current.manifest.model_id if current else None,
        "is_whole": current is not None,
        **state.to_json(),
    }


def write_device_report(home: DeviceHome, *, folder: Path | None = None, clock: Callable[[], datetime] = system_clock) -> dict[str, Any]:
    """Write a report, signed by the device, into `folder`, by default its own `reports`. Returns where it is and what it says."""
    status = {**device_status(home), "reported_at": clock().isoformat()}
    content = canonical_json({"status": status, "signature": sign_as_device(home, canonical_json(status))})
    report_id = hashlib.sha256(content).hexdigest()
    folder = folder or home.reports
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{report_id}.json"
    write_durably(path, content)
    return {"report_id": report_id, "path": str(path), "status": status}
