"""The two views of a line scanner: where the source is, where each pixel looks.

World frame, cm: x along the belt, y across it, z up; the origin is the middle of the tunnel, where the bag's middle passes. A view has its source
in the plane x = 0, so belt travel makes columns (parallel) and the detector line makes rows (a fan, magnified away from the source).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class ViewGeometry:
    """One source and its detector line."""

    name: str
    """Name of the view: top or side."""
    angle_deg: float
    """Direction of the central ray, from up (0) towards +y (90)."""
    source_cm: float
    """Distance from the source to the middle of the tunnel."""
    detector_cm: float
    """Distance from the source to the detector line."""
    rows_px: int
    """Detector elements."""
    columns_px: int
    """Belt positions."""
    detector_pitch_cm: float
    """Spacing of detector elements."""
    belt_pitch_cm: float
    """Belt travel between two lines; together with the magnified detector pitch it gives the picture's aspect."""

    @property
    def magnification(self) -> float:
        """How much larger the middle of the tunnel appears on the detector."""
        return self.detector_cm / self.source_cm

    @cached_property
    def central(self) -> np.ndarray:
        """(3,) unit vector of the central ray."""
        angle = np.deg2rad(self.angle_deg)
        return np.array([0.0, np.sin(angle), np.cos(angle)])

    @cached_property
    def along_detector(self) -> np.ndarray:
        """(3,) unit vector of growing rows."""
        angle = np.deg2rad(self.angle_deg)
        return np.array([0.0, np.cos(angle), -np.sin(angle)])

    @cached_property
    def source(self) -> np.ndarray:
        """(3,) the source, cm, for the column x = 0."""
        return -self.central * self.source_cm

    @cached_property
    def origins(self) -> np.ndarray:
        """(C, 3) where the rays of each column start, cm."""
        x = (np.arange(self.columns_px) - (self.columns_px - 1) / 2) * self.belt_pitch_cm
        return np.stack([x, np.full_like(x, self.source[1]), np.full_like(x, self.source[2])], axis=1)

    @cached_property
    def directions(self) -> np.ndarray:
        """(R, 3) unit directions of the rays of each row."""
        offset = (np.arange(self.rows_px) - (self.rows_px - 1) / 2) * self.detector_pitch_cm
        rays = self.central * self.detector_cm + offset[:, None] * self.along_detector
        return rays / np.linalg.norm(rays, axis=1, keepdims=True)

    def project(self, points: np.ndarray) -> np.ndarray:
        """Pixel coordinates (N, 2) as (column, row) of world points (N, 3), cm; pixel centres are whole numbers."""
        away = points - self.source
        depth = away @ self.central
        on_detector = self.detector_cm * (away @ self.along_detector) / depth
        column = points[:, 0] / self.belt_pitch_cm + (self.columns_px - 1) / 2
        return np.stack([column, on_detector / self.detector_pitch_cm + (self.rows_px - 1) / 2], axis=1)
