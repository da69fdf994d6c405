"""What the phantom's body parts share: a patient's measures, places to break, implants.

Lengths are in centimetres, x to the right and y down, the middle of the body part near the origin.
The sizes are those of an adult, rounded; nothing here is traced from a patient.
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
    """A place where a bone may break: its name, the point on its axis, the axis' direction.

    width: across the bone there, cm, which sets the size of the gap's teeth and of the slip.
    """

    bone: str
    x: float
    y: float
    angle: float
    width: float


class Anatomy(NamedTuple):
    """One patient: the tissues by name, what may break, and what may be implanted.

    breaks: tuples of `Break` that happen together; implants: one `Tissue` each.
    """

    tissues: dict
    breaks: list
    implants: list


class Build:
    """How one patient differs from the next: bones' width and cortex, flesh, and free variation."""

    def __init__(self, rng):
        self.rng = rng
        self.bone = self.about(1.0, 0.05)
        self.cortex = self.about(1.0, 0.18)
        self.flesh = self.about(1.0, 0.07)

    def about(self, value, spread):
        """A value near `value`: normal with the deviation `spread`, cut at two deviations."""
        return value + spread * float(np.clip(self.rng.normal(), -2.0, 2.0))

    def shaft(self, rows, steps=3):
        """A bone's shaft through rows of (x, y, radius, cortex), in this patient's measures."""
        return chain(np.asarray(rows) * [1.0, 1.0, self.bone, self.cortex], steps)

    def limb(self, rows, fat=0.35):
        """Flesh through rows of (x, y, radius), under the skin's `fat`."""
        rows = np.asarray(rows, float) * [1.0, 1.0, self.flesh]
        return chain(np.column_stack([rows, np.full(len(rows), fat * self.flesh**3)]))


def placed(rows, origin, angle):
    """Rows (x, y, ...) of a bone's own frame, turned by `angle` and moved to `origin`."""
    rows = np.array(rows, float)
    cos, sin = math.cos(angle), math.sin(angle)
    x, y = rows[:, 0].copy(), rows[:, 1].copy()
    rows[:, 0], rows[:, 1] = origin[0] + cos * x - sin * y, origin[1] + sin * x + cos * y
    return rows


def moved(solid, by):
    """The solid, moved by (x, y)."""
    x, y = by
    if isinstance(solid, Capsule):
        return solid._replace(ax=solid.ax + x, ay=solid.ay + y, bx=solid.bx + x, by=solid.by + y)
    if isinstance(solid, Plate):
        return solid._replace(points=solid.points + np.array([x, y]))
    return solid._replace(x=solid.x + x, y=solid.y + y)


def mirrored(solid):
    """The solid seen in a mirror at x = 0."""
    if isinstance(solid, Capsule):
        return solid._replace(ax=-solid.ax, bx=-solid.bx)
    if isinstance(solid, Plate):
        return solid._replace(points=solid.points * [-1.0, 1.0])
    return solid._replace(x=-solid.x, angle=-solid.angle)


def plate_and_screws(start, end, side, width=0.36, screw=1.6, screws=6):
    """A plate seen on its edge from start to end, with screws into the bone at `side` (+1, -1)."""
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
    """A plate along `rows` of (x, y) seen face on: rounded links between the heads of screws."""
    path = curve(np.asarray(rows, float), 8)
    steps = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(path, axis=0).T))])
    at = np.linspace(0, steps[-1], holes)
    heads = np.column_stack([np.interp(at, steps, path[:, i]) for i in (0, 1)])
    solids = chain(np.column_stack([heads, np.full(holes, width * 0.36)]))
    solids += [Ellipsoid(x, y, width / 2, width / 2, width * 0.45) for x, y in heads]
    return metal(solids, TITANIUM)


def nail(rows, radius):
    """A rod or wire along `rows` of (x, y)."""
    rows = np.asarray(rows, float)
    return metal(chain(np.column_stack([rows, np.full(len(rows), radius)])))
