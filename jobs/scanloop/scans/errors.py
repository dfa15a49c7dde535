"""Why bytes from outside were refused, in a vocabulary that can be counted."""

from __future__ import annotations

from scanloop.errors import DataWrong

REASONS = {
    "not_a_scan": "the bytes are no format that a scanner delivers",
    "truncated": "the file ends before what it announces",
    "malformed": "the structure contradicts itself or the standard",
    "too_large": "the announced size is beyond the limits",
    "too_deep": "sequences are nested beyond the limit",
    "polyglot": "the file is another kind of file at the same time",
    "unsupported_encoding": "a transfer syntax or compression that is not read",
    "unsupported_pixels": "a pixel layout that is no radiographic plane",
    "unsupported_kind": "a DICOM object that is no X-ray scan",
    "sidecar_missing": "an exported picture without the sidecar that says what it is",
    "sidecar_invalid": "the sidecar is not the JSON object expected",
    "memory_limit": "reading it needs more memory than allowed",
    "cpu_limit": "reading it takes more processor time than allowed",
    "wall_limit": "reading it takes longer than allowed",
    "output_limit": "reading it writes more than allowed",
    "reader_died": "the process that read it was ended by it",
    "decoder_failed": "a decoder plug-in that reads it, or might, does not work",
    "ambiguous_format": "more than one decoder plug-in claims it",
}
"""Every reason code with its meaning."""


class ScanRefused(DataWrong):
    """These bytes cannot be read correctly as a scan, so they go to quarantine."""

    def __init__(self, reason_code: str, message: str) -> None:
        if reason_code not in REASONS:
            raise KeyError(reason_code)
        super().__init__(message)
        self.reason_code = reason_code
