"""Texts that name a person where a thing should be named.

DICOS re-uses the patient for the object of inspection, and people type into any field. What identifies a scan is needed to tell scans apart, so it
is not dropped: it is replaced by a word that is the same for the same text and does not tell it.

Source: DICOM PS3.5 section 6.2.1.1 (the parts of a person's name are divided by `^`).
"""

from __future__ import annotations

import hashlib
import re

_PERSON = re.compile(r"\^|\S@\S")
"""A person's name as DICOM writes it, or an address of electronic mail."""


def without_person(text: str) -> str:
    """`text`, or `withheld-` and eight hex digits of its SHA-256 where it has the form of a person's name or address."""
    return f"withheld-{hashlib.sha256(text.encode()).hexdigest()[:8]}" if _PERSON.search(text) else text
