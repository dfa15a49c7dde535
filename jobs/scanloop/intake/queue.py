"""The queue that an object store sends its events to: SQS, or anything that speaks it.

Messages are received in bounded batches and deleted only when everything they name is safe. One that is not deleted comes again after the queue's
visibility timeout, which is how a run that died, and a file that had to wait for its turn, are remembered.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any
from urllib.parse import parse_qs, urlsplit

from scanloop.errors import StoreUnavailable, WrongArguments

_BATCH = 10
"""Messages that one request receives or deletes at most. Source: Amazon SQS API, ReceiveMessage, DeleteMessageBatch."""
WAIT_S = 1
"""How long an empty queue is waited for: servers of a queue are asked all, not a sample."""


@dataclass(frozen=True)
class Message:
    """One message as it was received this time."""

    handle: str
    """What deletes it; valid until it is received again."""
    body: str
    """What it says."""


class EventQueue:
    """One queue, named by its URL: `https://sqs.<region>.amazonaws.com/<account>/<name>`, or that of another server.

    `?region=name` names the region where the URL does not.

    Raises:
        WrongArguments: it is no URL of a queue.
    """

    def __init__(self, url: str) -> None:
        import boto3
        from botocore.config import Config

        parts = urlsplit(url)
        try:
            is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
        except ValueError:
            is_usable = False
        if not is_usable or not re.fullmatch(r"/[^/]+/[A-Za-z0-9_.-]{1,80}", parts.path):
            raise WrongArguments(f"Expected the URL of a queue, https://host/account/name, found {url[:200]!r}.")
        self.url = f"{parts.scheme}://{parts.netloc}{parts.path}"
        of_amazon = re.fullmatch(r"sqs\.([a-z0-9-]+)\.amazonaws\.com(\.cn)?", parts.hostname or "")
        region = parse_qs(parts.query).get("region", [of_amazon[1] if of_amazon else None])[0]
        config = Config(retries={"mode": "standard", "total_max_attempts": 5}, connect_timeout=10, read_timeout=30)
        session = boto3.session.Session()
        with self._explained():
            self._client: Any = session.client(
                "sqs",
                endpoint_url=None if of_amazon else f"{parts.scheme}://{parts.netloc}",
                region_name=region or session.region_name or "us-east-1",
                config=config,
            )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as error:
            said = error.response.get("Error", {})
            raise StoreUnavailable(f"The queue {self.url} failed: {said.get('Message', '')} ({said.get('Code', '')}).") from None
        except BotoCoreError as error:
            raise StoreUnavailable(f"The queue {self.url} cannot be reached: {error}.") from None

    def receive(self) -> Iterator[Message]:
        """Messages until the queue shows no more, or one that was shown before. They stay in the queue, unseen for its visibility timeout.

        Raises:
            StoreUnavailable: the queue cannot be reached.
        """
        seen: set[str] = set()
        while True:
            with self._explained():
                found = self._client.receive_message(QueueUrl=self.url, MaxNumberOfMessages=_BATCH, WaitTimeSeconds=WAIT_S).get(
                    "Messages", []
                )
            new = [message for message in found if message["MessageId"] not in seen]
            if not new:
                return
            seen.update(str(message["MessageId"]) for message in new)
            for message in new:
                yield Message(str(message["ReceiptHandle"]), str(message["Body"]))

    def delete(self, handles: Iterable[str]) -> int:
        """Delete messages; returns how many the queue took. One whose handle is no longer valid comes again and is deleted then."""
        deleted, source = 0, iter(handles)
        while batch := list(islice(source, _BATCH)):
            entries = [{"Id": str(number), "ReceiptHandle": handle} for number, handle in enumerate(batch)]
            with self._explained():
                deleted += len(self._client.delete_message_batch(QueueUrl=self.url, Entries=entries).get("Successful", []))
        return deleted
