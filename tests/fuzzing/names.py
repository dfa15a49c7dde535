"""Odd names and ids, as files are called and as headers and sidecars fill their fields: 500 of ten kinds."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

COUNT = 500
_TRAVERSAL = (
    "..",
    ".",
    "../",
    "../../etc/passwd",
    "..\\..\\windows\\system32",
    "%2e%2e%2f",
    "..;/",
    "/etc/shadow",
    "C:\\boot.ini",
    "file:///etc/passwd",
    "~root",
    "....//",
)
_BREAKS = ("\n", "\r\n", "\0", "\x1b[2J", "\x07", "\x08\x08\x08", "\t", "\x7f", "\u2028", "\u2029", "\x85", "\ufeff")
_TURNED = (
    "\u202egnp.exe",
    "\u202dabc",
    "\u2066x\u2069",
    "שלום",
    "مرحبا",
    "\u200fabc",
    "a\u200bb",
    "\u061cx",
    "\u202efdp.exe",
    "\U000e0041",
)
_ALIKE = ("а", "ѕcan", "раураl", "Ａ", "ﬁle", "ℋ", "𝐀𝐁", "º", "ß", "İ", "ı", "K", "é", "e\u0301", "Ω", "Ω", "ǅ", "①")
_RESERVED = (
    "CON",
    "PRN",
    "AUX",
    "NUL",
    "COM1",
    "LPT9",
    "con.txt",
    "aux.dcs",
    ".htaccess",
    ".git",
    "desktop.ini",
    "index.html",
    "-rf",
    "--help",
    "*",
    "$HOME",
    "`id`",
    "$(id)",
)
_CODE = (
    "'; DROP TABLE scans; --",
    '" OR ""="',
    "<script>alert(1)</script>",
    "{{7*7}}",
    "${jndi:ldap://x}",
    "{% raw %}",
    "%s%s%n",
    "<?php x ?>",
    "=cmd|' /C calc'!A0",
    "@SUM(1)",
    "]]>",
    "&lt;",
    "\\u0000",
    "%00",
    "%0d%0aSet-Cookie: a=b",
    "a;b|c&d",
    '"',
    "'",
    "\\",
    "#",
    "?x=1",
    "a=b",
    ":",
    "::$DATA",
)


def odd_names() -> list[str]:
    """All of them, no two equal: each kind alone, before, behind and inside a plain name, long and short."""
    draw = random.Random(500)
    shapes: tuple[Callable[[str], str], ...] = (
        lambda odd: odd,
        lambda odd: f"B{odd}7",
        lambda odd: f"{odd}{odd}{odd}",
        lambda odd: f" {odd} ",
        lambda odd: odd + "x" * 4096,
        lambda odd: (odd * 5000)[:4096],
    )
    kinds = (
        _TRAVERSAL,
        _BREAKS,
        _TURNED,
        _ALIKE,
        _RESERVED,
        _CODE,
        ("", " ", "null", "None", "NaN", "undefined", "0", "-1", "true", "\ud7ff", "😀", "\U0010ffff"),
    )
    names = dict.fromkeys(shape(odd) for shape, odd in itertools.product(shapes, itertools.chain(*kinds)))
    chosen = list(names)
    draw.shuffle(chosen)
    return chosen[:COUNT]
