"""A device's home: who it is, what it trusts, where its releases lie.

device.json      who it is and which channel it follows; written last at enrolment
key.pem          its own private key (Ed25519), for this user alone
enrolment.json   the same, signed by that key: what the release manager records
root.json        the root it was enrolled with; everything it ever trusts starts here
tuf/             update metadata it has seen, so that older metadata is refused
versions/<n>/    releases, complete and verified; `current` is a link to one of them
state.json       counter, clock, what was installed and refused
reports/         what it has to say
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from scanloop.canonical import canonical_json
from scanloop.edge.state import write_durably
from scanloop.errors import DataWrong, WorldUnavailable, WrongArguments
from scanloop.steps import step

_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")


@dataclass(frozen=True)
class Device:
    """Who a device is.

    Raises:
        WrongArguments: a name is not plain, or the URL is not one a device can read.
    """

    device_id: str
    """Digest of its public key, first 16 hex digits."""
    site: str
    """Where it stands."""
    product_line: str
    """Whose releases it takes."""
    channel: str
    """Which channel it follows."""
    channel_url: str
    """Where releases are: file:///folder (also a USB medium) or http(s)://host/path."""
    public_key: str
    """Ed25519, hex."""

    def __post_init__(self) -> None:
        for name in ("site", "product_line", "channel"):
            if not _NAME.match(getattr(self, name)):
                raise WrongArguments(
                    f"The {name.replace('_', ' ')} {getattr(self, name)!r} is not a plain name of letters, digits, '.', '_', '-'."
                )
        check_channel_url(self.channel_url)


@dataclass(frozen=True)
class DeviceHome:
    """Paths of one device."""

    folder: Path
    """The device's home."""

    @property
    def identity(self) -> Path:
        return self.folder / "device.json"

    @property
    def enrolment(self) -> Path:
        return self.folder / "enrolment.json"

    @property
    def key(self) -> Path:
        return self.folder / "key.pem"

    @property
    def root(self) -> Path:
        return self.folder / "root.json"

    @property
    def metadata(self) -> Path:
        return self.folder / "tuf"

    @property
    def versions(self) -> Path:
        return self.folder / "versions"

    @property
    def current(self) -> Path:
        return self.folder / "current"

    @property
    def state(self) -> Path:
        return self.folder / "state.json"

    @property
    def reports(self) -> Path:
        return self.folder / "reports"

    def device(self) -> Device:
        """Who this device is.

        Raises:
            WrongArguments: nothing was enrolled here.
            DataWrong: the identity was damaged.
        """
        try:
            return Device(**json.loads(self.identity.read_bytes()))
        except FileNotFoundError:
            raise WrongArguments(
                f"There is no device at {self.folder}. Run `scanloop edge enrol --device-home {self.folder} …` first."
            ) from None
        except (ValueError, TypeError):
            raise DataWrong(f"{self.identity} is damaged. Enrol the device again in a new folder.") from None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold this home for one process. Raises WorldUnavailable if another one works in it."""
        with (self.folder / "lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise WorldUnavailable(f"Another process is working in {self.folder}. Try again when it is done.") from None
            yield


def check_channel_url(url: str) -> str:
    """Return `url` if a device can read releases from it. Raises WrongArguments otherwise."""
    parts = urlsplit(url)
    is_folder = parts.scheme == "file" and parts.path.startswith("/") and parts.netloc in ("", "localhost")
    if is_folder or (parts.scheme in ("http", "https") and parts.netloc):
        return url
    raise WrongArguments(f"Expected a channel URL like file:///folder, http://host/path or https://host/path, found {url!r}.")


def enrol(home: DeviceHome, *, site: str, product_line: str, channel: str, channel_url: str, root: bytes) -> Device:
    """Make a device: its own key, its pinned root, its identity. Safe to kill and to repeat.

    Raises:
        WrongArguments: another device, or another root, is already enrolled here.
        DataWrong: `root` is no root metadata, or is not signed by its own keys.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat, load_pem_private_key

    check_root(root)
    home.folder.mkdir(parents=True, exist_ok=True)
    with home.locked():
        if not home.key.exists():
            pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            write_durably(home.key, pem, mode=0o600)
            step("edge.after_key")
        public_key = load_pem_private_key(home.key.read_bytes(), None).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        device = Device(device_id(public_key), site, product_line, channel, channel_url, public_key.hex())
        if home.identity.exists():
            if home.device() != device or home.root.read_bytes() != root:
                raise WrongArguments(
                    f"{home.folder} already holds device {home.device().device_id}, enrolled differently. Choose another folder."
                )
            return device
        write_durably(home.root, root)
        step("edge.after_root")
        for folder in (home.metadata, home.versions, home.reports):
            folder.mkdir(exist_ok=True)
        write_durably(home.enrolment, signed_enrolment(home, device))
        write_durably(home.identity, (json.dumps(asdict(device), indent=1, sort_keys=True) + "\n").encode())
        step("edge.after_enrolment")
    return device


def device_id(public_key: bytes) -> str:
    """The id of the device with this raw Ed25519 public key."""
    return hashlib.sha256(public_key).hexdigest()[:16]


def signed_enrolment(home: DeviceHome, device: Device) -> bytes:
    """What the device tells the release manager about itself: JSON, signed by its own key."""
    content = asdict(device)
    return canonical_json({"device": content, "signature": sign_as_device(home, canonical_json(content))})


def check_root(root: bytes) -> None:
    """Make sure that `root` is root metadata signed by its own keys. Raises DataWrong otherwise."""
    from tuf.api.exceptions import RepositoryError
    from tuf.api.metadata import Metadata, Root

    try:
        metadata: Metadata[Root] = Metadata.from_bytes(root)
        metadata.signed.verify_delegate("root", metadata.signed_bytes, metadata.signatures)
    except (RepositoryError, AttributeError, ValueError) as error:
        raise DataWrong(f"The trusted root is not usable: {error}.") from None


def sign_as_device(home: DeviceHome, message: bytes) -> str:
    """Sign `message` with the device's key; hex."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = load_pem_private_key(home.key.read_bytes(), None)
    if not isinstance(key, Ed25519PrivateKey):
        raise DataWrong(f"{home.key} is not an Ed25519 key.")
    return key.sign(message).hex()
