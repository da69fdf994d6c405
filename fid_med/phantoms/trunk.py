"""Neck, pelvis and chest of the phantom.

Each body part is a function of a `np.random.Generator` that returns an `Anatomy`.
"""

import math

import numpy as np

from fid_med.phantoms.anatomy import Anatomy, Break, Build, mirrored, placed, plate_and_screws
from fid_med.phantoms.solids import (
    DENTINE,
    LUNG,
    MUSCLE,
    STEEL,
    TITANIUM,
    Block,
    Capsule,
    Ellipsoid,
    Plate,
    bone,
    chain,
    curve,
    flesh,
    hollow,
    metal,
)


def neck(rng):
    """Cervical spine, lateral view, face to the left: skull, jaw, vertebrae, airway."""
    build = Build(rng)
    bulge, lean = build.about(0.9, 0.55), build.about(0.12, 0.12)
    step = build.about(1.92, 0.06)

    def place(level):  # C1 is 0, C7 is 6, T1 is 7
        bent = min(level, 6)
        slope = 2 * bulge * (bent - 3.3) / 3.3**2 + lean
        x = -bulge * (1 - ((bent - 3.3) / 3.3) ** 2) + lean * (bent - 3) + slope * (level - bent)
        return (x, -7.0 + step * level), -math.atan2(slope, step)

    tissues = {}
    chin = build.about(0.0, 0.4)
    skin = build.limb([
        (1.6, -10, 6.6), (0.9, -4, 6.0), (0.7, 1, 6.0), (0.8, 5, 6.6), (1.0, 9, 8.2), (1.0, 18, 10)
    ], 0.5)  # fmt: skip
    skin += build.limb([(-2, -9.0, 4.8), (-7.2, -8.0 + chin, 4.4)], 0.4)
    skin += build.limb([(-2, -16, 7.5), (-6.5, -13, 5.6)], 0.4)
    skin += [
        Ellipsoid(1.5, -16, 11.0, 9.0, 7.4, 0.0, 0.4),
        Ellipsoid(0.5, 15.5, 15.0 * build.flesh, build.about(6.4, 0.5), 10.5, 0.06, 0.8),
    ]
    tissues["skin"] = flesh(skin)
    tissues["airway"] = hollow(chain([
        (-2.6, -11, 0.5), (-2.7, -8, 0.6), (-2.9, -5, 0.75), (-3.3, -2, 0.7), (-3.7, 0.3, 0.5),
        (-3.6, 2.2, 0.8), (-3.0, 6, 0.85), (-2.4, 12, 0.85), (-2.2, 17, 0.85),
    ], 3) + chain([(-3.6, -7.4, 0.2), (-6.5, -7.9, 0.35), (-9, -8.1, 0.3)], 2))  # fmt: skip

    tissues.update(_head(build, chin))
    spine_length = [1.0, 2.0, 1.1, 1.15, 1.4, 2.0, 2.7, 2.8, 2.8, 2.8]
    breaks = []
    for level in range(10):
        origin, turn = place(level)
        name = f"C{level + 1}" if level < 7 else f"T{level - 6}"
        tissues[name] = bone(_cervical(build, level, spine_length[level], origin, turn))
        if 2 <= level <= 6:
            breaks.append((Break(f"C{level + 1}", *origin, turn + math.pi / 2, 1.7),))
            tip = placed([(2.8 + 0.35 * spine_length[level], 0.75)], origin, turn)[0]
            if level >= 5:
                breaks.append((Break(f"C{level + 1}", *tip, turn + 0.35, 0.9),))
    implants = [_neck_plate(place, *levels) for levels in ((3, 4), (3, 5), (4, 6))]
    return Anatomy(tissues, breaks, implants)


