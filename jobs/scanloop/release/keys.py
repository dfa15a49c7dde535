"""The signer's private keys: one encrypted file each, in a folder that only the signer opens.

<signer home>/offline/   root, targets                          moved to a medium in a safe once a ceremony is over
<signer home>/online/    snapshot, timestamp, line-<product line>  what the signer process needs every day
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat, load_pem_private_key
from securesystemslib.signer import CryptoSigner

from scanloop.errors import WrongArguments
from scanloop.steps import step

OFFLINE_ROLES = ("root", "targets")
PASSPHRASE_VARIABLE = "SCANLOOP_SIGNER_PASSPHRASE_FILE"  # noqa: S105  the name of a variable


def line_role(product_line: str) -> str:
    """The name of the delegated role that signs the releases of one product line."""
    return f"line-{product_line}"


@dataclass(frozen=True)
class KeyFolder:
    """Where the keys lie and what opens them.

    Raises:
        WrongArguments: other users can look into the folder.
    """

    home: Path
    """The signer's home."""
    passphrase: bytes
    """Encrypts every key file."""

    def path(self, role: str) -> Path:
        """The file of the private key of `role`."""
        return self.home / ("offline" if role in OFFLINE_ROLES else "online") / f"{role}.pem"

    def signer(self, role: str) -> CryptoSigner:
        """Open the key of `role`.

        Raises:
            WrongArguments: the key is not here, or the passphrase does not open it.
        """
        path = self.path(role)
        try:
            pem = path.read_bytes()
        except OSError as error:
            raise WrongArguments(
                f"The {role} key {path} cannot be read: {error.strerror}. It is made by `scanloop release init`."
            ) from None
        try:
            return CryptoSigner(load_pem_private_key(pem, self.passphrase))
        except (ValueError, TypeError):
            raise WrongArguments(
                f"The passphrase does not open the {role} key {path}. Set {PASSPHRASE_VARIABLE} to the file that does."
            ) from None

    def make(self, role: str) -> CryptoSigner:
        """Make the key of `role` unless it exists; what exists is never replaced. Returns the signer."""
        path = self.path(role)
        if path.is_file():
            return self.signer(role)
        private_folder(path.parent)
        signer = CryptoSigner.generate_ed25519()
        key = load_pem_private_key(signer.private_bytes, None)
        write_private(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(self.passphrase)))
        step("release.after_key")
        return self.signer(role)


def open_keys(home: Path, passphrase_file: Path | None, *, make: bool = False) -> KeyFolder:
    """Open the signer's home with the passphrase from `passphrase_file`, by default `<home>/passphrase`.

    A file name may also be a descriptor (`/dev/fd/3`), so that the passphrase needs to lie on no disk. `make` creates the home and, where no
    file was named, a random passphrase in it.

    Raises:
        WrongArguments: the home or the passphrase is missing, empty, or open to other users.
    """
    if make:
        private_folder(home)
    if not home.is_dir():
        raise WrongArguments(f"There is no signer at {home}. Run `scanloop release init` first, or set SCANLOOP_SIGNER_HOME.")
    if home.stat().st_mode & 0o077:
        raise WrongArguments(f"Other users can look into the signer's home {home}. Run: chmod 700 {home}")
    source = passphrase_file or home / "passphrase"
    if make and passphrase_file is None and not source.exists():
        write_private(source, secrets.token_urlsafe(32).encode() + b"\n")
    try:
        passphrase = source.read_bytes().strip()
    except OSError as error:
        raise WrongArguments(f"The signer's passphrase {source} cannot be read: {error.strerror}. Set {PASSPHRASE_VARIABLE}.") from None
    if len(passphrase) < 12:
        raise WrongArguments(f"The signer's passphrase in {source} is shorter than 12 characters.")
    return KeyFolder(home, passphrase)


def private_folder(folder: Path) -> Path:
    """Make `folder` for this user alone."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def write_private(path: Path, data: bytes) -> None:
    """Write `data` for this user alone. It appears whole or not at all; what a concurrent writer put there first stays."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as target:
        target.write(data)
        target.flush()
        os.fsync(target.fileno())
    try:
        os.link(aside, path)
    except FileExistsError:
        pass
    finally:
        aside.unlink()
