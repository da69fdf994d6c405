"""Solids in a parallel X-ray beam: what length of each the ray through a pixel crosses.

Everything lies in centimetres on the image plane, x to the right and y down; the beam runs along
the third axis. A solid answers with two chords, float32: through its whole, and through its core,
the part that lies deeper than `shell` under the surface. Whole minus core is the shell (the
cortex of a bone, the fat under the skin).
"""

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np

# Linear attenuation coefficients (1/cm) at 60 keV, near the mean energy of a radiographic beam:
# the mass coefficient (cm^2/g) times the density (g/cm^3), both from Hubbell and Seltzer, "Tables
# of X-Ray Mass Attenuation Coefficients", NISTIR 5632, tables 1 to 4 (ICRU-44 tissues).
MUSCLE = 0.2048 * 1.05
FAT = 0.1974 * 0.95
CORTEX = 0.3148 * 1.92
AIR = 0.1875 * 0.0012
LUNG = 0.2053 * 0.26  # the density of an inflated lung
STEEL = 1.205 * 7.87  # as iron
TITANIUM = 0.7661 * 4.54
LEAD = 5.021 * 11.35
# Spongy bone: a lattice of bone in marrow, which attenuates about as fat does.
SPONGY = 0.20 * CORTEX + 0.80 * FAT
DENTINE = CORTEX * 1.15


def _chord(squared):
    """Chord 2 sqrt(h) of a solid whose squared half depth is h; no chord where h < 0."""
    return 2.0 * np.sqrt(np.maximum(squared, 0.0))


class Capsule(NamedTuple):
    """A shaft whose radius changes linearly from end to end, closed by half spheres.

    Between the ends its cross sections are circles about the axis, so the chord is exactly
    2 sqrt(r(t)^2 - d^2) for a ray at the distance d from the axis.
    """

    ax: float
    ay: float
    bx: float
    by: float
    ra: float
    rb: float
    shell_a: float = 0.0
    shell_b: float = 0.0

    def box(self):
        """Bounds (x0, y0, x1, y1), cm."""
        (ax, ay, bx, by, ra, rb) = self[:6]
        return (
            min(ax - ra, bx - rb),
            min(ay - ra, by - rb),
            max(ax + ra, bx + rb),
            max(ay + ra, by + rb),
        )

    def chords(self, x, y):
        """Chords (whole, core) in cm at the points x, y (float32, any shape)."""
        dx, dy = self.bx - self.ax, self.by - self.ay
        px, py = x - self.ax, y - self.ay
        t = (px * dx + py * dy) / max(dx * dx + dy * dy, 1e-12)
        t = np.clip(t, 0.0, 1.0)
        off_axis = np.square(px - t * dx) + np.square(py - t * dy)
        radius = self.ra + t * (self.rb - self.ra)
        whole = _chord(np.square(radius) - off_axis)
        if self.shell_a == 0.0 and self.shell_b == 0.0:
            return whole, whole
        radius = np.maximum(radius - (self.shell_a + t * (self.shell_b - self.shell_a)), 0.0)
        return whole, _chord(np.square(radius) - off_axis)


