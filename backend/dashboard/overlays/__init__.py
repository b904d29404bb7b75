"""Answers and predictions over their images, by the name that a problem has as ``overlay``."""

from backend.dashboard.overlays.base import Overlay
from backend.dashboard.overlays.boxes import BoxOverlay
from backend.dashboard.overlays.masks import MaskOverlay

OVERLAYS: dict[str, Overlay] = {"boxes": BoxOverlay(), "masks": MaskOverlay()}
