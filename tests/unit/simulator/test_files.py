"""Files: pydicom and an independent DICOS toolkit read the same pixels; exports come back as they were; intake's own readers agree."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
import tifffile
from pydicom.encaps import generate_frames

from scanloop.scans.dicom import read_dicom
from scanloop.scans.sidecar import read_sidecar
from scanloop.simulator.acquisition import acquire, machine_at
from scanloop.simulator.bags import simulate_bag
from scanloop.simulator.detector import SimulatedScan, simulate_scan
from scanloop.simulator.dicos import FOR_PRESENTATION, FOR_PROCESSING, write_dicos
from scanloop.simulator.exports import export, sidecar, write_png, write_tiff
from scanloop.simulator.scanners import SCANNER_MODELS

# Two sites: bag 0 goes to the first machine (native DICOS), bag 2 to the second (compressed DICOS), 1 to the third (TIFF), 3 to the fourth (PNG).
ACQUISITIONS = {acquire(4, 1, bag, 2)[0].machine.scanner.file_format: acquire(4, 1, bag, 2) for bag in range(4)}


@pytest.fixture(scope="module")
def scans() -> dict[str, SimulatedScan]:
    bag = simulate_bag(9, clean_fraction=0.0)
    return {kind: simulate_scan(bag, views[0].machine.scanner, 0, seed=2) for kind, views in ACQUISITIONS.items()}


def stacked(scan: SimulatedScan) -> np.ndarray:
    return np.concatenate(list(scan.planes.values()))


def pixels_by_pydicos(content: bytes, folder: Path) -> np.ndarray:
    import pydicos

    path = folder / "view.dcs"
    path.write_bytes(content)
    loader = pydicos.DXLoader()
    loader.read(str(path))
    return np.array(loader.get_data())


@pytest.mark.parametrize("sop_class", [FOR_PROCESSING, FOR_PRESENTATION], ids=["processing", "presentation"])
@pytest.mark.parametrize("syntax", ["explicit", "rle", "jpeg-lossless"])
@pytest.mark.parametrize("kind", ["dicos", "dicos-jpeg"])
def test_an_independent_toolkit_reads_the_same_pixels(scans, tmp_path: Path, kind: str, syntax, sop_class: str) -> None:
    scan, (acquisition, _) = scans[kind], ACQUISITIONS[kind]
    content = write_dicos(scan.planes, acquisition, bits=scan.bits, syntax=syntax, sop_class=sop_class)
    np.testing.assert_array_equal(pixels_by_pydicos(content, tmp_path), stacked(scan))


@pytest.mark.parametrize("syntax", ["explicit", "rle", "jpeg-lossless"])
@pytest.mark.parametrize("kind", ["dicos", "dicos-jpeg"])
def test_pydicom_reads_the_same_pixels(scans, kind: str, syntax) -> None:
    scan, (acquisition, _) = scans[kind], ACQUISITIONS[kind]
    dataset = pydicom.dcmread(BytesIO(write_dicos(scan.planes, acquisition, bits=scan.bits, syntax=syntax)))
    if syntax == "jpeg-lossless":
        pixels = imagecodecs.ljpeg_decode(next(generate_frames(dataset.PixelData, number_of_frames=1)))
    else:
        pixels = dataset.pixel_array
    np.testing.assert_array_equal(pixels, stacked(scan))


@pytest.mark.parametrize("kind", ["dicos", "dicos-jpeg"])
def test_intake_reads_the_planes_and_who_made_them(scans, kind: str) -> None:
    scan, (acquisition, _) = scans[kind], ACQUISITIONS[kind]
    content = read_dicom(export(scan, acquisition).content)
    assert content.bits == dict.fromkeys(("high", "low"), scan.bits)
    for name, pixels in scan.planes.items():
        np.testing.assert_array_equal(content.planes[name], pixels)
    metadata, machine = content.metadata, acquisition.machine
    assert (metadata.manufacturer, metadata.model, metadata.serial) == (machine.scanner.manufacturer, machine.scanner.model, machine.serial)
    assert (metadata.site_id, metadata.bag_id, metadata.view) == (machine.site, acquisition.bag_id, "top")
    assert (metadata.acquired_at, metadata.scan_type, metadata.is_projected) == (acquisition.acquired_at, "operational", False)


@pytest.mark.parametrize(("name", "image_type"), [("high", "HIGH ENERGY"), ("low", "LOW ENERGY")])
def test_one_energy_is_the_common_single_image(scans, tmp_path: Path, name: str, image_type: str) -> None:
    pixels = scans["dicos"].planes[name]
    content = write_dicos({name: pixels}, ACQUISITIONS["dicos"][0])
    assert list(pydicom.dcmread(BytesIO(content)).ImageType) == ["ORIGINAL", image_type]
    np.testing.assert_array_equal(pixels_by_pydicos(content, tmp_path), pixels)
    assert list(read_dicom(content).planes) == [name]


def test_planes_of_different_shape_are_refused() -> None:
    planes = {"high": np.zeros((4, 4), np.uint16), "low": np.zeros((4, 5), np.uint16)}
    with pytest.raises(ValueError, match="one shape"):
        write_dicos(planes, ACQUISITIONS["dicos"][0])


def test_views_of_a_bag_share_their_study_and_nothing_else(scans) -> None:
    top, side = (pydicom.dcmread(BytesIO(write_dicos(scans["dicos"].planes, view))) for view in ACQUISITIONS["dicos"])
    assert top.StudyInstanceUID == side.StudyInstanceUID
    assert top.PatientID == side.PatientID
    assert top.SeriesInstanceUID != side.SeriesInstanceUID
    assert top.SOPInstanceUID != side.SOPInstanceUID
    assert (top.SeriesDescription, side.SeriesDescription) == ("top", "side")


@pytest.mark.parametrize("kind", ACQUISITIONS)
def test_files_depend_on_no_clock(scans, kind: str) -> None:
    first, second = (export(scans[kind], ACQUISITIONS[kind][0]) for _ in range(2))
    assert first == second
    assert str(datetime.now(UTC).year).encode() not in (first.sidecar or b"")


def test_a_tiff_has_a_page_a_plane(scans) -> None:
    scan = scans["tiff"]
    with tifffile.TiffFile(BytesIO(write_tiff(scan.planes))) as tiff:
        pages = [page.asarray() for page in tiff.pages]
    assert len(pages) == 2
    for page, pixels in zip(pages, scan.planes.values(), strict=True):
        np.testing.assert_array_equal(page, pixels)


def test_a_png_has_the_planes_stacked(scans) -> None:
    np.testing.assert_array_equal(imagecodecs.png_decode(write_png(scans["png"].planes)), stacked(scans["png"]))


@pytest.mark.parametrize("kind", ["tiff", "png"])
def test_a_sidecar_says_what_the_picture_cannot(scans, kind: str) -> None:
    acquisition = ACQUISITIONS[kind][1]
    written = sidecar(acquisition, ("high", "low"))
    assert export(scans[kind], acquisition).sidecar == written
    metadata = read_sidecar(written).metadata()
    assert metadata.bag_id == acquisition.bag_id
    assert metadata.scanner_id.endswith(acquisition.machine.serial.lower())
    assert (metadata.view, metadata.acquired_at) == ("side", acquisition.acquired_at)
    assert json.loads(written)["planes"] == ["high", "low"]


def test_two_sites_have_every_model_and_serials_are_unique() -> None:
    machines = [machine_at(site, place) for site in range(12) for place in range(2)]
    assert {machine.scanner.code for machine in machines[:4]} == {scanner.code for scanner in SCANNER_MODELS}
    assert len({machine.serial for machine in machines}) == len(machines)
    assert all(machine.scanner.file_format.startswith("dicos") for machine in machines[:2])


def test_uids_are_those_of_a_uuid() -> None:
    uid = ACQUISITIONS["dicos"][0].uid("instance")
    number = int(uid.removeprefix("2.25."))
    assert len(uid) <= 64
    assert (number >> 76) & 0xF == 8
    assert (number >> 62) & 0x3 == 2
    assert hashlib.sha256(uid.encode()).hexdigest() == hashlib.sha256(ACQUISITIONS["dicos"][0].uid("instance").encode()).hexdigest()
