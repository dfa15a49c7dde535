"""What a received report becomes: its masks in the store, and one row. Pure but for the masks.

A report waits until every scan that it names is there; `scanloop ingest reports` looks. One that can never say anything about a scan is void, with
the problem named.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import sqlalchemy as sa
import zstandard

from scanloop.catalog import Catalog
from scanloop.catalog.tables import taxonomies
from scanloop.scans.content import UNKNOWN, site_id, slug
from scanloop.scans.threat_report import OF_PEOPLE, ReportContent, unpack_mask
from scanloop.store import Store, StoredObject

Row = dict[str, Any]
MASKS_PREFIX = "scans/masks"
MASK_SUFFIX = ".bits.zst"
DETACHED_STUDY = "1.2.840.10008.3.1.2.3.1"
"""SOP class of a study that is referred to as a whole."""
PROBLEMS = {
    "site_differs": "it names another site than the one that delivered it",
    "aborted": "its author gave up and lists nothing",
    "undecided": "it lists nothing and decides nothing",
    "no_reference": "it names neither a scan, nor a study, nor a bag",
    "ambiguous": "several scans of its site have what it refers to",
    "bag_differs": "the scan that it names is of another bag",
    "outside": "a place that it names lies outside the scan",
}
"""Problem of a report with its meaning: the first four make it void, with the others it waits."""


def keep_masks(store: Store, content: ReportContent) -> list[StoredObject]:
    """Put the masks of a report into the store, packed bits under zstd, in order."""
    compressor = zstandard.ZstdCompressor(level=9, write_checksum=True)
    return [
        store.put_content(MASKS_PREFIX, compressor.compress(region.mask), MASK_SUFFIX, is_lazy=True)
        for region in content.regions()
        if region.mask is not None
    ]


def read_mask(store: Store, key: str, extents: Sequence[float]) -> Any:
    """A kept mask as (D, H, W) bool."""
    return unpack_mask(zstandard.ZstdDecompressor().decompress(store.get(key)), extents)


def category_names(catalog: Catalog) -> frozenset[str]:
    """Slugs of the ids and names of every category of every taxonomy version."""
    with catalog.read() as connection:
        versions = connection.execute(sa.select(taxonomies.c.categories)).scalars()
        return frozenset(slug(category[part]) for categories in versions for category in categories for part in ("id", "name"))


def report_row(
    sha256: str, raw_key: str, content: ReportContent, mask_keys: Iterable[str], *, delivered: str, known_names: Collection[str]
) -> Row:
    """The row of a report. `delivered` is the id of the site in whose folder it lay.

    Free text of a person is kept only where it is the name of a category: nobody knows what else it says.
    """
    site = content.site_id(delivered) or UNKNOWN
    said = content.as_dict()
    wanted = wanted_instances(content)
    problem = _problem(content, delivered, wanted)
    return {
        "report_id": sha256,
        "raw_key": raw_key,
        "site_id": site,
        "bag_id": content.bag_id(site),
        "study_uid": content.study_uid,
        "tdr_type": content.tdr_type,
        "decision": content.decision,
        "is_aborted": content.is_aborted,
        "decided_at": said["decided_at"],
        "attributes": {
            "delivered_site": delivered,
            "report_uid": content.report_uid,
            "algorithm": said["algorithm"],
            "total_objects": content.total_objects,
            "alarm_objects": content.alarm_objects,
            "references": said["references"],
        },
        "threats": kept_threats(content, list(mask_keys), known_names),
        "wanted": wanted,
        "matches": [],
        "problem": problem,
        "state": "void" if problem else "waiting",
    }


def kept_threats(content: ReportContent, mask_keys: Sequence[str | None], known_names: Collection[str]) -> list[Row]:
    """The threats as plain values, with the key of each mask, and without free text that may be about a person."""
    threats: list[Row] = content.as_dict()["threats"]
    for threat in threats:
        for assessment in threat["assessments"] if content.tdr_type in OF_PEOPLE else ():
            if slug(assessment["description"]) not in known_names:
                assessment["description"] = ""
        for place in threat["representations"]:
            for region in place["regions"]:
                region["mask"] = None if region["mask"] is None else mask_keys[region["mask"]]
    return threats


def wanted_instances(content: ReportContent) -> list[str]:
    """SOP instance UIDs of the scans that a report speaks about, sorted; none: it speaks about its study as a whole."""
    whole = [one for one in content.references if one.sop_class_uid != DETACHED_STUDY and one.sop_instance_uid != content.study_uid]
    placed = [one for threat in content.threats for place in threat.representations for one in place.references]
    return sorted({reference.sop_instance_uid for reference in (*whole, *placed)})


def _problem(content: ReportContent, delivered: str, wanted: Collection[str]) -> str:
    if content.site and delivered and site_id(content.site) != delivered:
        return "site_differs"
    if not content.threats and content.is_aborted:
        return "aborted"
    if not content.threats and content.decision == "unknown":
        return "undecided"
    if not (wanted or content.study_uid or content.bag):
        return "no_reference"
    return ""
