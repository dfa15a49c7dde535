"""The confined process of one decoder plug-in. Started by `DecoderRooms`, never imported by it.

After confinement it says what was taken; then it loads the plug-in and says `{"ready": true}` or `{"problem": sentence}`. A question is one JSON
line: `{"path", "sniff": true}`, answered with `{"claimed": true or false}`, or one as the reader of the built-in formats gets it, and is answered
like it.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from scanloop.scans.confine import allow_cpu, confine


class _NotADecoder(Exception):
    """What the plug-in offers is not what the interface says."""


def main() -> None:
    """Confine this process, load the plug-in, and answer until standard input ends.

    The arguments are the name and the target of the plug-in, the folder where plug-ins are (or nothing), the folder to write in, and the folders to
    read in.
    """
    name, target, plugins, folder, *readable = sys.argv[1:]
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    if plugins:
        # Behind everything else: what is there cannot stand in for a module of the environment.
        sys.path.append(plugins)
    allow_cpu()
    taken = confine(Path(folder), [Path(place) for place in readable])
    warnings.simplefilter("ignore")

    def say(answer: dict[str, Any]) -> None:
        replies.write(json.dumps(answer) + "\n")

    say({"confined": taken})
    from scanloop.scans import reader
    from scanloop.scans.decoders import HEAD_BYTES

    try:
        decoder = _load(name, target)
    except BaseException as error:  # noqa: BLE001  a plug-in may raise anything, SystemExit too; the process is there to bear it
        say({"problem": f"it cannot be loaded: {type(error).__name__}: {error}"[:400]})
        return
    say({"ready": True})
    reading = SimpleNamespace(read_scan=_reading(decoder, name))
    for line in sys.stdin:
        request = json.loads(line)
        allow_cpu()
        if request.get("sniff"):
            say(_sniff(decoder, Path(request["path"]), HEAD_BYTES))
        else:
            say(reader._answer(reading, request))


def _load(name: str, target: str) -> Any:
    module, _, attribute = target.partition(":")
    decoder = import_module(module.strip())
    for part in filter(None, attribute.partition("[")[0].strip().split(".")):
        decoder = getattr(decoder, part)
    if decoder.name != name:
        raise _NotADecoder(f"expected a decoder that is called {name}, as its entry point, found {str(decoder.name)[:40]!r}")
    if not (callable(decoder.matches) and callable(decoder.read)):
        raise _NotADecoder("expected functions matches(head) and read(content, sidecar)")
    return decoder


def _sniff(decoder: Any, path: Path, head_bytes: int) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            head = file.read(head_bytes)
    except OSError as error:
        return {"unavailable": error.strerror or type(error).__name__}
    try:
        claimed = decoder.matches(head)
        if not isinstance(claimed, bool):
            raise _NotADecoder(f"expected True or False of matches(), found {type(claimed).__name__}")
    except BaseException as error:  # noqa: BLE001  see main
        return {"problem": _shown(error)}
    return {"claimed": claimed}


def _reading(decoder: Any, name: str) -> Callable[[bytes, bytes | None], Any]:
    """The plug-in's `read`, as the reader calls it: nothing but a scan or a refusal comes out."""
    from scanloop.scans.content import ScanContent
    from scanloop.scans.errors import ScanRefused
    from scanloop.scans.limits import MAX_FILE_BYTES

    def read(content: bytes, sidecar: bytes | None) -> ScanContent:
        if len(content) > MAX_FILE_BYTES:
            raise ScanRefused("too_large", f"Expected at most {MAX_FILE_BYTES} bytes, found {len(content)}.")
        try:
            scan = decoder.read(content, sidecar)
            if not isinstance(scan, ScanContent):
                raise _NotADecoder(f"expected a ScanContent of read(), found {type(scan).__name__}")
        except (ScanRefused, MemoryError):
            raise
        except BaseException as error:  # noqa: BLE001  see main
            raise ScanRefused("decoder_failed", f"It stopped at something unexpected: {_shown(error)}.") from None
        return replace(scan, source_format=name)

    return read


def _shown(error: BaseException) -> str:
    """An exception of a plug-in that has seen a file. Its text may quote the file, so it is shown only where Python or this module wrote it."""
    is_ours = isinstance(error, ImportError | _NotADecoder)
    return f"{type(error).__name__}: {error}"[:300] if is_ours else type(error).__name__


if __name__ == "__main__":
    main()