def _head(build, chin):
    """The parts of skull, jaw and teeth that are visible in the field of the neck."""
    tissues = {}
    tissues["skull"] = bone([Ellipsoid(3.0, -16.4, 9.4, 7.2, 6.6, 0.12, 0.5)], 0.0)._replace(
        core=MUSCLE
    )
    tissues["skull base"] = bone(
        chain([(-4.5, -12.2, 0.7, 0.2), (-0.5, -10.6, 0.9, 0.3), (1.6, -9.9, 0.9, 0.3)])
        + chain([(1.0, -10, 0.8, 0.2), (0.7, -8.7, 0.4, 0.15)])
    )
    jaw = build.shaft([
        (-1.5, -11.5, 0.7, 0.25), (-2.6, -8.6, 1.1, 0.3), (-3.8, -6.6 + chin / 2, 1.05, 0.35),
        (-6.2, -5.6 + chin, 1.0, 0.4), (-9.2, -4.8 + chin, 1.05, 0.4),
        (-10.4, -5.9 + chin, 0.7, 0.4),
    ])  # fmt: skip
    tissues["jaw"] = bone(jaw)
    teeth = []
    for tooth in range(7):
        x, wide = -5.3 - 0.82 * tooth, 0.42 - 0.012 * tooth
        for y, root in ((-7.45 + chin + 0.1 * tooth, 1.0), (-8.35 + chin + 0.1 * tooth, -1.0)):
            lean = build.about(0.0, 0.06)
            teeth.append(Block(x + lean, y, wide, 0.4, 0.9, 0.25))
            teeth.append(Capsule(x + lean, y, x - 0.15, y + root, wide * 0.75, 0.12))
    tissues["teeth"] = metal(teeth, DENTINE)._replace(inside=MUSCLE)
    tissues["palate"] = bone(chain([(-4.4, -10.2, 0.3, 0.2), (-12, -9.9, 0.5, 0.2)]))
    tissues["hyoid"] = bone(chain([(-3.7, -3.4, 0.2, 0.1), (-5.6, -3.5, 0.32, 0.1)]))
    return tissues


def _neck_plate(place, top, bottom):
    """A plate in front of the vertebrae from `top` to `bottom`, with two screws in each."""
    rows, screws = [], []
    for level in range(top, bottom + 1):
        origin, turn = place(level)
        rows.append(placed([(-1.15, 0.0)], origin, turn)[0])
        for y in (-0.28, 0.32):
            ends = placed([(-1.2, y), (0.45, y * 0.8)], origin, turn)
            screws.append(Capsule(*ends[0], *ends[1], 0.2, 0.12))
    (x0, y0), (x1, y1) = rows[0], rows[-1]
    rows = [(x0, y0 - 0.6), *rows[1:-1], (x1, y1 + 0.6)]
    return metal(chain([(x, y, 0.17) for x, y in rows]) + screws, TITANIUM)


def _cervical(build, level, length, origin, turn):
    """Solids of one vertebra, lateral view: body, pillar, lamina, spinous process."""
    wide = 0.8 + 0.035 * level

    def at(rows):
        return placed(rows, origin, turn)

    if level == 0:
        front, mass = at([(-1.05, 0.0), (0.35, -0.1)])
        ring = at([(0.9, 0.0, 0.3, 0.08), (2.0, 0.05, 0.28, 0.1), (3.2, 0.1, 0.5, 0.1)])
        return [
            Ellipsoid(*front, 0.34, 0.55, 0.6, turn, 0.1),
            Block(*mass, 0.75, 0.55, 2.4, 0.3, turn - 0.1, 0.1),
            *build.shaft(ring),
        ]
    tall = 0.66 if level > 1 else 0.8
    pillar = at([(wide + 0.5, 0.05)])[0]
    side = np.array([(wide, -tall), (0.88 * wide, 0.0), (wide, tall), (0.0, tall - 0.07)])
    body = at(np.concatenate([side, -side]))
    drop = (0.55, 0.35, 0.45, 0.55, 0.75, 0.95, 1.1, 1.3, 1.5)[level - 1]
    start = 2.0 + 0.05 * level
    solids = [
        Plate(body, 2.0, 0.32, 0.1 * build.cortex),
        Block(*pillar, 0.5, 0.92, 2.4, 0.3, turn - 0.5, 0.09 * build.cortex),
        *build.shaft(at([
            (start - 0.5, 0.1, 0.42, 0.16), (start + 0.3, 0.3, 0.52, 0.2),
            (start + 0.5 + 0.6 * length, 0.3 + 0.6 * drop, 0.38, 0.16),
            (start + 0.5 + length, 0.3 + drop, 0.52, 0.16),
        ]), 2),
    ]  # fmt: skip
    if level == 1:
        dens = at([(0.0, -0.3, 0.62, 0.1), (-0.1, -1.3, 0.45, 0.1), (-0.25, -2.1, 0.42, 0.1)])
        solids += build.shaft(dens)
    return solids


