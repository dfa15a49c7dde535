"""A store in S3, or anything that speaks it."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from scanloop.errors import ObjectConflict, ObjectNotFound, StoreUnavailable
from scanloop.store.base import CHUNK_BYTES, Content, Store, StoredObject, check_key, is_equal, opened, sha256_of

OWNER = "scanloop-owner"
"""Name of the metadata entry that tells whose conditional write an object is."""
HELD_BYTES = 32 << 20
"""Objects up to this size are held in memory while they are brought, sent or compared; larger ones are streamed."""
ATTEMPTS = 5
"""How often a request is made before the store counts as unavailable."""
_ABSENT = {"404", "NoSuchKey", "NotFound"}
_LOST = {"412", "PreconditionFailed", "409", "ConditionalRequestConflict"}


class S3Store(Store):
    """Objects in one bucket under a prefix; conditional writes by `If-None-Match` and `If-Match`.

    Every write carries the SHA-256 of its content in a signed header, so that the content itself is not hashed again for the signature. A server
    that checks it refuses what was damaged on the way; for those that do not, what was written is read back.

    Source: Amazon S3 User Guide, "How to prevent object overwrites with conditional writes" and "Checking object integrity".
    """

    def __init__(self, bucket: str, prefix: str = "", *, endpoint_url: str | None = None, region: str | None = None) -> None:
        import boto3
        from botocore.config import Config

        self.bucket, self.prefix = bucket, prefix + "/" if prefix else ""
        self.url = f"s3://{bucket}/{prefix}"
        self._where = (bucket, prefix, endpoint_url, region)
        config = Config(
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            connect_timeout=10,
            read_timeout=60,
            max_pool_connections=32,
            s3={"payload_signing_enabled": False},
            response_checksum_validation="when_required",
        )
        with self._explained(""):
            self._client: Any = boto3.session.Session().client(
                "s3", endpoint_url=endpoint_url, region_name=region or _default_region(), config=config
            )

        bundle = os.environ.get("AWS_CA_BUNDLE") or os.environ.get("REQUESTS_CA_BUNDLE")
        if bundle and not Path(bundle).exists() and self._client.meta.endpoint_url.startswith("https:"):
            raise StoreUnavailable(f"The certificates {bundle}, which AWS_CA_BUNDLE or REQUESTS_CA_BUNDLE names, are not there.")

    def reopened(self) -> Store:
        bucket, prefix, endpoint_url, region = self._where
        return S3Store(bucket, prefix, endpoint_url=endpoint_url, region=region)

    def _name(self, key: str) -> str:
        return self.prefix + check_key(key)

    def uri(self, key: str) -> str:
        return f"s3://{self.bucket}/{self._name(key)}"

    @contextmanager
    def _explained(self, key: str) -> Iterator[None]:
        """Turn what boto3 says into the errors of a store."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            if code in _ABSENT:
                raise ObjectNotFound(f"The store {self.url} holds nothing under {key!r}.") from None
            if code in _LOST:
                raise ObjectConflict(f"The store {self.url} refused the conditional write of {key!r}: something else is there.") from None
            said = error.response.get("Error", {}).get("Message", "") or code
            raise StoreUnavailable(f"The store {self.url} failed on {key!r}: {said} ({code}).") from None
        except BotoCoreError as error:
            raise StoreUnavailable(f"The store {self.url} cannot be reached for {key!r}: {error}.") from None

    def _send(self, key: str, data: Content, sha256: str, **arguments: Any) -> None:
        checksum = base64.b64encode(bytes.fromhex(sha256)).decode()
        with opened(data) as body:
            self._client.put_object(Bucket=self.bucket, Key=self._name(key), Body=body, ChecksumSHA256=checksum, **arguments)

    def _get(self, key: str, *, is_checked: bool = False) -> dict[str, Any]:
        """An object; `is_checked` compares it, as it is read, with the checksum that it was delivered with, if any."""
        mode = {"ChecksumMode": "ENABLED"} if is_checked else {}
        facts: dict[str, Any] = self._client.get_object(Bucket=self.bucket, Key=self._name(key), **mode)
        return facts

    def _put(self, key: str, data: Content, **arguments: Any) -> StoredObject:
        self._send(key, data, sha256_of(data)[0], **arguments)
        found = self.head(key)
        if found is None:
            raise StoreUnavailable(f"The store {self.url} took {key!r} and does not show it.")
        return found

    def _write(self, key: str, data: Content, content_type: str | None) -> StoredObject:
        with self._explained(key):
            return self._put(key, data, **({"ContentType": content_type} if content_type else {}))

    def put_content(self, prefix: str, data: Content, suffix: str = "", *, is_given: bool = False, is_lazy: bool = False) -> StoredObject:
        # A small file is read once, and not for each of hashing, sending and comparing.
        held = data.read_bytes() if isinstance(data, Path) and data.stat().st_size <= HELD_BYTES else data
        return super().put_content(prefix, held, suffix, is_given=is_given, is_lazy=is_lazy)

    def _write_new(self, key: str, data: Content, sha256: str, *, is_given: bool, is_lazy: bool) -> bool:
        try:
            with self._explained(key):
                self._send(key, data, sha256, IfNoneMatch="*")
        except ObjectConflict:
            return False
        return True

    def _found_equal(self, key: str, data: Content) -> StoredObject | None:
        try:
            with self._explained(key):
                facts = self._get(key)
                if self._is_equal(facts, data):
                    return self._object(key, facts)
                facts["Body"].close()
        except ObjectNotFound:
            pass
        return None

    @staticmethod
    def _is_equal(facts: dict[str, Any], data: Content) -> bool:
        if isinstance(data, bytes):
            return bool(facts["ContentLength"] == len(data) and facts["Body"].read() == data)
        return is_equal(facts["Body"].iter_chunks(CHUNK_BYTES), data)

    def _write_if_absent(self, key: str, data: Content, owner: str) -> StoredObject:
        token = hashlib.sha256(owner.encode()).hexdigest()
        try:
            with self._explained(key):
                return self._put(key, data, IfNoneMatch="*", Metadata={OWNER: token})
        except ObjectConflict:
            with self._explained(key):
                facts = self._client.head_object(Bucket=self.bucket, Key=self._name(key))
            if facts.get("Metadata", {}).get(OWNER) != token:
                raise ObjectConflict(f"{self.uri(key)} was already written by another owner.") from None
            return self._object(key, facts, self._digest(key)[0])

    def replace(self, key: str, data: bytes, *, expected_etag: str) -> StoredObject:
        with self._explained(key):
            written = self._put(key, data, IfMatch=expected_etag)
        return self._verified(written, data)

    def get(self, key: str) -> bytes:
        with self._explained(key):
            content: bytes = self._get(key, is_checked=True)["Body"].read()
        return content

    def download(self, key: str, path: Path) -> Path:
        self.fetch(key, path)
        return path

    def fetch(self, key: str, path: Path) -> Content:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{uuid4().hex[:8]}.part")
        content: Content = path
        try:
            with self._explained(key), part.open("wb") as target:
                facts = self._get(key, is_checked=True)
                if facts["ContentLength"] > HELD_BYTES:
                    for chunk in facts["Body"].iter_chunks(CHUNK_BYTES):
                        target.write(chunk)
                else:
                    content = held = facts["Body"].read()
                    target.write(held)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        return content

    def head(self, key: str) -> StoredObject | None:
        try:
            with self._explained(key):
                return self._object(key, self._client.head_object(Bucket=self.bucket, Key=self._name(key)))
        except ObjectNotFound:
            return None

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        with self._explained(prefix):
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.prefix + prefix):
                for entry in page.get("Contents", ()):
                    key = entry["Key"].removeprefix(self.prefix)
                    yield StoredObject(key, entry["Size"], entry["ETag"], entry["LastModified"])

    def delete(self, key: str) -> None:
        with self._explained(key):
            self._client.delete_object(Bucket=self.bucket, Key=self._name(key))

    def _digest(self, key: str) -> tuple[str, int]:
        digest, size = hashlib.sha256(), 0
        with self._explained(key):
            body = self._get(key)["Body"]
            for chunk in body.iter_chunks(CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
        return digest.hexdigest(), size

    def _object(self, key: str, facts: dict[str, Any], sha256: str | None = None) -> StoredObject:
        return StoredObject(key, facts["ContentLength"], facts["ETag"], facts["LastModified"], sha256)


def _default_region() -> str | None:
    """A region only where none is configured: S3 imitations need none, boto3 insists on one."""
    import boto3

    return boto3.session.Session().region_name or "us-east-1"