class Ellipsoid(NamedTuple):
    """Half axes a, b on the image plane, a turned by `angle` (radians), and c along the beam."""

    x: float
    y: float
    a: float
    b: float
    c: float
    angle: float = 0.0
    shell: float = 0.0

    def box(self):
        """Bounds (x0, y0, x1, y1), cm."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        wide = math.hypot(self.a * cos, self.b * sin)
        high = math.hypot(self.a * sin, self.b * cos)
        return self.x - wide, self.y - high, self.x + wide, self.y + high

    def chords(self, x, y):
        """Chords (whole, core) in cm at the points x, y (float32, any shape)."""
        u, v = _turned(x - self.x, y - self.y, self.angle)
        u, v = np.square(u), np.square(v)
        whole = self.c * _chord(1.0 - u / self.a**2 - v / self.b**2)
        if self.shell == 0.0:
            return whole, whole
        a, b, c = (max(axis - self.shell, 1e-3) for axis in (self.a, self.b, self.c))
        return whole, c * _chord(1.0 - u / a**2 - v / b**2)


class Block(NamedTuple):
    """A box of half sides a, b and thickness `depth` along the beam, its edges rounded off."""

    x: float
    y: float
    a: float
    b: float
    depth: float
    edge: float
    angle: float = 0.0
    shell: float = 0.0

    def box(self):
        """Bounds (x0, y0, x1, y1), cm."""
        cos, sin = abs(math.cos(self.angle)), abs(math.sin(self.angle))
        wide, high = self.a * cos + self.b * sin, self.a * sin + self.b * cos
        return self.x - wide, self.y - high, self.x + wide, self.y + high

    def chords(self, x, y):
        """Chords (whole, core) in cm at the points x, y (float32, any shape)."""
        u, v = _turned(x - self.x, y - self.y, self.angle)
        edge = min(self.edge, self.a, self.b)
        u, v = np.abs(u) - (self.a - edge), np.abs(v) - (self.b - edge)
        outside = np.hypot(np.maximum(u, 0.0), np.maximum(v, 0.0))
        inside = edge - outside - np.minimum(np.maximum(u, v), 0.0)
        return _slab(inside, self.depth, edge, self.shell)


class Plate(NamedTuple):
    """A slab with the outline `points` [n, 2] and thickness `depth`, its edge rounded off.

    The thickness grows over the first `edge` cm from the outline like a quarter circle's.
    """

    points: np.ndarray
    depth: float
    edge: float
    shell: float = 0.0

    def box(self):
        """Bounds (x0, y0, x1, y1), cm."""
        return (*np.min(self.points, axis=0).tolist(), *np.max(self.points, axis=0).tolist())

    def chords(self, x, y):
        """Chords (whole, core) in cm at the points x, y (float32, any shape)."""
        return _slab(depth_in_polygon(self.points, x, y), self.depth, self.edge, self.shell)


def _turned(x, y, angle):
    """Coordinates of x, y along axes turned by `angle`."""
    if angle == 0.0:
        return x, y
    cos, sin = math.cos(angle), math.sin(angle)
    return cos * x + sin * y, cos * y - sin * x


def _slab(inside, depth, edge, shell):
    """Chords of a slab with rounded edges, from the depth `inside` its outline (cm, > 0 inside)."""

    def profile(inside, depth, edge):
        short = 1.0 - np.clip(inside / edge, 0.0, 1.0)
        return depth * np.sqrt(1.0 - np.square(short))

    whole = profile(inside, depth, edge)
    if shell == 0.0:
        return whole, whole
    return whole, profile(inside - shell, max(depth - 2 * shell, 0.0), max(edge - shell, 1e-3))


def depth_in_polygon(points, x, y):
    """Distance (cm) from x, y to the polygon's outline: positive inside, negative outside."""
    nearest = np.full(x.shape, np.inf, np.float32)
    inside = np.zeros(x.shape, bool)
    corners = [(float(px), float(py)) for px, py in points]
    for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
        dx, dy = bx - ax, by - ay
        px, py = x - ax, y - ay
        t = np.clip((px * dx + py * dy) / max(dx * dx + dy * dy, 1e-12), 0.0, 1.0)
        np.minimum(nearest, np.square(px - t * dx) + np.square(py - t * dy), out=nearest)
        if dy != 0.0:  # Even-odd rule: does the ray to the right of the point cross this edge?
            inside ^= ((y < ay) != (y < by)) & (px < py * (dx / dy))
    distance = np.sqrt(nearest)
    return np.where(inside, distance, -distance)


def curve(knots, steps=4, closed=False):
    """Catmull-Rom spline through `knots` [n, k], `steps` points for each stretch between two."""
    knots = np.asarray(knots, float)
    if closed:
        padded = np.concatenate([knots[-1:], knots, knots[:2]])
    else:
        padded = np.concatenate([[2 * knots[0] - knots[1]], knots, [2 * knots[-1] - knots[-2]]])
    t = np.arange(steps)[:, None] / steps
    stretches = []
    for before, start, end, after in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        stretches.append(
            start
            + 0.5 * t * (end - before)
            + t**2 * (before - 2.5 * start + 2 * end - 0.5 * after)
            + t**3 * (1.5 * (start - end) + 0.5 * (after - before))
        )
    if not closed:
        stretches.append(knots[-1:])
    return np.concatenate(stretches)


