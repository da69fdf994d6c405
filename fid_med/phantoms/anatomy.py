"""Anatomy of one phantom: patient variation, fracture sites and implants.

Lengths are in centimetres, x to the right and y down, with the centre of the body part near the
origin. The sizes are rounded values of an adult; no shape is traced from a patient.
"""

import math
from typing import NamedTuple

import numpy as np

from fid_med.phantoms.solids import (
    TITANIUM,
    Block,
    Capsule,
    Ellipsoid,
    Plate,
    chain,
    curve,
    metal,
)


class Break(NamedTuple):
    """A site where a bone may break.

    Attributes:
      bone: name of the tissue.
      x, y: point on the bone's axis, cm.
      angle: direction of the axis, radians.
      width: width of the bone at this point, cm, which scales the fracture.
    """

    bone: str
    x: float
    y: float
    angle: float
    width: float


class Anatomy(NamedTuple):
    """One patient.

    Attributes:
      tissues: `Tissue` by name.
      breaks: tuples of `Break` that occur together.
      implants: possible implants, one `Tissue` each.
    """

    tissues: dict
    breaks: list
    implants: list


class Build:
    """Build of one patient: width and cortex of the bones, amount of flesh, other variation."""

    def __init__(self, rng):
        self.rng = rng
        self.bone = self.about(1.0, 0.05)
        self.cortex = self.about(1.0, 0.18)
        self.flesh = self.about(1.0, 0.07)

    def about(self, value, spread):
        """Draws from a normal distribution, truncated at two standard deviations (`spread`)."""
        return value + spread * float(np.clip(self.rng.normal(), -2.0, 2.0))

    def shaft(self, rows, steps=3):
        """A bone's shaft through rows of (x, y, radius, cortex), scaled to this patient."""
        return chain(np.asarray(rows) * [1.0, 1.0, self.bone, self.cortex], steps)

    def limb(self, rows, fat=0.35):
        """Flesh through rows of (x, y, radius) under a layer of `fat` cm, scaled to the patient."""
        rows = np.asarray(rows, float) * [1.0, 1.0, self.flesh]
        return chain(np.column_stack([rows, np.full(len(rows), fat * self.flesh**3)]))


def placed(rows, origin, angle):
    """Rotates rows (x, y, ...) by `angle` (radians) and moves them to `origin`."""
    rows = np.array(rows, float)
    cos, sin = math.cos(angle), math.sin(angle)
    x, y = rows[:, 0].copy(), rows[:, 1].copy()
    rows[:, 0], rows[:, 1] = origin[0] + cos * x - sin * y, origin[1] + sin * x + cos * y
    return rows


def moved(solid, by):
    """Moves a solid by (x, y)."""
    x, y = by
    if isinstance(solid, Capsule):
        return solid._replace(ax=solid.ax + x, ay=solid.ay + y, bx=solid.bx + x, by=solid.by + y)
    if isinstance(solid, Plate):
        return solid._replace(points=solid.points + np.array([x, y]))
    return solid._replace(x=solid.x + x, y=solid.y + y)


def mirrored(solid):
    """Reflects a solid at x = 0."""
    if isinstance(solid, Capsule):
        return solid._replace(ax=-solid.ax, bx=-solid.bx)
    if isinstance(solid, Plate):
        return solid._replace(points=solid.points * [-1.0, 1.0])
    return solid._replace(x=-solid.x, angle=-solid.angle)


def plate_and_screws(start, end, side, width=0.36, screw=1.6, screws=6):
    """A plate seen edge-on from start to end, with screws towards `side` (+1 or -1)."""
    (ax, ay), (bx, by) = start, end
    length = math.hypot(bx - ax, by - ay)
    along = np.array([bx - ax, by - ay]) / length
    across = np.array([-along[1], along[0]]) * side
    solids = [
        Block((ax + bx) / 2, (ay + by) / 2, length / 2, width / 2, 0.9, width / 2,
              math.atan2(along[1], along[0]))
    ]  # fmt: skip
    for share in (np.arange(screws) + 0.5) / screws:
        head = np.array(start) + along * length * share
        tip = head + across * screw
        solids.append(Capsule(*head, *tip, width * 0.42, width * 0.34))
        solids.append(Ellipsoid(*(head - 0.3 * width * across), width * 0.8, width * 0.5, 0.3,
                                math.atan2(along[1], along[0])))  # fmt: skip
    return metal(solids)


def plate_face_on(rows, width, holes):
    """A plate seen face-on along `rows` of (x, y), with `holes` screw heads."""
    path = curve(np.asarray(rows, float), 8)
    steps = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(path, axis=0).T))])
    at = np.linspace(0, steps[-1], holes)
    heads = np.column_stack([np.interp(at, steps, path[:, i]) for i in (0, 1)])
    solids = chain(np.column_stack([heads, np.full(holes, width * 0.36)]))
    solids += [Ellipsoid(x, y, width / 2, width / 2, width * 0.45) for x, y in heads]
    return metal(solids, TITANIUM)


def nail(rows, radius):
    """A rod or wire of this radius along `rows` of (x, y)."""
    rows = np.asarray(rows, float)
    return metal(chain(np.column_stack([rows, np.full(len(rows), radius)])))
