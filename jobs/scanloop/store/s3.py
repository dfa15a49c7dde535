"""A store in S3, or anything that speaks it."""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from typing_extensions import Buffer

from scanloop.errors import ObjectConflict, ObjectNotFound, StoreUnavailable
from scanloop.store.base import CHUNK_BYTES, Content, Store, StoredObject, check_key, is_equal

if TYPE_CHECKING:
    from obstore import GetResult
    from obstore.store import BackoffConfig, ClientConfig, S3Config

OWNER = "scanloop-owner"
"""Name of the metadata entry that tells whose conditional write an object is."""
STREAMED_BYTES = 32 << 20
"""Larger files are sent as they are read; smaller ones are held in memory while they are sent."""
ATTEMPTS = 5
"""How often a request is made before the store counts as unavailable."""
RETRY_WAIT: BackoffConfig = {"init_backoff": timedelta(milliseconds=200), "max_backoff": timedelta(seconds=15)}
"""How long to wait between them; doubled each time, less a part that is left to chance."""
CONNECT_S, READ_S, REQUEST_S = 10, 60, 3600
"""Longest time for a connection, between two parts of an answer, and for one request, in seconds."""
_CREDENTIALS_S = 300
"""How long credentials are used before boto3 is asked for them again, which renews them well before they expire."""
_DETAILS = re.compile(r"^.*?Error performing .*? in [^,-]*(?:, after [^-]*)? - |<\?xml.*$")
"""What obstore says of a request before it says what was wrong with it, and the start of a server's document."""
_ABSENT = {"404", "NoSuchKey", "NotFound"}
_LOST = {"412", "PreconditionFailed", "409", "ConditionalRequestConflict"}


