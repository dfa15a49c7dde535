"""What an object store says about new objects: messages in the three shapes that arrive in an SQS queue.

Amazon S3 event notifications (and what speaks like them), the same inside an SNS envelope, and EventBridge. An event only says where to look:
existence, size and content are taken from the store, so a late, repeated, reordered or forged event can at worst name an object that is there.

Source: Amazon S3 User Guide, "Event message structure"; Amazon SNS Developer Guide, "Parsing message formats"; Amazon EventBridge events for S3.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

MAX_KEYS = 1000
"""Objects that one message may name."""


@dataclass(frozen=True)
class EventContent:
    """What one message says."""

    keys: tuple[str, ...]
    """Objects that came, relative to the landing zone, in the order said."""
    ignored: int
    """Records about other things: removals, other buckets, other prefixes, test events."""


class UnreadableEvent(ValueError):
    """The message has none of the known shapes."""


def parse_event(body: str, bucket: str, prefix: str) -> EventContent:
    """Read one message. `prefix` is the landing zone's place in the bucket, empty or ending with a slash.

    Raises:
        UnreadableEvent: it has none of the known shapes, or names more than MAX_KEYS objects.
    """
    try:
        message = json.loads(body)
        if isinstance(message, dict) and message.get("Type") == "Notification":
            message = json.loads(message["Message"])
        records = list(_records(message))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UnreadableEvent(f"the message is no event of an object store ({type(error).__name__})") from None
    if len(records) > MAX_KEYS:
        raise UnreadableEvent(f"the message names {len(records)} objects, more than {MAX_KEYS}")
    mine = [name.removeprefix(prefix) for where, name in records if where == bucket and name.startswith(prefix)]
    return EventContent(tuple(dict.fromkeys(mine)), len(records) - len(mine))


def _records(message: Any) -> Iterator[tuple[str, str]]:
    """Bucket and name of every object that came; two empty texts for a record about something else."""
    if message.get("Event") == "s3:TestEvent":
        yield "", ""
    elif "detail-type" in message:
        is_new = message["detail-type"] == "Object Created"
        yield (str(message["detail"]["bucket"]["name"]), str(message["detail"]["object"]["key"])) if is_new else ("", "")
    else:
        for record in message["Records"]:
            is_new = str(record["eventName"]).removeprefix("s3:").startswith("ObjectCreated:")
            where = record["s3"]
            yield (str(where["bucket"]["name"]), unquote_plus(str(where["object"]["key"]))) if is_new else ("", "")
