"""Personal data in every place where a file can hold some: none goes further than the sealed original, whatever becomes of the file.

Real files go through the commands of intake, validation, curation and labelling; then every row of every table, every object of the store but the
received bytes themselves, and everything that was printed or logged is searched.
"""

from __future__ import annotations

import io
import json
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pydicom
import pytest
import sqlalchemy as sa
import tifffile
import zstandard
from fuzzing.seeds import FRAMES, pixels
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from report_files import place, tdr, threat
from scan_files import dicos, jpeg, picture, png, sidecar, tiff
from small_world import define, run_job_of

from scanloop.catalog.tables import labelling_tasks, metadata, quarantine, scans
from scanloop.cli.main import run as run_command
from scanloop.cli.options import World
from scanloop.scans.dicom_elements import _TAGS
from scanloop.store import Store, open_store

_planted: list[str] = []
PLANTED = re.compile(rb"plant[-_ ]?\d{4}|d\W?o\W?e\W?[-_^ ]\W?plant", re.IGNORECASE)
TEXT_VRS = frozenset({"AE", "AS", "CS", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UR", "UT"})
READ = {tag for tag, _ in _TAGS.values()}
IDENTIFYING = (
    "Manufacturer",
    "ManufacturerModelName",
    "DeviceSerialNumber",
    "InstitutionName",
    "PatientID",
    "IssuerOfPatientID",
    "SeriesDescription",
)


def plant() -> str:
    """Personal data that are nowhere else: a person's name as DICOM writes it."""
    _planted.append(f"DOE^PLANT{len(_planted) + 1:04d}")
    return _planted[-1]


def parsed(content: bytes) -> Dataset:
    return pydicom.dcmread(io.BytesIO(content))


def written(dataset: Dataset) -> bytes:
    target = io.BytesIO()
    dataset.save_as(target)
    return target.getvalue()


def add(dataset: Dataset, tag: int, vr: str, value: Any) -> None:
    dataset[tag] = pydicom.DataElement(tag, vr, value, already_converted=vr not in ("PN", "SQ"))


def whole_dictionary() -> Dataset:
    """A file with every text of the DICOM dictionary that intake does not read, every sequence with a person inside, and private elements."""
    dataset = parsed(dicos(picture(1, 64, 64)))
    for tag, (vr, *_, keyword) in DicomDictionary.items():
        if tag in READ or tag >> 16 in (0x0000, 0x0002, 0x0004) or not keyword:
            continue
        if vr in TEXT_VRS:
            add(dataset, tag, vr, plant())
        elif vr == "SQ":
            item, inner = Dataset(), Dataset()
            item.PatientName = plant()
            add(inner, 0x00100020, "LO", plant())
            add(item, 0x00081140, "SQ", pydicom.Sequence([inner]))
            add(dataset, tag, "SQ", pydicom.Sequence([item]))
    for group in (0x0009, 0x0011, 0x0019, 0x4013, 0x7FE1):
        block = dataset.private_block(group, f"ACME {plant()}", create=True)
        for number, vr in enumerate(("LO", "PN", "UN", "LT")):
            block.add_new(number, vr, plant().encode() if vr == "UN" else plant())
        inner = Dataset()
        inner.PatientAddress = plant()
        block.add_new(9, "SQ", pydicom.Sequence([inner]))
    meta = dataset.file_meta
    meta.SourceApplicationEntityTitle = meta.SendingApplicationEntityTitle = meta.ReceivingApplicationEntityTitle = plant()
    meta.ImplementationVersionName = plant()
    meta.PrivateInformationCreatorUID, meta.PrivateInformation = pydicom.uid.UID("2.25.7"), plant().encode()
    add(dataset, 0xFFFCFFFC, "OB", plant().encode())
    return dataset


def streams() -> Iterator[tuple[str, bytes]]:
    """Compressed frames with comments, application data and boxes that name a person."""
    for name in ("jpeg", "jpeg lossless", "jpeg-ls"):
        syntax, bits, compress = FRAMES[name]
        frame = compress(pixels(bits=bits, height_px=64, width_px=64))
        extra = b"".join(b"\xff" + bytes([marker]) + struct.pack(">H", 15) + plant().encode() for marker in (0xFE, 0xE1, 0xED))
        yield syntax, frame[:2] + extra + frame[2:]
    syntax, bits, compress = FRAMES["jpeg 2000"]
    frame = compress(pixels(bits=bits, height_px=64, width_px=64))
    at = frame.index(b"\xff\x90")
    yield syntax, frame[:at] + b"\xff\x64" + struct.pack(">HH", 17, 1) + plant().encode() + frame[at:]
    syntax, bits, compress = FRAMES["jpeg 2000 boxed"]
    yield syntax, compress(pixels(bits=bits, height_px=64, width_px=64)) + struct.pack(">I4s", 21, b"xml ") + plant().encode()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_with_people() -> bytes:
    plain = png(picture(11, 64, 64))
    bodies = [
        (b"tEXt", b"Author\0" + plant().encode()),
        (b"tEXt", b"Comment\0" + plant().encode()),
        (b"zTXt", b"Title\0\0" + zlib.compress(plant().encode())),
        (b"iTXt", b"Description\0\0\0\0\0" + plant().encode()),
        (b"eXIf", b"II*\0" + plant().encode()),
        (b"iCCP", plant().encode() + b"\0\0" + zlib.compress(b"x")),
        (b"prIv", plant().encode()),
        (b"sPLT", plant().encode() + b"\0\x08"),
    ]
    return plain[:33] + b"".join(chunk(kind, body) for kind, body in bodies) + plain[33:]


def tiff_with_people() -> bytes:
    tags = (
        269,
        270,
        271,
        272,
        285,
        305,
        306,
        315,
        316,
        333,
        337,
        700,
        32781,
        33432,
        33723,
        34377,
        37510,
        40091,
        40092,
        40093,
        40094,
        42032,
        42113,
        65000,
    )
    extra = [(tag, 2, 0, plant(), True) for tag in tags]
    return tiff(picture(12, 64, 64), extratags=extra, software=False)


def jpeg_with_people() -> bytes:
    plain = jpeg(picture(13, 64, 64))
    segments = [
        (0xFE, b""),
        (0xE0, b"JFXX\0"),
        (0xE1, b"Exif\0\0"),
        (0xE1, b"http://ns.adobe.com/xap/1.0/\0"),
        (0xE2, b"ICC_PROFILE\0"),
        (0xED, b"Photoshop 3.0\0"),
        (0xEF, b""),
    ]
    extra = b"".join(
        b"\xff" + bytes([marker]) + struct.pack(">H", 2 + len(body)) + body
        for marker, body in ((marker, head + plant().encode()) for marker, head in segments)
    )
    return plain[:2] + extra + plain[2:]


def strange_sidecar(**changes: Any) -> bytes:
    """A sidecar with people in fields that nobody reads."""
    extra = {
        "operator": plant(),
        "passenger": {"name": plant(), "seat": [plant(), {"address": plant()}]},
        "notes": plant(),
        plant(): plant(),
    }
    return sidecar(**(extra | changes))


def files() -> Iterator[tuple[str, bytes, bytes | None]]:
    """Name, bytes and sidecar of every file that is delivered."""
    yield "dictionary.dcs", written(whole_dictionary()), None
    for keyword in _TAGS:
        vr = DicomDictionary[_TAGS[keyword][0]][0]
        dataset = parsed(dicos(picture(20, 64, 64)))
        if vr in TEXT_VRS or vr in ("IS", "DS", "UI"):
            add(dataset, _TAGS[keyword][0], "LO", plant())
            yield f"read-{keyword}.dcs", written(dataset), None
    dataset = parsed(dicos(picture(21, 64, 64)))
    for keyword in IDENTIFYING:
        setattr(dataset, keyword, plant())
    yield "identifying.dcs", written(dataset), None
    for number, (syntax, frame) in enumerate(streams()):
        bits = 8 if syntax == FRAMES["jpeg"][0] else 16
        shape = {"Rows": 64, "Columns": 64, "BitsAllocated": bits, "BitsStored": bits, "HighBit": bits - 1}
        content = dicos(picture(22, 32, 64), syntax, PixelData=encapsulate([frame]), StudyInstanceUID=f"2.25.9{number}", **shape)
        yield f"stream-{number}.dcs", content, None
    for number, kind in enumerate(("GROUND TRUTH", "OPERATOR", "MACHINE")):
        people = {
            name: plant()
            for name in ("OperatorsName", "PatientName", "PatientID", "InstitutionName", "IssuerOfPatientID", "PatientComments")
        }
        people["ThreatDetectionAlgorithmAndVersion"] = plant()
        yield (
            f"report-{number}.dcs",
            tdr([threat(1, plant(), [place(["2.25.1"])])], TDRType=kind, SOPInstanceUID=f"2.25.8{number}", **people),
            None,
        )
    whole = written(whole_dictionary())
    yield "cut.dcs", whole[:-100], None
    yield "preamble.dcs", dicos(picture(23, 64, 64), preamble=plant().encode()), None
    yield "syntax.dcs", dicos(picture(24, 64, 64)).replace(b"1.2.840.10008.1.2.1\0", plant().encode().ljust(20, b" ")), None
    yield "wrong-vr.dcs", dicos(picture(25, 64, 64), PatientComments=plant()).replace(b"\x10\0\0\x40LT", b"\x10\0\0\x40??"), None
    yield "note.txt", plant().encode() * 20, None
    yield "people.png", png_with_people(), strange_sidecar(bag_id="B11")
    yield "people.tif", tiff_with_people(), strange_sidecar(bag_id="B12")
    yield "people.jpg", jpeg_with_people(), strange_sidecar(bag_id="B13", planes=["high", "low"])
    for number, field in enumerate(
        ("manufacturer", "model", "serial", "site", "bag_id", "issuer", "view", "acquired_at", "scan_type", "software", "is_projected")
    ):
        yield f"field-{field}.png", png(picture(40 + number, 64, 64)), strange_sidecar(**{field: plant()})
    for number, planes in enumerate(([plant(), "low"], [plant(), plant()])):
        yield f"planes-{number}.png", png(picture(60 + number, 64, 64)), strange_sidecar(planes=planes)
    yield "sidecar.png", png(picture(70, 64, 64)), plant().encode()


def expanded(content: bytes) -> Iterator[bytes]:
    """An object's bytes, and what is compressed in it."""
    yield content
    if content[:4] == b"\x28\xb5\x2f\xfd":
        yield zstandard.ZstdDecompressor().decompressobj().decompress(content)
    if content[:4] == b"II*\0":
        with tifffile.TiffFile(io.BytesIO(content)) as opened:
            yield "\n".join(str(tag.value) for page in opened.pages for tag in page.tags).encode()  # type: ignore[union-attr]


def leaks_of_store(store: Store) -> list[str]:
    """Objects outside the sealed originals that hold what was planted, by content or by name."""
    found = []
    for entry in store.list():
        if entry.key.startswith("scans/raw/"):
            continue
        matches = ((part, PLANTED.search(part)) for part in (entry.key.encode(), *expanded(store.get(entry.key))))
        found += [f"{entry.key}: {part[max(0, match.start() - 80) : match.end() + 40]!r}" for part, match in matches if match]
    return found


def leaks_of_catalog(world: World) -> list[str]:
    """Rows of any table that hold what was planted."""
    found = []
    with world.catalog.read() as connection:
        names = [(table.schema or "public", table.name) for table in metadata.sorted_tables]
        for schema, name in names:
            rows = connection.execute(sa.text(f'SELECT t::text FROM "{schema}"."{name}" t'))
            found += [f"{name}: {row[:300]}" for (row,) in rows if PLANTED.search(row.encode())]
    return found


@pytest.fixture
def command(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run `scanloop`; returns all that it printed and logged, from this process and its children."""
    for name, value in environment.items():
        if name.startswith("SCANLOOP_"):
            monkeypatch.setenv(name, value)

    def call(*arguments: str, code: int = 0) -> str:
        capfd.readouterr()
        found = run_command(list(arguments))
        out, err = capfd.readouterr()
        assert found == code, err[-2000:]
        return out + err

    return call


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_personal_data_go_no_further_than_the_sealed_original(
    world: World, run_body: Callable[..., Any], command: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    landing = open_store(world.settings.landing_url)
    delivered = list(files())
    for name, content, about in delivered:
        site = "north-terminal/SN-7" if about is not None else "south-terminal/0042"
        if about is not None:
            landing.put(f"{site}/2026-03-01/{name}.json", about)
        landing.put(f"{site}/2026-03-01/{name}", content)
        assert PLANTED.search(content + (about or b"")) or name.startswith("people"), name
    define(run_body)
    caplog.clear()  # the libraries that wrote the files quote them
    caplog.set_level("DEBUG")
    said = [command("ingest", "plan", "--max-shards=1", "--run-id=r1")]
    said.append(command("ingest", "shard", "--shard=00/01", "--run-id=r1"))
    said.append(command("ingest", "acknowledge", "--run-id=r1"))
    said.append(command("validation", "run", "--run-id=r2"))
    said += [json.dumps(run_job_of(run_body, job, f"run-{job}")) for job in ("selection.create", "labelling.push")]
    said += [command("quarantine", "list", "--json"), command("quarantine", "list"), command("audit", "verify")]
    with world.catalog.read() as connection:
        states = dict(connection.execute(sa.select(scans.c.state, sa.func.count()).group_by(scans.c.state)).tuples().all())
        held = list(connection.scalars(sa.select(quarantine.c.quarantine_id)))
        reasons = dict(
            connection.execute(sa.select(quarantine.c.reason_code, sa.func.count()).group_by(quarantine.c.reason_code)).tuples().all()
        )
        asked = connection.scalar(sa.select(sa.func.count()).select_from(labelling_tasks))
    said += [command("quarantine", "show", digest) for digest in held[:5]]
    print(f"\n{len(_planted)} places in {len(delivered)} files: scans {states}, refused {reasons}, {asked} labelling tasks")
    assert len(_planted) > 2000
    # What was planted came all the way: files were read, checked, refused and sent to be labelled.
    assert states["validated"] >= 20
    assert len(reasons) >= 5
    assert asked is not None
    assert asked >= 10
    assert leaks_of_catalog(world) == []
    assert leaks_of_store(world.store) == []
    everything = "\n".join(said) + caplog.text
    assert PLANTED.search(everything.encode()) is None
    assert PLANTED.search(b"".join(world.store.get(entry.key) for entry in world.store.list("scans/raw/")))


def test_the_search_finds_what_it_looks_for(world: World, run_body: Callable[..., Any]) -> None:
    for number, content in enumerate(
        (b"x DOE^PLANT0001", b'{"bag": "doe-plant0001"}', zstandard.compress(b"DOE^PLANT0001"), tiff_with_people())
    ):
        world.store.put(f"somewhere/{number}", content)
    world.store.put("scans/raw/00/x", b"DOE^PLANT0001")
    assert {found.partition(":")[0] for found in leaks_of_store(world.store)} == {f"somewhere/{number}" for number in range(4)}
    row = {"site_id": "doe-plant0001", "name": "x"}
    run_body("test.site", lambda run: run.publication.insert("sites", [row], action="site.seen", subject="site_id") or {}, run_id="x")
    assert any(found.startswith("sites") for found in leaks_of_catalog(world))