def pelvis(rng):
    """Pelvis, frontal view: iliac wings, sacrum, hips, upper femora, pubic rings."""
    build = Build(rng)
    wide = build.about(1.0, 0.035)
    stance = math.radians(build.about(0.0, 3.0))
    hip = np.array([9.0 * wide, 4.6])
    ilium = _ilium(build, wide)
    tissues = {"skin": flesh(_hips_flesh(build))}
    breaks, implants = [], []
    for side, name in ((1, "left"), (-1, "right")):
        femur = _femur(build, hip, stance * side)
        if side < 0:
            femur = [mirrored(solid) for solid in femur]
        own = ilium if side > 0 else [mirrored(solid) for solid in ilium]
        tissues[f"{name} ilium"] = bone(own, 0.4)
        tissues[f"{name} femur"] = bone(femur, 0.35)
        x, y = hip
        femur, ilium_name = f"{name} femur", f"{name} ilium"
        down = math.pi / 2
        breaks += [
            (Break(femur, side * (x + 1.9), y + 0.6, down - side * math.radians(58), 3.2),),
            (Break(femur, side * (x + 4.1), y + 7.5, down, 3.0),),
            (Break(ilium_name, side * 9.8 * wide, -6.0, down - side * 0.5, 5.0),),
        ]
        implants += [_hip_prosthesis(hip, side), _hip_screw(hip, side)]

    tissues["sacrum"] = _sacrum()
    for level in range(3):
        tissues[f"L{5 - level}"] = bone(_lumbar(-9.2 - 3.9 * level), 0.4)
    gas = [
        Ellipsoid(build.about(0, 4.0), build.about(-7.5, 2.5), build.about(1.6, 0.4),
                  build.about(1.0, 0.25), 1.4, build.about(0, 0.8))
        for _ in range(5)
    ]  # fmt: skip
    tissues["bowel"] = hollow(gas)
    return Anatomy(tissues, breaks, implants)


def _ilium(build, wide):
    """Hip bone on the side x > 0: wing, brim, ring around the obturator foramen."""
    wing = np.array([
        (4.2, -3.6), (4.6, -8.4), (6.6, -10.9), (9.6, -11.6), (12.4, -10.2), (13.7, -7.4),
        (13.3, -4.4), (12.4, -2.8), (12.2, -0.6), (11.6, 1.6), (9.4, 3.4), (6.9, 3.4),
        (6.4, 1.2), (5.6, -1.2),
    ]) * [wide, 1.0]  # fmt: skip
    crest = [
        (4.6 * wide, -8.2, 0.6, 0.14), (6.7 * wide, -10.5, 0.62, 0.14),
        (9.6 * wide, -11.1, 0.6, 0.14), (12.1 * wide, -9.8, 0.62, 0.16),
        (13.2 * wide, -7.3, 0.6, 0.16), (12.8 * wide, -4.6, 0.6, 0.16),
    ]  # fmt: skip
    ilium = [Plate(curve(wing, 2, closed=True), 1.5, 0.7, 0.16)]
    ilium += build.shaft(crest, 2)
    # The brim: thick bone from the sacrum through the hip to the symphysis.
    ilium += build.shaft([
        (4.7 * wide, -3.6, 1.2, 0.16), (6.0 * wide, -0.6, 0.95, 0.2), (6.9 * wide, 2.2, 1.1, 0.2),
        (6.0 * wide, 4.9, 0.8, 0.16), (3.6 * wide, 6.3, 0.7, 0.16), (1.2, 7.6, 0.95, 0.16),
    ])  # fmt: skip
    ilium += build.shaft([
        (1.1, 7.6, 0.85, 0.14), (1.3, 9.6, 0.85, 0.14), (3.0 * wide, 11.4, 0.72, 0.14),
        (5.1 * wide, 12.1, 1.0, 0.16), (6.6 * wide, 10.4, 1.15, 0.16), (6.9 * wide, 7.4, 1.1, 0.16),
        (7.2 * wide, 4.6, 1.1, 0.16),
    ])  # fmt: skip
    ilium += chain([(12.1 * wide, -0.6, 0.5, 0.14), (11.4 * wide, 2.0, 0.75, 0.25),
                    (9.4 * wide, 2.0, 0.9, 0.25)])  # fmt: skip
    return ilium


