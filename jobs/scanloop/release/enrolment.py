"""The job that lets the catalog know a device: from the enrolment that the device signed with its own key."""

from __future__ import annotations

import json
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from scanloop.canonical import canonical_json
from scanloop.edge.device import Device, device_id
from scanloop.errors import DataWrong, WrongArguments
from scanloop.execution import JobRun


def enrol_device(run: JobRun, enrolment: bytes) -> dict[str, Any]:
    """Record the device of `enrolment` (the file that `scanloop edge enrol` writes).

    Raises:
        DataWrong: the file is not one, or is not signed by the key it names.
    """
    device = read_enrolment(enrolment)
    row = {
        "device_id": device.device_id,
        "site_id": device.site,
        "product_lines": [device.product_line],
        "channel": device.channel,
        "public_key": device.public_key,
        "state": "enrolled",
    }
    run.publication.insert("devices", [row], action="device.enrolled", subject="device_id")
    return {"device_id": device.device_id, "site": device.site, "product_line": device.product_line, "channel": device.channel}


def read_enrolment(content: bytes) -> Device:
    """Read an enrolment and verify its signature. Raises DataWrong."""
    try:
        parsed = json.loads(content)
        device = Device(**parsed["device"])
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(device.public_key))
        key.verify(bytes.fromhex(parsed["signature"]), canonical_json(parsed["device"]))
    except InvalidSignature:
        raise DataWrong("The enrolment is not signed by the key it names.") from None
    except (ValueError, KeyError, TypeError, RecursionError, WrongArguments) as error:
        raise DataWrong(f"The file is not the enrolment of a device: {error}.") from None
    if device.device_id != device_id(bytes.fromhex(device.public_key)):
        raise DataWrong("The enrolment's device id is not that of its key.")
    return device
