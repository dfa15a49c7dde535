"""Whole files of every kind give the planes and the metadata that were put in."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scan_files import BIG_ENDIAN, EXPLICIT, IMPLICIT, PEOPLE, SYNTAXES, dicos, picture, png, sidecar, tiff

from scanloop.scans.content import bag_id, clean_text, scanner_id, slug
from scanloop.scans.decode import read_scan
from scanloop.scans.errors import ScanRefused

PLANES = picture()


def same(found: Any, expected: dict[str, np.ndarray]) -> bool:
    return list(found) == list(expected) and all((found[name] == pixels).all() for name, pixels in expected.items())


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_every_transfer_syntax_gives_the_same_planes(syntax: str) -> None:
    scan = read_scan(dicos(PLANES, syntax))
    assert same(scan.planes, PLANES)
    assert scan.source_format == "dicos"
    assert scan.metadata.attributes["transfer_syntax"] == syntax


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "zlib", "predictor": True},
        {"compression": "lzw"},
        {"compression": "zstd"},
        {"compression": "packbits"},
        {"rowsperstrip": 7},
        {"tile": (16, 16)},
        {"tile": (16, 32), "compression": "zlib"},
        {"bigtiff": True},
        {"byteorder": ">", "compression": "zlib", "predictor": True},
    ],
    ids=str,
)
def test_every_tiff_that_another_library_writes_is_read_exactly(options: dict[str, Any]) -> None:
    assert same(read_scan(tiff(PLANES, **options), sidecar()).planes, PLANES)


def test_planes_may_be_stacked_in_a_tiff_or_a_png() -> None:
    stacked = {"all": np.vstack(list(PLANES.values()))}
    assert same(read_scan(tiff(stacked), sidecar()).planes, PLANES)
    assert same(read_scan(png(PLANES), sidecar()).planes, PLANES)


def test_eight_bit_exports_keep_their_values_and_say_their_depth() -> None:
    import imagecodecs

    small = {name: (pixels >> 8).astype(np.uint8) for name, pixels in PLANES.items()}
    for content in (tiff(small), bytes(imagecodecs.png_encode(np.vstack(list(small.values()))))):
        scan = read_scan(content, sidecar())
        assert same(scan.planes, {name: pixels.astype(np.uint16) for name, pixels in small.items()})
        assert set(scan.bits.values()) == {8}


def test_a_tiff_with_white_zero_is_turned_round() -> None:
    inverted = {name: 65535 - pixels for name, pixels in PLANES.items()}
    assert same(read_scan(tiff(inverted, photometric="miniswhite"), sidecar()).planes, PLANES)


def test_dicos_metadata_are_read_and_people_are_not() -> None:
    about = read_scan(dicos()).metadata
    assert (about.manufacturer, about.model, about.serial, about.site) == ("Veritas", "V 620", "0042", "south-terminal")
    assert (about.bag, about.issuer, about.view) == ("B000777", "south-terminal", "side")
    assert about.acquired_at is not None
    assert about.acquired_at.isoformat() == "2026-03-01T08:15:30.250000+00:00"
    assert (about.scan_type, about.is_projected, about.missing) == ("operational", False, ())
    assert about.attributes == {
        "software": "2.0.1",
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.501.2.2",
        "sop_instance_uid": "2.25.1",
        "study_uid": "2.25.12",
        "kvp": 160.0,
        "object_type": "BAGGAGE",
        "stacked_planes": 2,
        "transfer_syntax": EXPLICIT,
    }
    assert PEOPLE not in repr(about)


def test_sidecar_metadata_are_read_and_people_are_not() -> None:
    about = read_scan(png(PLANES), sidecar()).metadata
    assert (about.scanner_id, about.bag_id) == ("argus-line-2-sn-7", "north-terminal/north-terminal/b000123")
    assert about.acquired_at is not None
    assert about.acquired_at.isoformat() == "2026-03-01T07:15:30+00:00"
    assert PEOPLE not in repr(about)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"AcquisitionDateTime": "20260301081530.5+0100"}, "2026-03-01T07:15:30.500000+00:00"),
        ({"TimezoneOffsetFromUTC": "-0530"}, "2026-03-01T13:45:30.250000+00:00"),
        ({"AcquisitionDate": "20260228", "AcquisitionTime": "2359"}, "2026-02-28T23:59:00+00:00"),
        ({"ContentTime": None}, "2026-03-01T00:00:00+00:00"),
        ({"ContentDate": "20261301"}, None),
        ({"ContentDate": None}, None),
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR DA:UserWarning")
def test_times_become_utc_or_nothing(changes: dict[str, Any], expected: str | None) -> None:
    moment = read_scan(dicos(**changes)).metadata.acquired_at
    assert (moment.isoformat() if moment else None) == expected


@pytest.mark.parametrize(("tip", "expected"), [("", False), ("NONE", False), ("TIP", True), ("COMBINED", True)])
def test_a_projected_threat_is_marked(tip: str, expected: bool) -> None:
    assert read_scan(dicos(TIPType=tip)).metadata.is_projected is expected


def test_fourteen_bits_are_kept_and_higher_ones_ignored() -> None:
    planes = picture(bits=14)
    scan = read_scan(dicos(planes, bits=14))
    assert same(scan.planes, planes)
    assert set(scan.bits.values()) == {14}
    with_overlay = {name: pixels | 0x4000 for name, pixels in planes.items()}
    assert same(read_scan(dicos(with_overlay, bits=14)).planes, planes)


def test_intensity_sign_minus_one_is_turned_round() -> None:
    inverted = {name: 65535 - pixels for name, pixels in PLANES.items()}
    assert same(read_scan(dicos(inverted, PixelIntensityRelationshipSign=-1)).planes, PLANES)


@pytest.mark.parametrize(("energy", "name"), [("HIGH ENERGY", "high"), ("LOW ENERGY", "low"), ("Z_EFFECTIVE", "zeff")])
def test_a_file_of_one_energy_is_one_plane(energy: str, name: str) -> None:
    one = {name: PLANES["high"]}
    assert same(read_scan(dicos(one, ImageType=["ORIGINAL", energy])).planes, one)


def test_energies_may_be_frames() -> None:
    content = dicos(PLANES, NumberOfFrames=2, Rows=PLANES["high"].shape[0])
    assert same(read_scan(content).planes, PLANES)


@pytest.mark.parametrize(
    "kind", [["ORIGINAL", "MULTI ENERGY"], ["ORIGINAL", "MULTI ENERGY", "PROJECTION", "HIGH ENERGY", "HIGH ENERGY"]], ids=str
)
def test_energies_without_names_are_refused(kind: list[str]) -> None:
    with pytest.raises(ScanRefused, match="does not name the energies"):
        read_scan(dicos(ImageType=kind))


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN])
def test_number_of_frames_as_a_binary_number_is_understood(syntax: str) -> None:
    """In the wild: an implicit-VR file whose NumberOfFrames (0028,0008), IS by the dictionary, is a 16-bit number."""
    content = dicos(PLANES, syntax, NumberOfFrames="1")
    order = "big" if syntax == BIG_ENDIAN else "little"
    tag = (0x28).to_bytes(2, order) + (0x08).to_bytes(2, order)
    vr = b"" if syntax == IMPLICIT else b"IS"
    length = (2).to_bytes(4 if syntax == IMPLICIT else 2, order)
    text = tag + vr + length + b"1 "
    assert content.count(text) == 1
    binary = content.replace(text, tag + (vr and b"US") + length + (1).to_bytes(2, order))
    assert same(read_scan(binary).planes, PLANES)


def test_private_and_unknown_elements_and_odd_uids_are_no_obstacle() -> None:
    from pydicom.dataset import Dataset

    nested = Dataset()
    nested.PatientName = PEOPLE
    with pytest.warns(UserWarning, match=r"Invalid value for VR UI: '1\.02\.003'"):
        content = dicos(StudyInstanceUID="1.02.003", ReferencedPatientSequence=[nested, nested])
    assert read_scan(content).metadata.attributes["study_uid"] == "1.02.003"
    dataset = io.BytesIO(content)
    read = pydicom.dcmread(dataset)
    read.add_new(0x00082108, "CS", "X")
    read.add_new(0x43000902, "FL", 1.5)
    read.private_block(0x4301, "VENDOR", create=True).add_new(1, "UN", b"\x01\x02")
    target = io.BytesIO()
    pydicom.dcmwrite(target, read)
    assert same(read_scan(target.getvalue()).planes, PLANES)


def test_texts_in_other_scripts_survive() -> None:
    about = read_scan(dicos(SpecificCharacterSet="ISO_IR 192", InstitutionName="Zürich Süd")).metadata
    assert about.site == "Zürich Süd"
    assert about.site_id.startswith("z-rich-s-d-")
    assert read_scan(dicos(SpecificCharacterSet="ISO_IR 100", InstitutionName="Genève")).metadata.site == "Genève"


def test_a_tiff_in_a_dicom_preamble_is_still_dicom() -> None:
    assert same(read_scan(dicos(PLANES, preamble=b"II*\0\x10\0\0\0")).planes, PLANES)


@pytest.mark.parametrize(
    ("about", "message"),
    [
        (b"", "the whole"),
        (b"[]", "the whole"),
        (b"{" * 5000, "the whole"),
        (sidecar(planes=None), "planes"),
        (sidecar(planes=[]), "planes"),
        (sidecar(planes=["x"] * 17), "planes"),
        (sidecar(serial={"a": 1}), "serial"),
        (sidecar(site="x" * 300), "site"),
        (sidecar(acquired_at="yesterday"), "acquired_at"),
        (sidecar(planes=["high", "high"]), "names a plane twice"),
        (b" " * 70_000, "at most 65536 bytes"),
    ],
)
def test_a_sidecar_that_is_none_is_refused_without_quoting_it(about: bytes, message: str) -> None:
    with pytest.raises(ScanRefused, match=message) as refusal:
        read_scan(png(PLANES), about)
    assert refusal.value.reason_code == "sidecar_invalid"


@pytest.mark.parametrize("planes", [["high", "low", "zeff"], ["../high", "low"], ["High", "low"]])
def test_planes_that_do_not_fit_are_refused(planes: list[str]) -> None:
    with pytest.raises(ScanRefused):
        read_scan(png(PLANES), sidecar(planes=planes))


def test_a_sidecar_may_begin_with_a_byte_order_mark() -> None:
    assert read_scan(png(PLANES), b"\xef\xbb\xbf" + sidecar()).metadata == read_scan(png(PLANES), sidecar()).metadata


def test_a_sidecar_may_hold_nulls_and_numbers() -> None:
    said = json.loads(sidecar()) | {"issuer": None, "acquired_at": None, "is_projected": None, "serial": 4711, "bag_id": 123}
    about = read_scan(png(), json.dumps(said).encode()).metadata
    assert (about.issuer, about.acquired_at, about.is_projected, about.serial, about.bag) == ("", None, False, "4711", "123")


def test_pictures_need_their_sidecar() -> None:
    for content in (png(PLANES), tiff(PLANES)):
        with pytest.raises(ScanRefused) as refusal:
            read_scan(content)
        assert refusal.value.reason_code == "sidecar_missing"


@given(st.text(max_size=300))
@settings(max_examples=300, deadline=None)
def test_slugs_are_safe_and_bounded(text: str) -> None:
    made = slug(clean_text(text))
    assert 1 <= len(made) <= 48
    assert set(made) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert slug(clean_text(text)) == made


@given(st.text(min_size=1, max_size=40), st.text(min_size=1, max_size=40))
@settings(max_examples=300, deadline=None)
def test_names_that_differ_in_letters_never_share_a_slug(one: str, other: str) -> None:
    def letters(text: str) -> str:
        return "".join(character for character in clean_text(text).lower() if character.isalnum() or not character.isascii())

    if letters(one) != letters(other):
        assert slug(clean_text(one)) != slug(clean_text(other)) or not (letters(one) and letters(other))


def test_ids_are_made_of_slugs() -> None:
    assert scanner_id("L3 Comms", "PX-6.4", "") == "l3-comms-px-6-4-unknown"
    assert bag_id("north", "", "B 17/../..") == "north/unknown/b-17"
    assert clean_text("a\n\u202eb\x00\u200bc" + "x" * 500).startswith("a b c")
