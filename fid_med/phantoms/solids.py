"""Solids in a parallel X-ray beam, and the path length of each ray through them.

All lengths are in centimetres on the image plane, x to the right and y down; the beam is parallel
to the third axis. `chords` of a solid returns two path lengths (float32): through the whole solid,
and through its core, which is the part deeper than `shell` below the surface. Their difference is
the path through the shell (the cortex of a bone, the fat under the skin).
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
# Spongy bone is a lattice of bone in marrow, whose attenuation is close to that of fat.
SPONGY = 0.20 * CORTEX + 0.80 * FAT
DENTINE = CORTEX * 1.15


def _chord(squared):
    """Chord 2 sqrt(h) of a solid whose squared half depth is h; 0 where h < 0."""
    return 2.0 * np.sqrt(np.maximum(squared, 0.0))


class Capsule(NamedTuple):
    """A shaft from (ax, ay) to (bx, by) with hemispherical ends.

    The radius and the shell change linearly from end to end (`ra` to `rb`, `shell_a` to
    `shell_b`). The cross sections are circles about the axis, so the chord of a ray at distance d
    from the axis is exactly 2 sqrt(r(t)^2 - d^2).
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
    """An ellipsoid at (x, y).

    Its half axes are a and b in the image plane, rotated by `angle` (radians), and c along the
    beam.
    """

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
    """A box at (x, y) with rounded edges.

    Its half sides are a and b, rotated by `angle` (radians), its thickness along the beam is
    `depth`, and the radius of its edges is `edge`.
    """

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
    """A slab with outline `points` [n, 2] and thickness `depth`, with rounded edges.

    Over the first `edge` cm from the outline the thickness follows a quarter circle.
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
    """Coordinates of x, y in axes rotated by `angle` (radians)."""
    if angle == 0.0:
        return x, y
    cos, sin = math.cos(angle), math.sin(angle)
    return cos * x + sin * y, cos * y - sin * x


def _slab(inside, depth, edge, shell):
    """Chords of a slab with rounded edges.

    Args:
      inside: distance to the outline, cm, positive inside; float32, any shape.
      depth, edge, shell: as for `Plate`.
    """

    def profile(inside, depth, edge):
        short = 1.0 - np.clip(inside / edge, 0.0, 1.0)
        return depth * np.sqrt(1.0 - np.square(short))

    whole = profile(inside, depth, edge)
    if shell == 0.0:
        return whole, whole
    return whole, profile(inside - shell, max(depth - 2 * shell, 0.0), max(edge - shell, 1e-3))


def depth_in_polygon(points, x, y):
    """Signed distance (cm) from x, y to the polygon's outline: positive inside."""
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
    """Catmull-Rom spline through `knots` [n, k], with `steps` points per segment."""
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
    """Capsules through rows of (x, y, radius) or (x, y, radius, shell).

    Args:
      rows: array-like [n, 3] or [n, 4].
      steps: points per segment of a spline through the rows; 0 connects them by straight lines.
    """
    rows = curve(rows, steps) if steps else np.asarray(rows, float)
    if rows.shape[1] == 3:
        rows = np.pad(rows, ((0, 0), (0, 1)))
    # A spline may overshoot between a thick and a thin knot; a radius must not become negative.
    rows[:, 2:] = np.maximum(rows[:, 2:], 0.0)
    rows = rows.tolist()
    return [Capsule(a[0], a[1], b[0], b[1], a[2], b[2], a[3], b[3]) for a, b in pairwise(rows)]