def _sacrum():
    sacrum = curve(np.array([
        (-5.4, -6.4), (-2.4, -7.4), (0, -7.1), (2.4, -7.4), (5.4, -6.4), (5.2, -3.4), (3.2, -0.8),
        (1.6, 1.6), (0, 2.6), (-1.6, 1.6), (-3.2, -0.8), (-5.2, -3.4),
    ]), 2, closed=True)  # fmt: skip
    # The paired sacral foramina.
    openings = [
        Ellipsoid(side * (2.4 - 0.38 * row), -5.2 + 1.75 * row, 0.6, 0.42, 9.0)
        for row in range(4)
        for side in (-1, 1)
    ]
    tail = chain([(0, 2.2, 0.8, 0.12), (0.1, 4.6, 0.35, 0.1)])
    return bone([Plate(sacrum, 3.2, 1.4, 0.1), *tail])._replace(holes=tuple(openings))


def _hips_flesh(build):
    trunk = curve(np.array([
        (-15.5, -26), (15.5, -26), (16.5, -10), (18.3, 2), (18.6, 9), (17.4, 26), (1.3, 26),
        (0.8, 15), (-0.8, 15), (-1.3, 26), (-17.4, 26), (-18.6, 9), (-18.3, 2), (-16.5, -10),
    ]) * [build.flesh, 1.0], 2, closed=True)  # fmt: skip
    return [Plate(trunk, 18.5 * build.flesh**0.5, 9.0, 1.6 * build.flesh**3)]


def _femur(build, hip, stance):
    """Upper femur on the side x > 0: head, neck, two trochanters, shaft."""
    x, y = hip
    rows = placed([
        (3.9, 0.6, 1.5, 0.15), (4.2, 3.4, 1.75, 0.25), (4.3, 6.5, 1.55, 0.45),
        (4.0, 11, 1.45, 0.55), (3.2, 24, 1.45, 0.55),
    ], (x, y), stance * 0.5)  # fmt: skip
    return [
        Ellipsoid(x, y, 2.35 * build.bone, 2.35 * build.bone, 2.35, 0.0, 0.16),
        *build.shaft([(x + 0.6, y + 0.2, 1.7, 0.14), (x + 2.4, y + 0.9, 1.5, 0.22),
                      (x + 4.0, y + 2.0, 1.9, 0.2)], 2),
        *build.shaft([(x + 3.9, y - 0.2, 1.0, 0.12), (x + 5.0, y + 1.2, 1.1, 0.15),
                      (x + 5.0, y + 2.6, 0.9, 0.2)], 2),
        *build.shaft([(x + 3.6, y + 3.8, 0.9, 0.15), (x + 2.4, y + 4.5, 0.6, 0.15)], 0),
        *build.shaft(rows),
    ]  # fmt: skip


def _lumbar(y):
    """Solids of a lumbar vertebra, frontal view: body, processes, pedicles."""
    solids = [
        Block(0.0, y, 2.45, 1.45, 3.2, 0.6, 0.0, 0.12),
        *chain([(-2.0, y - 0.3, 0.55, 0.12), (-4.3, y - 0.6, 0.38, 0.12)]),
        *chain([(2.0, y - 0.3, 0.55, 0.12), (4.3, y - 0.6, 0.38, 0.12)]),
        Capsule(0.0, y + 0.2, 0.0, y + 1.7, 0.35, 0.45, 0.3, 0.3),
    ]
    for side in (-1, 1):
        solids.append(Ellipsoid(side * 1.7, y - 0.4, 0.5, 0.7, 2.6, 0.0, 0.18))
    return solids