class S3Store(Store):
    """Objects in one bucket under a prefix; conditional writes by `If-None-Match` and `If-Match`.

    Single objects go through obstore, which takes a fraction of boto3's processor time for a request and none of the interpreter's lock. boto3
    lists, because it accepts any key that others wrote; deletes, because not every imitation knows the batches that obstore deletes in; and sends
    large files, because it streams them in one conditional write.

    Source: Amazon S3 User Guide, "How to prevent object overwrites with conditional writes".
    """

    def __init__(self, bucket: str, prefix: str = "", *, endpoint_url: str | None = None, region: str | None = None) -> None:
        self.bucket, self.prefix = bucket, prefix + "/" if prefix else ""
        self.url = f"s3://{bucket}/{prefix}"
        self._endpoint_url, self._region = endpoint_url, region
        with self._explained(""):
            self._objects = self._open()

    def _open(self) -> Any:
        """The client for single objects, with the address, region and credentials that boto3 would take."""
        from obstore.store import S3Store as Objects

        config: S3Config = {}
        provider: Any = None
        if (plain := _plain_settings(self._endpoint_url, self._region)) is not None:
            config = plain
        else:
            from obstore.auth.boto3 import Boto3CredentialProvider

            meta = self._boto.meta
            config = {"region": meta.region_name, "endpoint": meta.endpoint_url}
            provider = _named(self._session, Boto3CredentialProvider)
        # As boto3 does over HTTPS. What was written is read back and compared anyway.
        config["unsigned_payload"] = os.environ.get("AWS_UNSIGNED_PAYLOAD", "true").lower() == "true"
        endpoint = str(config.get("endpoint", ""))
        client: ClientConfig = {
            "allow_http": endpoint.startswith("http://"),
            "connect_timeout": timedelta(seconds=CONNECT_S),
            "read_timeout": timedelta(seconds=READ_S),
            "timeout": timedelta(seconds=REQUEST_S),
        }
        bundle = os.environ.get("AWS_CA_BUNDLE") or os.environ.get("REQUESTS_CA_BUNDLE")
        if bundle and endpoint.startswith("https://"):
            client["root_certificate"] = _certificates(Path(bundle))
        return Objects(
            self.bucket,
            prefix=self.prefix or None,
            config=config,
            client_options=client,
            retry_config={"max_retries": ATTEMPTS - 1, "retry_timeout": timedelta(seconds=180), "backoff": RETRY_WAIT},
            credential_provider=provider,
        )

    @cached_property
    def _session(self) -> Any:
        import boto3

        return boto3.session.Session()

    @cached_property
    def _boto(self) -> Any:
        """boto3's client, made when it is first needed: it costs a short job a quarter of a second."""
        from botocore.config import Config

        retries: Any = {"mode": "standard", "total_max_attempts": ATTEMPTS}
        config = Config(retries=retries, connect_timeout=CONNECT_S, read_timeout=READ_S, max_pool_connections=32)
        # A region only where none is configured: S3 imitations need none, boto3 insists on one.
        region = self._region or self._session.region_name or "us-east-1"
        return self._session.client("s3", endpoint_url=self._endpoint_url, region_name=region, config=config)

    def _name(self, key: str) -> str:
        return self.prefix + check_key(key)

    def uri(self, key: str) -> str:
        return f"s3://{self.bucket}/{self._name(key)}"

    @contextmanager
    def _explained(self, key: str) -> Iterator[None]:
        """Turn what obstore and boto3 say into the errors of a store."""
        from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError, PreconditionError

        try:
            yield
        except (FileNotFoundError, NotFoundError):
            raise self._absent(key) from None
        except (AlreadyExistsError, PreconditionError):
            raise self._lost(key) from None
        except BaseError as error:
            if "HTTP error" in (said := _said(error)):
                raise StoreUnavailable(f"The store {self.url} cannot be reached for {key!r}: {said}.") from None
            raise StoreUnavailable(f"The store {self.url} failed on {key!r}: {said}.") from None
        except Exception as error:
            # botocore's errors are only at hand where botocore is: importing it takes longer than most jobs need it.
            if type(error).__module__.partition(".")[0] not in ("botocore", "boto3"):
                raise
            self._explain_boto(key, error)

    def _explain_boto(self, key: str, error: Exception) -> None:
        from botocore.exceptions import ClientError

        if not isinstance(error, ClientError):
            raise StoreUnavailable(f"The store {self.url} cannot be reached for {key!r}: {error}.") from None
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code in _ABSENT:
            raise self._absent(key) from None
        if code in _LOST:
            raise self._lost(key) from None
        said = error.response.get("Error", {}).get("Message", "") or code
        raise StoreUnavailable(f"The store {self.url} failed on {key!r}: {said} ({code}).") from None

    def _absent(self, key: str) -> ObjectNotFound:
        return ObjectNotFound(f"The store {self.url} holds nothing under {key!r}.")

    def _lost(self, key: str) -> ObjectConflict:
        return ObjectConflict(f"The store {self.url} refused the conditional write of {key!r}: something else is there.")

    def _send(self, key: str, data: Content, *, mode: Any = "overwrite", attributes: dict[str, str] | None = None) -> None:
        """One write, whole or not at all; `mode` and `attributes` as obstore has them."""
        if isinstance(data := _in_memory(data), Path):
            self._stream(key, data, mode, attributes or {})
        else:
            self._objects.put(check_key(key), data, mode=mode, attributes=attributes, use_multipart=False)

    def _stream(self, key: str, path: Path, mode: Any, attributes: dict[str, str]) -> None:
        arguments: dict[str, Any] = {"Bucket": self.bucket, "Key": self._name(key)}
        if mode == "create":
            arguments["IfNoneMatch"] = "*"
        elif isinstance(mode, dict):
            arguments["IfMatch"] = mode["e_tag"]
        metadata = dict(attributes)
        if (content_type := metadata.pop("Content-Type", None)) is not None:
            arguments["ContentType"] = content_type
        if metadata:
            arguments["Metadata"] = metadata
        with path.open("rb") as body:
            self._boto.put_object(Body=body, **arguments)

    def _put(self, key: str, data: Content, *, mode: Any = "overwrite", attributes: dict[str, str] | None = None) -> StoredObject:
        self._send(key, data, mode=mode, attributes=attributes)
        found = self.head(key)
        if found is None:
            raise StoreUnavailable(f"The store {self.url} took {key!r} and does not show it.")
        return found

    def _write(self, key: str, data: Content, content_type: str | None) -> StoredObject:
        with self._explained(key):
            return self._put(key, data, attributes={"Content-Type": content_type} if content_type else None)

    def _write_new(self, key: str, data: Content, *, is_given: bool, is_lazy: bool) -> bool:
        try:
            with self._explained(key):
                self._send(key, data, mode="create")
        except ObjectConflict:
            return False
        return True

    def put_content(self, prefix: str, data: Content, suffix: str = "", *, is_given: bool = False, is_lazy: bool = False) -> StoredObject:
        # A small file is read once, and not for each of hashing, sending and comparing.
        return super().put_content(prefix, _in_memory(data), suffix, is_given=is_given, is_lazy=is_lazy)

    def _found_equal(self, key: str, data: Content) -> StoredObject | None:
        try:
            with self._explained(key):
                found = self._objects.get(check_key(key))
                stored = self._object(key, found)
                if isinstance(data, Path):
                    return stored if is_equal(found.stream(CHUNK_BYTES), data) else None
                return stored if stored.size_bytes == memoryview(data).nbytes and found.bytes() == data else None
        except ObjectNotFound:
            return None

    def _write_if_absent(self, key: str, data: Content, owner: str) -> StoredObject:
        token = hashlib.sha256(owner.encode()).hexdigest()
        try:
            with self._explained(key):
                return self._put(key, data, mode="create", attributes={OWNER: token})
        except ObjectConflict:
            with self._explained(key):
                facts = self._objects.get(check_key(key), options={"head": True})
            if facts.attributes.get(OWNER) != token:
                raise ObjectConflict(f"{self.uri(key)} was already written by another owner.") from None
            return self._object(key, facts, self._digest(key)[0])

    def replace(self, key: str, data: bytes, *, expected_etag: str) -> StoredObject:
        try:
            with self._explained(key):
                written = self._put(key, data, mode={"e_tag": expected_etag})
        except ObjectConflict:
            if self.head(key) is None:
                raise self._absent(key) from None
            raise
        return self._verified(written, data)

    def get(self, key: str) -> bytes:
        with self._explained(key):
            return bytes(self._objects.get(check_key(key)).bytes())

    def download(self, key: str, path: Path) -> Path:
        self.fetch(key, path)
        return path

    def fetch(self, key: str, path: Path) -> Content:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{uuid4().hex[:8]}.part")
        content: Content = path
        try:
            with self._explained(key):
                found = self._objects.get(check_key(key))
                with part.open("wb", buffering=0) as target:
                    if found.meta["size"] > STREAMED_BYTES:
                        for chunk in found.stream(CHUNK_BYTES):
                            _write_all(target, chunk)
                    else:
                        content = held = found.bytes()
                        _write_all(target, held)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        return content

    def head(self, key: str) -> StoredObject | None:
        try:
            with self._explained(key):
                return self._object(key, self._objects.get(check_key(key), options={"head": True}))
        except ObjectNotFound:
            return None

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        with self._explained(prefix):
            for page in self._boto.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.prefix + prefix):
                for entry in page.get("Contents", ()):
                    key = entry["Key"].removeprefix(self.prefix)
                    yield StoredObject(key, entry["Size"], entry["ETag"], entry["LastModified"])

    def delete(self, key: str) -> None:
        with self._explained(key):
            self._boto.delete_object(Bucket=self.bucket, Key=self._name(key))

    def _digest(self, key: str) -> tuple[str, int]:
        digest, size = hashlib.sha256(), 0
        with self._explained(key):
            for chunk in self._objects.get(check_key(key)).stream(CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
        return digest.hexdigest(), size

    def _object(self, key: str, found: GetResult, sha256: str | None = None) -> StoredObject:
        meta = found.meta
        return StoredObject(key, meta["size"], str(meta["e_tag"]), meta["last_modified"], sha256)


def _in_memory(data: Content) -> Content:
    """The content of a file, where it is small enough to be held."""
    return data.read_bytes() if isinstance(data, Path) and data.stat().st_size <= STREAMED_BYTES else data


def _write_all(target: io.FileIO, content: Buffer) -> None:
    """Write to a file without a buffer between: the system may take less than was offered."""
    view = memoryview(content).cast("B")
    while view:
        view = view[target.write(view) or 0 :]


def _plain_settings(endpoint_url: str | None, region: str | None) -> S3Config | None:
    """What to connect with where the environment says all of it; None where boto3 has to look further: profiles, roles, machines' identities."""
    said = {name: os.environ.get(name) for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE")}
    endpoint = endpoint_url or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = region or os.environ.get("AWS_DEFAULT_REGION")
    if not (said["AWS_ACCESS_KEY_ID"] and said["AWS_SECRET_ACCESS_KEY"] and endpoint and region) or said["AWS_PROFILE"]:
        return None
    found: S3Config = {
        "access_key_id": said["AWS_ACCESS_KEY_ID"],
        "secret_access_key": said["AWS_SECRET_ACCESS_KEY"],
        "endpoint": endpoint,
        "region": region,
    }
    if said["AWS_SESSION_TOKEN"]:
        found["session_token"] = said["AWS_SESSION_TOKEN"]
    return found


def _certificates(bundle: Path) -> bytes:
    """The authorities that a site trusts beside those of the system. Raises StoreUnavailable."""
    try:
        return bundle.read_bytes()
    except OSError as error:
        raise StoreUnavailable(f"The certificates {bundle} cannot be read: {error.strerror}.") from None


def _named(session: Any, provider: Any) -> Any:
    """The credentials of a boto3 session. Raises StoreUnavailable."""
    try:
        return provider(session, ttl=timedelta(seconds=_CREDENTIALS_S))
    except ValueError:
        raise StoreUnavailable(
            "There are no credentials for the store. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a role."
        ) from None


def _said(error: Exception) -> str:
    """What a client says, without its debugging details, the address and the times it took."""
    line = str(error).partition("\n")[0]
    told = _DETAILS.sub("", line)
    code = re.search(r"<Code>([^<]*)</Code>", str(error))
    return (f"{told} ({code[1]})" if code else told).strip(" .:") or line