class Fracture(NamedTuple):
    """A jagged gap across a bone, and the displacement of the distal fragment.

    Attributes:
      x, y: point on the fracture line, cm.
      angle: direction of the bone's axis, radians.
      gap: width of the gap, cm.
      slip: displacement across the bone, cm.
      slope: tilt of the fracture line from the perpendicular; 0 is none.
      reach: distance, cm, over which the displacement decreases to 0, so that the next joint stays
        in place.
      teeth: deviations of the fracture line, cm.
      tooth: distance between two of the deviations, cm.
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
        """Maps points of the broken bone to points of the intact one.

        Args:
          x, y: float32, any shape.

        Returns:
          (x, y, present) of the same shape: the points of the intact bone, and the fraction (0 to
          1) of the bone that is present there.
        """
        along, across = _turned(x - self.x, y - self.y, self.angle)
        middle = (len(self.teeth) - 1) / 2
        jag = np.interp(across / self.tooth + middle, np.arange(len(self.teeth)), self.teeth)
        line = along - self.slope * across - jag.astype(np.float32)
        fade = np.square(np.clip(1.0 - line / self.reach, 0.0, 1.0))
        slip = np.where(line > 0, self.slip * fade, np.float32(0.0))
        moved_x = x + slip * math.sin(self.angle)
        moved_y = y - slip * math.cos(self.angle)
        near = np.abs(along) < self.reach  # far from the fracture the bone is intact
        present = np.clip(np.abs(line) / (0.5 * self.gap) - 0.5, 0.0, 1.0)
        return moved_x, moved_y, np.where(near, present, np.float32(1.0))


class Tissue(NamedTuple):
    """The union of several solids, with a shell around a core.

    Attributes:
      solids: list of solids.
      shell: linear attenuation coefficient of the shell, 1/cm.
      core: linear attenuation coefficient of the core, 1/cm.
      inside: linear attenuation coefficient of the surrounding tissue that this one replaces, 1/cm.
      grain: relative contrast of the core's texture.
      fracture: a `Fracture`, or None.
      holes: solids to subtract, for example the heart from the lungs.
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
    """A cavity in the flesh, filled with air or lung."""
    return Tissue(list(solids), filling, filling)


def metal(solids, material=STEEL):
    """An implant or a marker."""
    return Tissue(list(solids), material, material)


class Grid:
    """Pixel centres of a detector, in the coordinates of the anatomy (cm).

    Args:
      size: (height, width) in pixels.
      pixel: side of a pixel, cm.
      centre: point of the anatomy at the centre of the detector.
      angle: rotation of the anatomy, radians.
      flip: whether to mirror the anatomy.
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
        """Point of the anatomy u cm to the right of the detector's centre and v cm below it."""
        x, y = _turned(u * self.side, v, self.angle)
        return x + self.centre[0], y + self.centre[1]

    def window(self, box, margin=0.0):
        """Slices (rows, columns) of the pixels that a box (x0, y0, x1, y1) may overlap."""
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
    """Projects a tissue onto the grid.

    Returns:
      (window, whole, core): slices of the pixels that it overlaps, and the chords (cm, float32)
      within them.
    """
    fracture = tissue.fracture
    window = grid.window(
        _union([solid.box() for solid in tissue.solids]), abs(fracture.slip) if fracture else 0.0
    )
    x, y = grid.x[window], grid.y[window]
    if fracture and x.size:
        x, y, present = fracture.break_bone(x, y)
        # The fragments may be outside of the solids' boxes, so every pixel is evaluated.
        chords = [solid.chords(x, y) for solid in tissue.solids]
        whole, core = (np.max(part, axis=0) * present for part in zip(*chords, strict=True))
    else:
        whole, core = _merged(tissue.solids, grid, window)
    if tissue.holes:
        hole, _ = _merged(tissue.holes, grid, window)
        whole, core = np.maximum(whole - hole, 0.0), np.maximum(core - hole, 0.0)
    return window, whole, core


def _merged(solids, grid, window):
    """Chords (whole, core) of the solids' union in the window, each evaluated in its own box."""
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

    Args:
      tissues: iterable of `Tissue`.
      grid: `Grid` of the detector.
      grain: texture of spongy bone on the grid, float32 [H, W] with mean 0 and standard deviation
        1, or None.

    Returns:
      float32 [H, W], at least 0; exp(-attenuation) is the transmitted fraction of the photons.
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
