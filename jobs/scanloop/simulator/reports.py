"""Ground truth as a site reports it: one DICOS Threat Detection Report for a bag, about every view of it.

Each threat has a representation in each view that shows it: the file, the box as a polygon, and the pixels of its shadow as a region with a bitmap.
Nothing in a report depends on the clock. Only machines that write DICOS are reported about: the exports of the others have no UIDs.

Source: NEMA IIC 1 (DICOS), Threat Detection Report IOD; pydicom's dictionary for the tags of group 4010.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

from scanloop.scans.threat_report import pack_mask
from scanloop.simulator.acquisition import Acquisition
from scanloop.simulator.bags import Bag
from scanloop.simulator.detector import true_box
from scanloop.simulator.dicos import FOR_PROCESSING
from scanloop.simulator.projection import VISIBLE_ATTENUATION, attenuation

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

TDR_CLASS = "1.2.840.10008.5.1.4.1.1.501.3"
_IMPLEMENTATION_UID = "2.25.217134906712480021968417325580916301254"
_DICOS_VERSION = "V03"
Shadow = tuple[tuple[int, int, int, int], np.ndarray]
"""Box x, y, width, height in whole pixels of a plane, and the pixels within it (height, width) that show the threat, bool."""


def shadows(bag: Bag, acquisitions: Sequence[Acquisition]) -> Sequence[tuple[str, Mapping[int, Shadow]]]:
    """Category and, by number of the acquisition, shadow of each threat of a bag; by the rule that its true boxes follow."""
    found: list[tuple[str, dict[int, Shadow]]] = [(str(thing.category), {}) for thing in bag.threats]
    for number, acquisition in enumerate(acquisitions):
        scanner = acquisition.machine.scanner
        for thing, (category, shown) in zip(bag.threats, found, strict=True):
            of_threat = attenuation(thing.parts, scanner.views[number], scanner.energies_kev)[0]
            box = true_box(category, of_threat, of_threat)
            if box is not None:
                x, y, width, height = box.bbox_xywh
                shown[number] = (box.bbox_xywh, of_threat[y : y + height, x : x + width] > VISIBLE_ATTENUATION)
    return found


def write_ground_truth(bag: Bag, acquisitions: Sequence[Acquisition]) -> bytes:
    """The report about a bag whose views are `acquisitions`, explicit little endian."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.sequence import Sequence as Items
    from pydicom.uid import UID, ExplicitVRLittleEndian

    first = acquisitions[0]
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UID(TDR_CLASS), UID(first.uid("report"))
    meta.TransferSyntaxUID, meta.ImplementationClassUID = ExplicitVRLittleEndian, UID(_IMPLEMENTATION_UID)
    target = BytesIO()
    report = FileDataset(target, {}, file_meta=meta, preamble=b"\0" * 128)
    report.SOPClassUID, report.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    report.SpecificCharacterSet, report.Modality, report.DICOSVersion = "ISO_IR 192", "TDR", _DICOS_VERSION
    day, time = f"{first.acquired_at:%Y%m%d}", f"{first.acquired_at:%H%M%S.%f}"
    for moment in ("InstanceCreation", "Study", "Series", "Content"):
        setattr(report, f"{moment}Date", day)
        setattr(report, f"{moment}Time", time)
    report.Manufacturer, report.ManufacturerModelName = "Scanloop", "simulated ground truth"
    report.InstitutionName, report.StudyInstanceUID, report.SeriesInstanceUID = first.machine.site, first.uid("study"), first.uid("reports")
    report.PatientID, report.IssuerOfPatientID, report.TypeOfPatientID = first.bag_number, first.issuer, "BARCODE"
    report.OOIType, report.ScanType, report.AcquisitionStatus = "BAGGAGE", first.scan_type, "SUCCESSFUL"
    threats = shadows(bag, acquisitions)
    report.TDRType, report.AbortFlag = "GROUND TRUTH", "SUCCESS"
    report.AlarmDecision, report.AlarmDecisionTime = "ALARM" if threats else "CLEAR", f"{day}{time}+0000"
    report.NumberOfTotalObjects = report.NumberOfAlarmObjects = len(threats)
    report.ReferencedStudySequence = Items([_reference(acquisition) for acquisition in acquisitions])
    report.ThreatSequence = Items(
        [_threat(number, category, shown, acquisitions) for number, (category, shown) in enumerate(threats, start=1)]
    )
    report.save_as(target, enforce_file_format=True)
    return target.getvalue()


def _reference(acquisition: Acquisition) -> Dataset:
    from pydicom.dataset import Dataset

    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = FOR_PROCESSING, acquisition.uid("instance")
    return reference


def _threat(number: int, category: str, shown: Mapping[int, Shadow], acquisitions: Sequence[Acquisition]) -> Dataset:
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence as Items

    assessment = Dataset()
    assessment.ThreatCategory, assessment.ThreatCategoryDescription = "PI", category
    assessment.ATDAbilityAssessment, assessment.ATDAssessmentFlag, assessment.ATDAssessmentProbability = "NO_INTERFERENCE", "THREAT", 1.0
    threat = Dataset()
    threat.PotentialThreatObjectID = number
    threat.ATDAssessmentSequence = Items([assessment])
    threat.PTORepresentationSequence = Items([_place(acquisitions[view], *shadow) for view, shadow in sorted(shown.items())])
    return threat


def _place(acquisition: Acquisition, bbox_xywh: tuple[int, int, int, int], pixels: np.ndarray) -> Dataset:
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence as Items

    x, y, width, height = bbox_xywh
    region = Dataset()
    region.ThreatROIBase, region.ThreatROIExtents = [float(x), float(y), 0.0], [float(width), float(height), 1.0]
    packed = pack_mask(pixels[None])
    region.ThreatROIBitmap = packed + b"\0" * (len(packed) % 2)
    place = Dataset()
    place.ReferencedInstanceSequence = Items([_reference(acquisition)])
    place.ThreatROIVoxelSequence = Items([region])
    corners = ((x, y), (x + width, y), (x + width, y + height), (x, y + height))
    place.BoundingPolygon = [float(number) for column, row in corners for number in (column, row, 0)]
    return place