def chain(rows, steps=0):
    """Capsules through `rows` of (x, y, radius) or (x, y, radius, shell); smoothed if `steps`."""
    rows = curve(rows, steps) if steps else np.asarray(rows, float)
    if rows.shape[1] == 3:
        rows = np.pad(rows, ((0, 0), (0, 1)))
    # A spline may overshoot between a thick and a thin knot, but no radius may turn negative.
    rows[:, 2:] = np.maximum(rows[:, 2:], 0.0)
    rows = rows.tolist()
    return [Capsule(a[0], a[1], b[0], b[1], a[2], b[2], a[3], b[3]) for a, b in pairwise(rows)]


class Fracture(NamedTuple):
    """A jagged gap across a bone at (x, y), and the slip of the far fragment.

    `angle` is the direction of the bone's axis (radians); `gap` and `slip` in cm; `slope` tilts
    the line from square across the bone; the slip fades to nothing `reach` cm beyond the line,
    so that the next joint stays in place; `teeth` are the line's deviations, `tooth` cm apart.
    """

    x: float
    y: float
    angle: float
    gap: float
    slip: float
    slope: float
    reach: float
    teeth: np.ndarray
    tooth: float

    def break_bone(self, x, y):
        """Where to look for the bone seen at x, y, and what share (0..1) of it is there."""
        along, across = _turned(x - self.x, y - self.y, self.angle)
        middle = (len(self.teeth) - 1) / 2
        jag = np.interp(across / self.tooth + middle, np.arange(len(self.teeth)), self.teeth)
        line = along - self.slope * across - jag.astype(np.float32)
        fade = np.square(np.clip(1.0 - line / self.reach, 0.0, 1.0))
        slip = np.where(line > 0, self.slip * fade, np.float32(0.0))
        moved_x = x + slip * math.sin(self.angle)
        moved_y = y - slip * math.cos(self.angle)
        near = np.abs(along) < self.reach  # The line's prolongation far away breaks nothing.
        present = np.clip(np.abs(line) / (0.5 * self.gap) - 0.5, 0.0, 1.0)
        return moved_x, moved_y, np.where(near, present, np.float32(1.0))


class Tissue(NamedTuple):
    """Solids that form one body: their union, not their sum, of `shell` around `core`.

    shell, core, inside: linear attenuation coefficients (1/cm) of the shell, of the core and of
    what the body takes the place of. grain: relative contrast of the core's texture. holes:
    solids taken out of the body, such as the heart out of the lungs.
    """

    solids: list
    shell: float
    core: float
    inside: float = MUSCLE
    grain: float = 0.0
    fracture: Fracture | None = None
    holes: tuple = ()


def bone(solids, grain=0.3):
    """Cortical shell around spongy bone and marrow, in muscle."""
    return Tissue(list(solids), CORTEX, SPONGY, MUSCLE, grain)


def flesh(solids):
    """Fat around muscle, in air."""
    return Tissue(list(solids), FAT, MUSCLE, 0.0)


def hollow(solids, filling=AIR):
    """A space in the flesh, filled with air or lung."""
    return Tissue(list(solids), filling, filling)


def metal(solids, material=STEEL):
    """An implant or a marker."""
    return Tissue(list(solids), material, material)


