r"""DICOS digital X-ray files, as two of the simulated scanners write them.

One file is one view. The DICOS X-ray object holds a single image, and independent readers refuse several frames in it, so the energies of a view are
bands of one image, stacked from top to bottom. ImageType (0008,0008) says so with standard values:

    ORIGINAL \ MULTI ENERGY \ PROJECTION \ HIGH ENERGY \ LOW ENERGY

value 2 tells that there are several energies, values 4 and on name the bands in order; Rows (0028,0010) is bands x height. A view of one energy is
the common single image, ORIGINAL \ HIGH ENERGY or ORIGINAL \ LOW ENERGY.

Pixels are counts proportional to intensity (PixelIntensityRelationship LIN, sign +1): bright is air. Nothing in a file depends on the clock.

Source: NEMA IIC 1 (DICOS) v03, X-ray image information object; elements that pydicom's dictionary lacks are written by number, with the VR that an
independent DICOS toolkit writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import TYPE_CHECKING, Literal

import numpy as np

from scanloop.simulator.acquisition import Acquisition

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

FOR_PRESENTATION = "1.2.840.10008.5.1.4.1.1.501.2.1"
FOR_PROCESSING = "1.2.840.10008.5.1.4.1.1.501.2.2"
ENERGY_NAMES = {"high": "HIGH ENERGY", "low": "LOW ENERGY", "zeff": "Z_EFFECTIVE"}
"""Plane name to the value of ImageType that names it."""
Syntax = Literal["explicit", "rle", "jpeg-lossless"]
_DICOS_VERSION = "V03"
_META_DICOS_VERSION = 0x00020004
_COORDINATE_SYSTEM = 0x00082108
_IMAGE_ORIGIN = 0x00080118
_EFFECTIVE_ENERGY = 0x43000902
_IMPLEMENTATION_UID = "2.25.217134906712480021968417325580916301254"


def write_dicos(
    planes: Mapping[str, np.ndarray],
    acquisition: Acquisition,
    *,
    bits: int = 16,
    syntax: Syntax = "explicit",
    sop_class: str = FOR_PROCESSING,
) -> bytes:
    """One view as a DICOS file. `planes`: (H, W) uint16 each, of `bits` significant bits, written in the order given.

    Raises:
        KeyError: a plane has no name in DICOS.
        ValueError: planes differ in shape.
    """
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian, JPEGLosslessSV1, RLELossless

    energies = [ENERGY_NAMES[name] for name in planes]
    image = np.concatenate(list(planes.values()), axis=0) if len({pixels.shape for pixels in planes.values()}) == 1 else None
    if image is None:
        raise ValueError("Expected planes of one shape.")
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(sop_class)
    meta.MediaStorageSOPInstanceUID = UID(acquisition.uid("instance"))
    meta.TransferSyntaxUID = {"explicit": ExplicitVRLittleEndian, "rle": RLELossless, "jpeg-lossless": JPEGLosslessSV1}[syntax]
    meta.ImplementationClassUID = UID(_IMPLEMENTATION_UID)
    meta.add_new(_META_DICOS_VERSION, "CS", _DICOS_VERSION)
    target = BytesIO()
    dataset = FileDataset(target, {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.ImageType = ["ORIGINAL", "MULTI ENERGY", "PROJECTION", *energies] if len(energies) > 1 else ["ORIGINAL", *energies]
    dataset.PresentationIntentType = "FOR PROCESSING" if sop_class == FOR_PROCESSING else "FOR PRESENTATION"
    _describe_acquisition(dataset, acquisition)
    _describe_pixels(dataset, image, bits)
    if sop_class == FOR_PRESENTATION:
        dataset.WindowCenter, dataset.WindowWidth = str(1 << (bits - 1)), str(1 << bits)
    _put_pixels(dataset, image, bits, syntax)
    dataset.save_as(target, enforce_file_format=True)
    return target.getvalue()


def _describe_acquisition(dataset: Dataset, acquisition: Acquisition) -> None:
    """Modules of the standard: object of inspection, study, series, equipment, X-ray generation."""
    machine, scanner = acquisition.machine, acquisition.machine.scanner
    day, time = f"{acquisition.acquired_at:%Y%m%d}", f"{acquisition.acquired_at:%H%M%S.%f}"
    dataset.SpecificCharacterSet = "ISO_IR 192"
    for moment in ("InstanceCreation", "Study", "Series", "Acquisition", "Content"):
        setattr(dataset, f"{moment}Date", day)
        setattr(dataset, f"{moment}Time", time)
    dataset.AcquisitionDateTime = day + time
    dataset.TimezoneOffsetFromUTC = "+0000"
    dataset.Modality = "DX"
    dataset.Manufacturer, dataset.ManufacturerModelName = scanner.manufacturer, scanner.model
    dataset.DeviceSerialNumber, dataset.SoftwareVersions = machine.serial, scanner.software
    dataset.DateOfLastCalibration, dataset.TimeOfLastCalibration = (
        f"{acquisition.calibrated_at:%Y%m%d}",
        f"{acquisition.calibrated_at:%H%M%S}",
    )
    dataset.InstitutionName, dataset.InstitutionAddress, dataset.InstitutionalDepartmentName = machine.site, "", ""
    dataset.StationName = machine.serial
    dataset.SeriesDescription = acquisition.view_name
    dataset.add_new(_COORDINATE_SYSTEM, "CS", "LHS")
    dataset.add_new(_IMAGE_ORIGIN, "CS", "MACHINE")
    dataset.PatientID, dataset.IssuerOfPatientID, dataset.TypeOfPatientID = acquisition.bag_number, acquisition.issuer, "BARCODE"
    dataset.PatientSex = "U"
    dataset.KVP, dataset.XRayTubeCurrentInuA = "160", "900"
    dataset.DetectorType, dataset.TableSpeed = "SCINTILLATOR", 20.0
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = acquisition.uid("study"), acquisition.uid("series")
    dataset.StudyID, dataset.InstanceNumber = acquisition.bag_number, str(acquisition.view_number)
    dataset.ImagePositionPatient, dataset.ImageOrientationPatient = ["0", "0", "0"], ["1", "0", "0", "0", "1", "0"]
    dataset.AcquisitionContextSequence = []
    dataset.DICOSVersion, dataset.OOIType, dataset.AcquisitionStatus = _DICOS_VERSION, "BAGGAGE", "SUCCESSFUL"
    dataset.ScanType, dataset.BeltHeight = acquisition.scan_type, 0.0
    dataset.add_new(_EFFECTIVE_ENERGY, "FL", float(scanner.energies_kev[0]))


def _describe_pixels(dataset: Dataset, image: np.ndarray, bits: int) -> None:
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = image.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, bits, bits - 1, 0
    dataset.BurnedInAnnotation = "NO"
    dataset.PixelIntensityRelationship, dataset.PixelIntensityRelationshipSign = "LIN", 1
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = "0", "1", "US"
    dataset.LossyImageCompression = "00"
    dataset.PresentationLUTShape = "IDENTITY"


def _put_pixels(dataset: Dataset, image: np.ndarray, bits: int, syntax: Syntax) -> None:
    """PixelData, native or as one encapsulated fragment."""
    if syntax == "explicit":
        dataset.PixelData = np.ascontiguousarray(image, "<u2").tobytes()
        dataset["PixelData"].VR = "OW"
        return
    from pydicom.encaps import encapsulate

    if syntax == "rle":
        frame = _rle_frame(image)
    else:
        import imagecodecs

        frame = bytes(imagecodecs.ljpeg_encode(np.ascontiguousarray(image), bitspersample=bits))
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True


def _rle_frame(image: np.ndarray) -> bytes:
    """One RLE Lossless frame: the most significant bytes, then the others (PS3.5 annex G)."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.encaps import generate_frames
    from pydicom.uid import ExplicitVRLittleEndian, RLELossless

    carrier = Dataset()
    carrier.file_meta = FileMetaDataset()
    carrier.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    _describe_pixels(carrier, image, 16)
    carrier.SOPClassUID = FOR_PROCESSING
    carrier.SOPInstanceUID = "2.25.1"
    carrier.compress(RLELossless, np.ascontiguousarray(image, "<u2"), generate_instance_uid=False)
    return next(generate_frames(carrier.PixelData, number_of_frames=1))
