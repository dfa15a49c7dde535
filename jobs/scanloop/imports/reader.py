"""The confined process that opens indexes of research sets. Started by `IndexReader`, never imported by it.

It reads one JSON line a file on standard input, `{"kind", "path", "stem", "first_pixel"}`, and answers with lines of `records.Index`, a few hundred
images each, of which the last says so.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scanloop.scans.confine import allow_cpu, confine, cpu_s

BATCH = 200
"""Images in one line of an answer: with all the boxes they may have, less than a line may be long."""
LINE_BYTES = 512 << 10
"""A line is ended before it is longer."""


def main() -> None:
    """Confine this process, say what was taken, and answer until standard input ends. The arguments are those of the reader of scans."""
    folder, *readable = (Path(argument) for argument in sys.argv[1:])
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    taken = confine(folder, readable)
    from scanloop.imports import coco, records, text, voc  # after confinement: everything below runs without rights

    parsers = {
        "coco": lambda content, _: coco.parse_coco(content),
        "voc": lambda content, request: records.Index([voc.parse_voc(content, request["stem"], request["first_pixel"])]),
        "text": lambda content, request: text.parse_text(content, request["stem"]),
        "list": lambda content, _: text.parse_list(content),
    }
    replies.write(json.dumps({"confined": taken}).encode() + b"\n")
    replies.flush()
    for line in sys.stdin:
        allow_cpu()
        for answer in _answers(parsers, records, json.loads(line)):
            replies.write(records.encode(answer) + b"\n")
        replies.flush()


def _answers(parsers: Any, records: Any, request: dict[str, Any]) -> Iterator[Any]:
    index, refused = None, None
    try:
        with Path(request["path"]).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > records.MAX_INDEX_BYTES:
                raise records.IndexRefused(f"at most {records.MAX_INDEX_BYTES} bytes expected, {size} found")
            allow_cpu(2 * cpu_s(size))
            index = parsers[request["kind"]](file.read(records.MAX_INDEX_BYTES), request)
    except records.IndexRefused as refusal:
        refused = str(refusal)
    except MemoryError:
        refused = "reading it needs more memory than an index may take"
    except OSError as error:
        refused = f"it cannot be read: {error.strerror or type(error).__name__}"
    if index is None:
        yield records.Index(refused=records.words(refused), is_last=True)
        return
    yield records.Index(categories=index.categories)
    for problems in _parts(index.problems):
        yield records.Index(problems=problems)
    for listed in _parts(index.listed):
        yield records.Index(listed=listed)
    for images in _parts(index.images):
        yield from _within_length(records, images)
    yield records.Index(is_last=True)


def _parts(items: list[Any]) -> Iterator[list[Any]]:
    return (items[start : start + BATCH] for start in range(0, len(items), BATCH))


def _within_length(records: Any, images: list[Any]) -> Iterator[Any]:
    """Images in as few lines as their boxes allow."""
    answer = records.Index(images=images)
    if len(images) > 1 and len(records.encode(answer)) > LINE_BYTES:
        half = len(images) // 2
        yield from _within_length(records, images[:half])
        yield from _within_length(records, images[half:])
    else:
        yield answer


if __name__ == "__main__":
    main()