class Grid:
    """The pixel centres of a detector, in the anatomy's centimetres.

    size (height, width); pixel: the pixel's side, cm; centre: the point of the anatomy that falls
    on the middle of the detector; angle: turn of the anatomy, radians; flip: mirror it.
    """

    def __init__(self, size, pixel, centre=(0.0, 0.0), angle=0.0, flip=False):
        self.size, self.pixel = size, pixel
        self.centre, self.angle, self.side = centre, angle, -1.0 if flip else 1.0
        height, width = size
        u = (np.arange(width, dtype=np.float32) - (width - 1) / 2) * pixel
        v = ((np.arange(height, dtype=np.float32) - (height - 1) / 2) * pixel)[:, None]
        u, v = np.broadcast_arrays(u, v)
        x, y = self.at(u, v)
        self.x, self.y = x.astype(np.float32), y.astype(np.float32)

    def at(self, u, v):
        """The point of the anatomy seen u cm right of and v cm below the detector's middle."""
        x, y = _turned(u * self.side, v, self.angle)
        return x + self.centre[0], y + self.centre[1]

    def window(self, box, margin=0.0):
        """Slices (rows, columns) of the pixels that a box (x0, y0, x1, y1) can touch."""
        x0, y0, x1, y1 = box
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        mid_x, mid_y = (x0 + x1) / 2 - self.centre[0], (y0 + y1) / 2 - self.centre[1]
        half_x, half_y = (x1 - x0) / 2 + margin, (y1 - y0) / 2 + margin
        middles = ((sin * mid_x + cos * mid_y), self.side * (cos * mid_x - sin * mid_y))
        halves = (abs(sin) * half_x + abs(cos) * half_y, abs(cos) * half_x + abs(sin) * half_y)
        slices = []
        for middle, half, count in zip(middles, halves, self.size, strict=True):
            low = math.floor((middle - half) / self.pixel + (count - 1) / 2)
            high = math.ceil((middle + half) / self.pixel + (count - 1) / 2) + 1
            low, high = max(low, 0), min(high, count)
            slices.append(slice(low, max(low, high)))
        return tuple(slices)


def _union(boxes):
    x0, y0, x1, y1 = zip(*boxes, strict=True)
    return min(x0), min(y0), max(x1), max(y1)


def project(tissue, grid):
    """Chords of a tissue: the window it touches, and (whole, core) in cm within that window."""
    fracture = tissue.fracture
    window = grid.window(
        _union([solid.box() for solid in tissue.solids]), abs(fracture.slip) if fracture else 0.0
    )
    x, y = grid.x[window], grid.y[window]
    if fracture and x.size:
        x, y, present = fracture.break_bone(x, y)
        # The broken bone's solids may lie beside their boxes, so they are sought everywhere.
        chords = [solid.chords(x, y) for solid in tissue.solids]
        whole, core = (np.max(part, axis=0) * present for part in zip(*chords, strict=True))
    else:
        whole, core = _merged(tissue.solids, grid, window)
    if tissue.holes:
        hole, _ = _merged(tissue.holes, grid, window)
        whole, core = np.maximum(whole - hole, 0.0), np.maximum(core - hole, 0.0)
    return window, whole, core


def _merged(solids, grid, window):
    """Chords (whole, core) of the solids' union within the window, each sought in its box."""
    shape = grid.x[window].shape
    whole, core = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for solid in solids:
        part, inner = [], []
        for own, outer in zip(grid.window(solid.box()), window, strict=True):
            start, stop = max(own.start, outer.start), min(own.stop, outer.stop)
            inner.append(slice(start, max(stop, start)))
            part.append(slice(start - outer.start, max(stop, start) - outer.start))
        part, inner = tuple(part), tuple(inner)
        if whole[part].size:
            solid_whole, solid_core = solid.chords(grid.x[inner], grid.y[inner])
            np.maximum(whole[part], solid_whole, out=whole[part])
            np.maximum(core[part], solid_core, out=core[part])
    return whole, core


def line_integral(tissues, grid, grain=None):
    """Attenuation along each ray: the sum of coefficient times chord, dimensionless.

    tissues: the bodies, each inside the one whose coefficient its `inside` names.
    grain: the texture of spongy bone on the grid, float32 [H, W] with mean 0 and deviation 1.
    Returns float32 [H, W], >= 0; exp(-it) is the share of the photons that passes.
    """
    total = np.zeros(grid.size, np.float32)
    for tissue in tissues:
        window, whole, core = project(tissue, grid)
        if not whole.size:
            continue
        shell, core_mu = tissue.shell - tissue.inside, tissue.core - tissue.inside
        part = shell * (whole - core) if shell != core_mu else 0.0
        if grain is not None and tissue.grain:
            core = core * (1.0 + tissue.grain * grain[window])
        total[window] += part + core_mu * core
    return np.maximum(total, 0.0)
