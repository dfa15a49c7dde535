"""DICOM and DICOS files as scans: X-ray views, CT volumes and secondary captures.

X-ray: one file is one view. Its energies are either the file's only plane, named by ImageType (0008,0008), or, where ImageType value 2 is MULTI
ENERGY, bands of equal height stacked in the rows, named from top to bottom by values 4 and on. A file with several frames keeps one energy a frame,
named the same way, by the frame's own functional group, or by its number. PixelIntensityRelationshipSign (0028,1041) -1 says that air is dark; such
numbers are turned round, so that bright is air. A PixelIntensityRelationship (0028,1040) other than LIN is noted and changes no number.

A Threat Detection Report has no pixels; `dicom_report` reads it.

CT: one file is one section of a scan, a volume for each energy that its frames have.

Source: NEMA IIC 1 (DICOS); DICOM PS3.3 C.7.6.3, C.8.11.3, C.8.15.3.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from scanloop.scans.content import MAX_TEXT, PlaneScale, ScanContent
from scanloop.scans.dicom_elements import Elements, is_code
from scanloop.scans.dicom_metadata import Facts, read_metadata
from scanloop.scans.dicom_pixels import Layout, read_layout, read_numbers
from scanloop.scans.dicom_report import TDR_CLASS, read_report
from scanloop.scans.dicom_structure import is_dicom, read_structure
from scanloop.scans.dicom_volume import Stack, frame_facts, stack_frames, stack_scale
from scanloop.scans.errors import ScanRefused
from scanloop.scans.threat_report import Content

__all__ = ["is_dicom", "read_dicom"]

_DICOS, _DICOM = "1.2.840.10008.5.1.4.1.1.501", "1.2.840.10008.5.1.4.1.1"
DICOS_CT = f"{_DICOS}.1"
DICOS_CLASSES = frozenset({DICOS_CT, f"{_DICOS}.2.1", f"{_DICOS}.2.2"})
"""DICOS CT, and DICOS X-ray for presentation and for processing."""
CT_CLASSES = frozenset({DICOS_CT, f"{_DICOM}.2", f"{_DICOM}.2.1", f"{_DICOM}.2.2"})
"""DICOS CT; CT, enhanced CT and legacy converted enhanced CT of DICOM."""
CAPTURE_CLASSES = frozenset({f"{_DICOM}.7", f"{_DICOM}.7.2", f"{_DICOM}.7.3", f"{_DICOM}.7.4"})
"""Secondary capture: of one frame, and of several in grey bytes, grey words and colours."""
XRAY_CLASSES = frozenset({f"{_DICOM}.1", f"{_DICOM}.1.1", f"{_DICOM}.1.1.1", f"{_DICOM}.12.1", f"{_DICOM}.12.2"})
"""Computed and digital radiography, angiography and radiofluoroscopy, which some scanners label their files with."""
_KINDS = DICOS_CLASSES | CT_CLASSES | CAPTURE_CLASSES | XRAY_CLASSES
_XRAY_MODALITIES = frozenset({"DX", "CR", "RG", "RF", "XA", "PX", "XRAY"})
ENERGIES = {
    "HIGH ENERGY": "high",
    "HIGH_ENERGY": "high",
    "LOW ENERGY": "low",
    "LOW_ENERGY": "low",
    "Z_EFFECTIVE": "zeff",
    "COMPTON": "compton",
    "PHOTOELECTRIC": "photoelectric",
    "DENSITY": "density",
    "MU": "mu",
}
"""Value of ImageType to plane name."""
_UNNAMED = frozenset({"", "PRIMARY", "SECONDARY", "AXIAL", "INTENSITY"})
_MULTI = frozenset({"MULTI ENERGY", "MULTI_ENERGY"})


def read_dicom(content: bytes) -> Content:
    """Read a DICOM or DICOS file.

    Raises:
        ScanRefused: it is incomplete, contradictory, too large, or neither an X-ray scan nor a report.
    """
    structure = read_structure(content)
    elements = Elements(structure)
    sop_class = elements.text("SOPClassUID")
    if sop_class == TDR_CLASS:
        return read_report(elements)
    if sop_class not in _KINDS:
        raise ScanRefused(
            "unsupported_kind", "Expected an X-ray or CT image of DICOS or DICOM, or a DICOS report; the SOP class is another."
        )
    is_ct = sop_class in CT_CLASSES
    layout = read_layout(structure, elements, is_volume=is_ct)
    numbers = read_numbers(structure, layout)
    source_format = "dicos" if sop_class in DICOS_CLASSES else "dicom"
    if is_ct:
        return _ct(elements, structure.transfer_syntax, layout, numbers, source_format, is_section=sop_class == DICOS_CT)
    planes, scales = _views(elements, layout, numbers)
    modality = "OT" if sop_class in CAPTURE_CLASSES and elements.text("Modality") not in _XRAY_MODALITIES else "DX"
    view, facts = elements.text("SeriesDescription"), _facts(elements, layout)
    if layout.count == layout.frame.samples == 1 < len(planes):
        facts["stacked_planes"] = len(planes)  # reports count rows through all of them
    about = read_metadata(elements, structure.transfer_syntax, modality=modality, view=view, facts=facts)
    return ScanContent(planes, dict.fromkeys(planes, layout.bits), about, source_format, scales)


def _facts(elements: Elements, layout: Layout) -> Facts:
    """What a user of the numbers should know beyond their scale."""
    facts: Facts = {}
    relationship = elements.text("PixelIntensityRelationship")
    if relationship != "LIN" and is_code(relationship):
        facts["intensity_relationship"] = relationship
    if layout.frame.is_signed and _has_dark_air(elements):
        facts["intensity_sign"] = -1
    if layout.frame.is_signed or layout.frame.stored > layout.bits:
        facts["bits_stored"] = layout.frame.stored
    return facts


def _has_dark_air(elements: Elements) -> bool:
    return elements.integer("PixelIntensityRelationshipSign", 1) in (-1, 0xFFFF)


def _views(elements: Elements, layout: Layout, numbers: np.ndarray) -> tuple[dict[str, np.ndarray], Mapping[str, PlaneScale]]:
    """The planes (H, W) of an X-ray view, and the scales of those that have one."""
    planes = _grey_planes(elements, numbers) if layout.frame.samples == 1 else _colour_planes(numbers, layout.sample_names)
    is_signed = layout.frame.is_signed
    is_inverted = _has_dark_air(elements) and not is_signed
    if is_inverted:
        full = np.uint16((1 << layout.bits) - 1)
        planes = {name: full - pixels for name, pixels in planes.items()}
    slope, intercept = (
        (elements.numbers(keyword) or [default])[0] for keyword, default in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0))
    )
    if not (is_signed or is_inverted) and (slope, intercept) == (1.0, 0.0):
        return planes, {}
    scale = PlaneScale(slope, intercept, elements.unit_of(elements.raw("RescaleType")), is_signed=is_signed, is_inverted=is_inverted)
    return planes, dict.fromkeys(planes, scale)


def _grey_planes(elements: Elements, numbers: np.ndarray) -> dict[str, np.ndarray]:
    kind = elements.values("ImageType")
    count, rows = numbers.shape[:2]
    is_stacked = len(kind) > 1 and kind[1] in _MULTI
    bands = kind[3:] if is_stacked else [value for value in kind[1:] if value in ENERGIES][:1] or ["HIGH ENERGY"]
    names = [ENERGIES.get(band, "") for band in bands]
    is_named = bool(names) and "" not in names and len(set(names)) == len(names)
    if is_named and count == len(names):
        return dict(zip(names, numbers, strict=True))
    if count > 1:
        return dict(zip(_frame_names(elements, count), numbers, strict=True))
    if not is_named:
        raise ScanRefused("unsupported_pixels", "ImageType says MULTI ENERGY and does not name the energies it holds.")
    if rows % len(names):
        raise ScanRefused("malformed", f"A frame of {rows} rows cannot hold {len(names)} energies.")
    return dict(zip(names, np.split(numbers[0], len(names)), strict=True))


def _frame_names(elements: Elements, count: int) -> list[str]:
    """Names of frames: their energies where each says its own, otherwise numbers from 1."""
    named = [_energy(kind) for kind in frame_facts(elements, count).types]
    return named if "" not in named and len(set(named)) == count else [f"frame_{index + 1}" for index in range(count)]


def _colour_planes(numbers: np.ndarray, samples: tuple[str, ...]) -> dict[str, np.ndarray]:
    return {
        name if len(numbers) == 1 else f"frame_{index + 1}_{name}": frame[..., at]
        for index, frame in enumerate(numbers)
        for at, name in enumerate(samples)
    }


def _energy(kind: tuple[str, ...]) -> str:
    """The plane name of a frame type or image type; empty if value 2 names no energy."""
    value = kind[1] if len(kind) > 1 else ""
    if value in ENERGIES:
        return ENERGIES[value]
    name = re.sub(r"[^a-z0-9]+", "_", value.lower()).strip("_")[:32]
    return name if value not in _UNNAMED and is_code(value) and re.match(r"[a-z]", name) else ""


def _ct(elements: Elements, syntax: str, layout: Layout, numbers: np.ndarray, source_format: str, *, is_section: bool) -> ScanContent:
    """The volumes (D, H, W) of a CT file: one for each energy."""
    if layout.frame.samples != 1:
        raise ScanRefused("unsupported_pixels", "Expected a CT volume of one sample a voxel.")
    facts = frame_facts(elements, layout.count)
    members: dict[str, list[int]] = {}
    for index, kind in enumerate(facts.types):
        members.setdefault(_energy(kind) or "ct", []).append(index)
    if len({len(frames) for frames in members.values()}) != 1:
        raise ScanRefused("malformed", f"Energies have different numbers of slices: {[len(frames) for frames in members.values()]}.")
    stacks = {name: stack_frames(facts, frames) for name, frames in members.items()}
    first = next(iter(stacks.values()))
    spacing = facts.spacing_mm and first.step_mm and (first.step_mm, *facts.spacing_mm)
    planes = {
        name: numbers[stack.frames[0] : stack.frames[-1] + 1] if stack.is_as_stored else numbers[list(stack.frames)]
        for name, stack in stacks.items()
    }
    is_signed = layout.frame.is_signed
    about = read_metadata(
        elements,
        syntax,
        modality="CT",
        view=_section(elements, first, is_section=is_section),
        facts=_facts(elements, layout)
        | dict(first.notes)
        | ({} if all(stack.is_as_stored for stack in stacks.values()) else {"frame_order": "reordered"}),
    )
    scales = {name: stack_scale(facts, stack.frames, is_signed=is_signed) for name, stack in stacks.items()}
    return ScanContent(planes, dict.fromkeys(planes, layout.bits), about, source_format, scales, spacing or None)


def _section(elements: Elements, stack: Stack, *, is_section: bool) -> str:
    """Which part of a scan a CT file is: its number where it says one, otherwise where its first slice lies, for toolkits give every section of
    a scan the same UIDs and numbers.
    """
    part = ""
    number, total = elements.integer("InConcatenationNumber", 0), elements.integer("InConcatenationTotalNumber", 0)
    if number > 0:
        part = f"section {number} of {total}" if total >= number else f"section {number}"
    elif is_section and (place := stack.notes.get("position_mm")):
        part = f"section at {str(place).replace(chr(92), ' ')} mm"
    elif not is_section and len(stack.frames) == 1 and (instance := elements.integer("InstanceNumber", 0)) > 0:
        part = f"slice {instance}"
    description = elements.text("SeriesDescription")[: MAX_TEXT - len(part) - 2].rstrip()
    return ", ".join(filter(None, (description, part)))