def _hip_prosthesis(hip, side):
    """A hip prosthesis: cup, ball and a stem in the femur."""
    x, y = hip
    stem = [
        Ellipsoid(x, y, 1.6, 1.6, 1.4),
        *chain([(x + 0.8, y + 0.1, 0.7), (x + 2.4, y + 1.1, 0.8), (x + 3.8, y + 2.8, 1.2),
                (x + 4.1, y + 5.0, 0.85), (x + 4.0, y + 10.5, 0.55)]),
        *chain([(x + 2.0, y - 1.6, 0.3), (x + 0.4, y - 2.6, 0.4), (x - 1.6, y - 2.0, 0.4),
                (x - 2.6, y - 0.2, 0.35), (x - 2.1, y + 1.5, 0.3)], 2),
    ]  # fmt: skip
    return metal(stem if side > 0 else [mirrored(solid) for solid in stem], TITANIUM)


def _hip_screw(hip, side):
    """A sliding hip screw: a thick screw in the neck, a plate along the shaft."""
    x, y = hip
    screw = [
        Capsule(x + 0.3, y + 0.1, x + 5.6, y + 4.0, 0.42, 0.55),
        *plate_and_screws((x + 6.0, y + 3.6), (x + 5.6, y + 11.5), 1, 0.6, 3.2, 4).solids,
    ]
    return metal(screw if side > 0 else [mirrored(solid) for solid in screw], STEEL)


def chest(rng):
    """Chest, posteroanterior view: lungs, ribs, heart, diaphragm, clavicles, spine."""
    build = Build(rng)
    wide, breath = build.about(1.0, 0.04), build.about(0.0, 0.8)
    tissues = {"skin": flesh(_chest_flesh(build))}
    tissues.update(_lungs(build, wide, breath))
    for level in range(14):
        y = -17.0 + 2.55 * level
        tissues[f"T{level}"] = bone([
            Block(0.0, y, 1.6, 1.05, 2.2, 0.5, 0.0, 0.08),
            *chain([(-1.2, y - 0.4, 0.4, 0.1), (-3.0, y - 0.7, 0.38, 0.1)]),
            *chain([(1.2, y - 0.4, 0.4, 0.1), (3.0, y - 0.7, 0.38, 0.1)]),
            Capsule(0.0, y + 0.4, 0.0, y + 1.5, 0.25, 0.3, 0.2, 0.2),
        ], 0.5)  # fmt: skip

    ribs, breaks = _ribs(build, wide)
    tissues.update(ribs)
    implants = [_pacemaker(), _sternal_wires(build)]
    tilt = build.about(0.0, 0.5)
    for side, name in ((1, "left"), (-1, "right")):
        tissues.update(_shoulder(build, side, name, tilt))
        breaks += [(Break(f"{name} clavicle", side * 8.0, -13.6, side * -0.28, 1.8),)] * 2
        implants.append(plate_and_screws(
            (side * 4.6, -13.4), (side * 11.8, -15.4), side, 0.4, 1.5, 7))  # fmt: skip
    return Anatomy(tissues, breaks, implants)


