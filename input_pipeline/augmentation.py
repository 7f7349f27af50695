"""How far training images are distorted, as the flags say it; `augment.py` does it."""

from __future__ import annotations

from dataclasses import dataclass, fields

from data_prep.command_line import UserError

_LIMITS = {"shift": 0.5, "rotation": 180.0, "zoom": 0.9, "shear": 60.0, "elastic": 100.0}


@dataclass(frozen=True)
class Augmentation:
    """How far images are distorted; each value is the largest, drawn uniformly per image.

    Attributes:
      shift: share of the side, in both directions: 0.1 moves a 28-pixel image by up to 2.8.
      rotation: degrees, both ways.
      zoom: share: 0.15 scales by 0.85 to 1.15.
      shear: degrees of slant, both ways.
      elastic: Simard's alpha, in pixels: the displacement field, drawn uniformly from -1 to 1 and
        smoothed by a Gaussian of 4 pixels, is multiplied by it.
    """

    shift: float = 0.0
    rotation: float = 0.0
    zoom: float = 0.0
    shear: float = 0.0
    elastic: float = 0.0

    def __post_init__(self) -> None:
        """Checks the ranges."""
        for field in fields(self):
            value, limit = getattr(self, field.name), _LIMITS[field.name]
            if not 0.0 <= value <= limit:
                raise UserError(f"--{field.name}={value}: expected a number from 0 to {limit}")

    def __bool__(self) -> bool:
        """Tells whether anything is distorted at all."""
        return any(getattr(self, field.name) > 0.0 for field in fields(self))