def _ribs(build, wide):
    """Ten pairs of ribs as (tissues, breaks); each rib has a posterior and an anterior arc."""
    tissues = {}
    sites = {1: [], -1: []}
    half = np.array([6.2, 9.3, 11.2, 12.4, 13.2, 13.8, 14.2, 14.4, 14.4, 14.2]) * wide
    for rib in range(10):
        y, out = -14.6 + 2.5 * rib, half[rib]
        fall = 2.2 + 0.55 * rib
        back = np.array([
            (2.4, y, 0.5, 0.18), (0.3 * out + 2.0, y - 0.5, 0.58, 0.25),
            (0.75 * out, y + 0.35 * fall, 0.64, 0.26), (0.96 * out, y + 0.8 * fall, 0.58, 0.22),
            (out, y + 1.25 * fall, 0.52, 0.18),
        ])  # fmt: skip
        end = 0.5 * out + 0.6
        front = np.array([
            (out, y + 1.25 * fall, 0.52, 0.12), (0.93 * out, y + 1.75 * fall, 0.58, 0.1),
            (0.5 * (out + end), y + 2.15 * fall, 0.66, 0.09), (end, y + 2.2 * fall, 0.72, 0.08),
        ])  # fmt: skip
        for side, name in ((1, "left"), (-1, "right")):
            for rows, part in ((back, "back"), (front, "front")):
                own = rows * [side, 1, 1, 1]
                tissues[f"{name} {part} rib {rib + 1}"] = bone(build.shaft(own, 2))
            if 2 <= rib <= 7:
                x, level = side * 0.75 * out, y + 0.35 * fall
                slope = math.atan2(0.8 * fall, 0.6 * out) * side
                sites[side].append(Break(f"{name} back rib {rib + 1}", x, level, slope, 1.4))

    # Three adjacent ribs break together.
    breaks = [tuple(own[i : i + 3]) for own in sites.values() for i in range(len(own) - 2)]
    return tissues, breaks


def _shoulder(build, side, name, tilt):
    """Clavicle, scapula and head of the humerus."""
    tissues = {}
    clavicle = np.array([
        (1.9, -11.6, 0.95, 0.2), (4.5, -12.6, 0.65, 0.22), (8.0, -13.6, 0.55, 0.22),
        (11.5, -14.6 + tilt, 0.58, 0.2), (15.0, -15.0 + tilt, 0.7, 0.16),
    ]) * [side, 1, 1, 1]  # fmt: skip
    tissues[f"{name} clavicle"] = bone(build.shaft(clavicle))
    # The shoulders are rolled forward, so that the scapula does not cover the lung.
    blade = np.array([
        (12.6, -12.0), (15.6, -12.6), (16.4, -10.4), (15.4, -7.0), (13.9, -2.8), (13.2, -2.4),
        (12.9, -6.4),
    ]) * [side, 1]  # fmt: skip
    tissues[f"{name} blade"] = bone([
        Plate(curve(blade, 2, closed=True), 0.8, 0.4, 0.12),
        *chain([(side * 15.6, -12.6, 0.6, 0.14), (side * 15.2, -7.2, 0.55, 0.14),
                (side * 13.5, -2.6, 0.4, 0.12)]),
    ])  # fmt: skip
    tissues[f"{name} humerus"] = bone([
        Ellipsoid(side * 18.0, -12.2, 2.3, 2.3, 2.3, 0.0, 0.15),
        *build.shaft(np.array([(18.3, -11.5, 1.9, 0.15), (19.0, -8.5, 1.3, 0.3),
                               (19.8, 2, 1.2, 0.4)]) * [side, 1, 1, 1]),
    ])  # fmt: skip
    return tissues


def _chest_flesh(build):
    trunk = curve(np.array([
        (-4.8, -26), (4.8, -26), (5.2, -18.6), (9, -16.8), (16, -15.2), (19, -11), (17.4, -3),
        (16.6, 6), (16.6, 28), (-16.6, 28), (-16.6, 6), (-17.4, -3), (-19, -11), (-16, -15.2),
        (-9, -16.8), (-5.2, -18.6),
    ]) * [0.4 + 0.6 * build.flesh, 1.0], 2, closed=True)  # fmt: skip
    arms = build.limb([(17.5, -10.6, 5.0), (21.5, 3, 4.4), (24, 20, 4)], 0.7)
    return [
        Plate(trunk, 20.0 * build.flesh**0.5, 9.0, 1.2 * build.flesh**3),
        *arms,
        *[mirrored(solid) for solid in arms],
    ]


def _lungs(build, wide, breath):
    """Lungs (without heart and vessels), trachea, and air in the stomach."""
    right = np.array([
        (-2.6, -13.6), (-4.6, -15.4), (-7.4, -14.4), (-10.6, -9.6), (-12.9, -2.6), (-13.7, 4),
        (-13.7, 9.2 + breath), (-11.2, 7.6 + breath), (-7.6, 6.2 + breath), (-4.4, 7.2 + breath),
        (-2.9, 8.6 + breath), (-2.6, 0.0), (-2.3, -7.0),
    ]) * [wide, 1.0]  # fmt: skip
    left = np.array([
        (2.6, -13.6), (4.6, -15.4), (7.4, -14.4), (10.6, -9.6), (12.9, -2.6), (13.7, 4),
        (13.7, 10.2 + breath), (11.4, 8.6 + breath), (8.4, 7.4 + breath), (5.6, 8.2 + breath),
        (3.4, 9.0 + breath), (2.8, 0.0), (2.6, -7.0),
    ]) * [wide, 1.0]  # fmt: skip
    lungs = [Plate(curve(side, 2, closed=True), 15.5, 3.8) for side in (right, left)]
    size = build.about(1.0, 0.08)
    heart = [
        Ellipsoid(2.6 * size, 3.6 + 0.7 * breath, 6.4 * size, 4.9 * size, 4.9, 0.65),
        Ellipsoid(-1.2, 2.2, 3.6 * size, 4.8, 4.2),
        *chain([(2.2, -7.2, 1.7), (2.6, -2.0, 1.4)]),
        *chain([(-2.2, -9, 1.0), (-2.6, -2, 1.2)]),
    ]
    vessels = []
    for side in (-1, 1):
        root = np.array([side * 3.6, -0.6 + 0.6 * side])
        vessels += [Ellipsoid(*root, 1.1, 2.2, 1.1, side * -0.25)]
        for _ in range(20):
            angle = build.rng.uniform(-1.35, 1.25)
            reach = build.rng.uniform(4.5, 8.5) * (1.0 if abs(angle) > 0.5 else 0.9)
            bow = build.rng.normal(0, 0.12)
            rows = [
                (root[0] + side * reach * t * math.cos(angle + bow * t),
                 root[1] + reach * t * math.sin(angle + bow * t), 0.6 * (1 - t) + 0.16)
                for t in (0.0, 0.35, 0.7, 1.0)
            ]  # fmt: skip
            vessels += chain(rows)
    return {
        "lungs": hollow(lungs, LUNG)._replace(holes=(*heart, *vessels)),
        "trachea": hollow(
            chain([(0.1, -22, 0.9), (0.1, -12, 0.85), (-0.3, -4.6, 0.85)])
            + chain([(-0.3, -4.6, 0.75), (-2.4, -2.0, 0.55)])
            + chain([(-0.3, -4.6, 0.7), (3.0, -1.4, 0.5)])
        ),
        "stomach": hollow([Ellipsoid(6.6, 10.6 + breath, 2.3, 1.5, 2.0, 0.2)]),
    }


def _pacemaker():
    """A pulse generator under the left clavicle, with a lead to the heart."""
    lead = [
        (8.6, -9.4, 0.13), (6.4, -11.0, 0.13), (3.0, -10.2, 0.13), (-1.6, -7.0, 0.13),
        (-2.6, -1.0, 0.13), (-1.0, 5.0, 0.13), (4.6, 7.0, 0.16),
    ]  # fmt: skip
    return metal(
        [
            Block(10.0, -8.8, 2.2, 1.9, 0.7, 1.2, 0.2),
            *chain(lead, 4),
            Ellipsoid(4.6, 7, 0.3, 0.3, 0.3),
        ],
    )


def _sternal_wires(build):
    """The wires that close the sternum after surgery, one above the other."""
    solids = []
    for row in range(6):
        x, y = build.about(0.0, 0.15), -9.4 + 2.9 * row
        turn = build.about(0.0, 0.15)
        loop = [(-0.95, 0.0), (-0.4, -0.5), (0.5, -0.45), (0.95, 0.05), (0.35, 0.5), (-0.5, 0.45)]
        loop = placed(curve(np.array(loop), 2, closed=True), (x, y), turn)
        loop = [(*row, 0.13) for row in (*loop, loop[0])]
        solids += chain(loop)
        solids += chain([(x, y + 0.5, 0.17), (x + 0.25, y + 0.95, 0.15)])
    return metal(solids)
