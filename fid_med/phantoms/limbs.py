"""Elbow, hand and knee of the phantom.

Each body part is a function of a `np.random.Generator` that returns an `Anatomy`.
"""

import math

import numpy as np

from fid_med.phantoms.anatomy import (
    Anatomy,
    Break,
    Build,
    moved,
    nail,
    placed,
    plate_and_screws,
    plate_face_on,
)
from fid_med.phantoms.solids import (
    TITANIUM,
    Block,
    Capsule,
    Ellipsoid,
    Plate,
    bone,
    chain,
    curve,
    flesh,
    metal,
)


def elbow(rng):
    """Elbow, lateral view, flexed by about 90 degrees: humerus, ulna with olecranon, radius."""
    build = Build(rng)
    joint = np.array([-3.7, 3.4])
    bend = math.radians(build.about(0.0, 9.0))
    lift = build.about(0.0, 0.12)

    humerus = build.shaft([
        (-0.1, -20, 1.15, 0.38), (-0.1, -9, 1.08, 0.36), (-0.2, -5.5, 1.0, 0.3),
        (-0.15, -3.2, 0.85, 0.2), (0.0, -1.8, 0.72, 0.13), (0.25, -0.6, 0.9, 0.1),
    ])  # fmt: skip
    humerus += [
        Ellipsoid(0.0, 0.0, 1.12, 1.12, 1.6, 0.0, 0.08),
        Ellipsoid(0.3, -0.1, 0.9, 0.95, 1.8, 0.0, 0.07),
    ]
    humerus = [moved(solid, joint) for solid in humerus]

    def forearm(rows):
        return placed(rows, joint, bend)

    ulna = build.shaft(forearm([
        (-1.55, -1.35, 0.35, 0.08), (-1.95, -0.5, 0.6, 0.13), (-2.0, 0.45, 0.72, 0.16),
        (-1.35, 1.6, 0.75, 0.18), (0.0, 2.1, 0.78, 0.18), (1.6, 2.05, 0.78, 0.2),
        (4.0, 1.85, 0.72, 0.26), (8.0, 1.7, 0.62, 0.27), (22, 1.5, 0.55, 0.25),
    ]))  # fmt: skip
    ulna += build.shaft(forearm([(0.7, 1.75, 0.55, 0.1), (1.45, 1.0, 0.26, 0.1)]), 0)
    radius = build.shaft(forearm([
        (2.3, -0.15 - lift, 0.8, 0.1), (3.0, -0.12 - lift, 0.62, 0.14),
        (4.4, 0.05, 0.74, 0.2), (6.0, -0.1, 0.6, 0.25), (12, -0.3, 0.66, 0.26),
        (22, -0.2, 0.72, 0.24),
    ]))  # fmt: skip
    head = forearm([(1.98, -0.15 - lift)])[0]
    radius.append(Block(*head, 0.46, 1.0 * build.bone, 1.9, 0.3, bend, 0.09))

    skin = build.limb([
        (0.7, -22, 4.4), (0.7, -9, 4.0), (0.3, -3, 3.4), (-0.1, 0.2, 2.75)
    ]) + build.limb(placed([
        (-0.1, 0.3, 2.75), (2.5, 0.7, 3.35), (6, 0.75, 3.3), (11, 0.8, 2.9), (22, 0.8, 2.2)
    ], (0, 0), bend))  # fmt: skip
    skin = [moved(solid, joint) for solid in skin]
    tissues = {
        "skin": flesh(skin),
        "humerus": bone(humerus),
        "ulna": bone(ulna),
        "radius": bone(radius),
    }

    def at(u, v):
        return tuple(forearm([(u, v)])[0])

    turn = bend
    ulnar = build.about(5.5, 1.0)
    breaks = [
        (Break("humerus", joint[0] - 0.2, joint[1] - build.about(4.6, 0.8), math.pi / 2, 2.0),),
        (Break("ulna", *at(ulnar, 1.75), turn, 1.4),),
        (Break("ulna", *at(ulnar, 1.75), turn, 1.4), Break("radius", *at(5.8, 0.0), turn, 1.3)),
        (Break("ulna", *at(-1.8, 1.0), turn + 1.1, 1.5),),
    ]
    loop = [(-2.5, 1.3), (-1.6, 2.5), (0.2, 3.05), (2.2, 2.95), (3.2, 2.2), (2.0, 2.6), (-2.3, 1.9)]
    band = metal(
        chain([(*at(-2.75, 1.2), 0.11), (*at(4.4, 1.75), 0.11)])
        + chain([(*at(-2.65, 1.6), 0.11), (*at(4.2, 2.15), 0.11)])
        + chain([(*at(u, v), 0.08) for u, v in loop], 4)
    )
    implants = [
        plate_and_screws(at(0.4, 2.95), at(7.2, 2.5), -1, screw=1.5, screws=6),
        plate_and_screws(
            (joint[0] - 1.2, joint[1] - 9.2), (joint[0] - 1.0, joint[1] - 2.6), -1, screw=2.0
        ),
        band,
    ]
    return Anatomy(tissues, breaks, implants)


def hand(rng):
    """Hand, dorsal view, fingers up: five rays, eight carpal bones, ends of the forearm."""
    build = Build(rng)
    spread, long = build.about(1.0, 0.18), build.about(1.0, 0.04)
    tissues, breaks, implants, rays = {}, [], [], []
    # Base of the metacarpal, direction (degrees from vertical), lengths of the bones.
    fingers = [
        ((-2.0, 4.35), -48, (4.5, 3.2, 2.4)),
        ((-1.45, 3.15), -11, (6.5, 4.0, 2.4, 1.7)),
        ((-0.35, 2.85), -2.5, (6.3, 4.4, 2.8, 1.8)),
        ((0.7, 3.0), 6, (5.6, 4.1, 2.6, 1.8)),
        ((1.6, 3.4), 15, (5.2, 3.3, 1.9, 1.6)),
    ]
    for ray, (base, degrees, lengths) in enumerate(fingers):
        thumb = ray == 0
        angle = math.radians((degrees + 50 if thumb else degrees) * spread - (50 if thumb else 0))
        angle += math.radians(build.about(0, 4 if thumb else 1.2))
        point, path = np.array(base), []
        for index, length in enumerate(lengths):
            length = length * long
            name = f"ray{ray + 1}bone{index + 1}"
            tip = index == len(lengths) - 1
            frame = -math.pi / 2 + angle
            rows = placed(_ray_bone(length, index, tip, thumb), point, frame)
            tissues[name] = bone(build.shaft(rows, 2))
            along = np.array([math.cos(frame), math.sin(frame)])
            width = 0.9 if index == 0 else 0.75
            if not tip:
                middle = point + along * length * build.about(0.5, 0.08)
                breaks.append((Break(name, *middle, frame, width),))
            if index == 0 and not thumb:
                ends = [point + along * length * share for share in (0.2, 0.85)]
                implants.append(plate_face_on(ends, 0.62, 6))
            if index in (1, 2) and not tip:
                ends = placed([(-0.4, -0.25), (length * 1.3, 0.2)], point, frame)
                other = placed([(-0.4, 0.3), (length * 1.25, -0.3)], point, frame)
                wires = [(*row, 0.08) for row in ends], [(*row, 0.08) for row in other]
                implants.append(metal([*chain(wires[0]), *chain(wires[1])]))
            path.append((*(point + along * length * 0.1), 1.15 if index == 0 else 0.95))
            point = point + along * (length + 0.12)
            angle += math.radians(build.about(12 if thumb else 0.0, 2.5)) * (0.8 if thumb else 1)
        path.append((*(point - along * 0.35), 0.72))
        rays.append(path)

    tissues.update(_wrist(build))
    breaks.append((Break("radius", -0.9, build.about(9.0, 0.3), math.pi / 2, 2.0),))
    implants.append(plate_face_on([(-0.95, 7.6), (-0.9, 9.0), (-0.9, 12.0)], 0.85, 6))
    return Anatomy({"skin": flesh(_hand_flesh(build, rays)), **tissues}, breaks, implants)


def _hand_flesh(build, rays):
    """Flesh of the fingers, along paths of (x, y, radius), and of the palm."""
    skin = []
    for path in rays:
        # From the knuckle on; the palm covers the rest.
        skin += build.limb(path if path is rays[0] else path[1:], 0.16)
    knuckles = [np.array(path[1][:2]) for path in rays[1:]]
    outline = [
        knuckles[0] + [-0.75, 0.3], knuckles[0] + [0.3, -1.3], knuckles[1] + [0.0, -0.8],
        knuckles[2] + [0.0, -0.9], knuckles[3] + [-0.1, -1.3], knuckles[3] + [1.0, 0.6],
        (3.2, 3.0), (2.9, 6.2), (2.9, 9.0), (3.3, 22.0), (-3.3, 22.0), (-2.9, 9.0), (-3.0, 6.0),
        (-3.9, 3.4), (-3.7, 1.6), (-2.7, -0.4),
    ]  # fmt: skip
    outline = curve(np.array(outline) * [0.5 + 0.5 * build.flesh, 1.0], 3, closed=True)
    skin.append(Plate(outline, 2.9 * build.flesh, 2.4, 0.22))
    return skin


def _wrist(build):
    """The eight carpal bones and the ends of the forearm."""
    tissues = {}
    carpals = {
        "trapezium": (-1.75, 4.6, 0.72, 0.62, 0.5), "trapezoid": (-0.95, 4.05, 0.55, 0.6, 0.3),
        "capitate": (-0.05, 4.4, 0.66, 1.2, 0.05), "hamate": (1.05, 4.45, 0.72, 0.95, -0.35),
        "scaphoid": (-1.3, 5.7, 0.62, 1.15, -0.7), "lunate": (-0.05, 6.15, 0.82, 0.66, 0.1),
        "triquetrum": (1.35, 5.75, 0.72, 0.68, 0.4), "pisiform": (1.75, 5.4, 0.45, 0.5, 0.0),
    }  # fmt: skip
    for name, (x, y, a, b, turn) in carpals.items():
        shape = Block(x, y, a, b, 1.5, 0.6, turn, 0.075)
        tissues[name] = bone([shape])
    tissues["radius"] = bone([
        *build.shaft([
            (-0.85, 7.9, 1.25, 0.1), (-0.9, 8.8, 1.1, 0.14), (-0.9, 10.5, 0.8, 0.22),
            (-0.95, 22, 0.7, 0.3),
        ]),
        Block(-0.95, 7.35, 1.45, 0.62, 1.7, 0.45, 0.16, 0.08),
        *build.shaft([(-1.9, 7.2, 0.5, 0.1), (-2.15, 6.6, 0.28, 0.1)], 0),
    ])  # fmt: skip
    tissues["ulna"] = bone(build.shaft([
        (1.95, 6.75, 0.16, 0.08), (1.75, 7.4, 0.5, 0.1), (1.55, 8.0, 0.72, 0.12),
        (1.6, 9.3, 0.5, 0.16), (1.6, 22, 0.58, 0.26),
    ]))  # fmt: skip
    return tissues


def _ray_bone(length, index, tip, thumb):
    """Rows (x, y, radius, shell) of a finger's bone, from its base along x."""
    if index == 0:
        scale, rows = 1.1 if thumb else 1.0, [
            (0.45, 0.62, 0.08), (1.1, 0.5, 0.15), (length * 0.5, 0.4, 0.2),
            (length - 1.3, 0.44, 0.14), (length - 0.6, 0.6, 0.07),
        ]  # fmt: skip
    elif tip:
        scale, rows = 1.25 if thumb else 1.0, [
            (0.32, 0.46, 0.07), (0.75, 0.28, 0.12), (length - 0.5, 0.2, 0.1),
            (length - 0.28, 0.3, 0.07),
        ]  # fmt: skip
    else:
        size = 1.0 if index == 1 else 0.85
        scale, rows = 1.08 if thumb else 1.0, [
            (0.4, 0.58 * size, 0.07), (0.9, 0.45 * size, 0.13), (length * 0.55, 0.36 * size, 0.17),
            (length - 0.9, 0.38 * size, 0.12), (length - 0.42, 0.46 * size, 0.07),
        ]  # fmt: skip
    return [(x, 0.0, r * scale, shell) for x, r, shell in rows]


def knee(rng):
    """Knee, frontal view: femur with two condyles, tibia, fibula, patella."""
    build = Build(rng)
    gap, wide = build.about(0.0, 0.06), build.about(1.0, 0.04)
    valgus = math.radians(build.about(0.0, 1.5) + 3.0)
    femur = _knee_femur(build, valgus, wide)
    top = 0.42 + gap
    tibia = _tibia(build, top, wide)
    fibula = build.shaft([
        (3.75, 2.3, 0.35, 0.1), (3.8, 2.9, 0.85, 0.13), (3.65, 4.2, 0.62, 0.2),
        (3.4, 6.5, 0.55, 0.28), (3.0, 20, 0.6, 0.3),
    ])  # fmt: skip
    kneecap = np.array([build.about(0.2, 0.25), build.about(-3.7, 0.3)])
    patella = curve(np.array([
        (-2.0, -0.7), (-1.2, -1.9), (0.3, -2.1), (1.5, -1.7), (2.1, -0.5), (1.6, 1.0), (0.4, 2.2),
        (-0.4, 2.2), (-1.5, 1.0),
    ]), 2, closed=True) + kneecap  # fmt: skip
    patella = [Plate(patella, 1.2, 0.6, 0.05)]
    skin = build.limb([
        (0.2, -20, 7.2), (0.2, -10, 6.5), (0.1, -4, 6.0), (0.1, 0, 5.8), (0.3, 4, 5.7),
        (0.3, 9, 5.6), (0.2, 20, 4.8),
    ], 0.5)  # fmt: skip
    tissues = {
        "skin": flesh(skin),
        "femur": bone(femur),
        "tibia": bone(tibia),
        "fibula": bone(fibula),
        "patella": bone(patella, 0.15),
    }
    shin = build.about(7.0, 0.7)
    shaft_x, shaft_y = placed([(0, -7.8)], (0, 0), -valgus)[0]
    breaks = [
        (Break("femur", shaft_x, shaft_y + build.about(0, 0.7), math.pi / 2 - valgus, 3.4),),
        (Break("tibia", 0.05, shin, math.pi / 2, 2.9),),
        (Break("tibia", 0.05, shin, math.pi / 2, 2.9), Break("fibula", 3.3, 6.4, math.pi / 2, 1.1)),
        (Break("tibia", 2.2, 1.6, math.radians(build.about(25, 6)), 2.6),),
    ]
    femur_axis = placed([(0, -20), (0, -10), (0, -1.4)], (0, 0), -valgus)
    rod = nail(femur_axis, 0.55)
    for y in (-2.4, -4.0):
        rod.solids.append(Capsule(-3.4, y, 3.3, y - 0.1, 0.22, 0.22))
    tibial = plate_and_screws((3.4 * wide, 1.0), (1.75, 10.0), 1, screw=2.6, screws=6)
    tibial.solids.append(Capsule(3.5, 1.5, -3.0, 1.5, 0.22, 0.22))
    implants = [rod, tibial, _knee_prosthesis(wide, top)]
    return Anatomy(tissues, breaks, implants)


def _knee_femur(build, valgus, wide):
    """Lower end of the femur: a shaft that widens into two condyles."""
    femur = build.shaft(placed([
        (0, -20, 1.45, 0.5), (0, -11, 1.5, 0.45), (0, -8.5, 1.65, 0.34), (0, -6.6, 2.0, 0.2),
        (0, -5.0, 2.5, 0.13),
    ], (0, 0), -valgus))  # fmt: skip
    outline = np.array([
        (-0.7, -7.9), (-1.9, -6.5), (-3.0, -5.0), (-4.15, -3.7), (-4.4, -2.2), (-3.9, -0.6),
        (-2.6, 0.0), (-1.5, -0.2), (-0.85, -1.0), (-0.5, -1.75), (0.5, -1.75), (0.85, -1.0),
        (1.5, -0.25), (2.6, -0.05), (3.8, -0.7), (4.25, -2.2), (4.0, -3.7), (3.0, -5.0),
        (2.1, -6.5), (0.9, -7.9),
    ]) * [wide, 1.0]  # fmt: skip
    femur += [
        Plate(curve(outline, 2, closed=True), 4.4, 1.5, 0.13 * build.cortex),
        Ellipsoid(-2.35 * wide, -1.75, 1.75, 1.65, 2.9, 0.1, 0.1),
        Ellipsoid(2.3 * wide, -1.75, 1.7, 1.6, 2.9, -0.1, 0.1),
    ]
    return femur


def _tibia(build, top, wide):
    """Upper end of the tibia: plateau at y = top with two spines, and shaft."""
    side = [(3.95, 0.3), (3.85, 1.2), (3.3, 2.3), (2.5, 3.5), (1.7, 5.0), (0.6, 6.2)]
    plateau = curve(np.array([
        (-3.5, 0.0), (-2.2, 0.14), (-1.0, -0.05), (0.0, 0.0), (1.0, -0.05), (2.2, 0.14), (3.5, 0.0),
        *side, *[(-x, y) for x, y in side[::-1]],
    ]) * [wide, 1.0] + [0.0, top], 2, closed=True)  # fmt: skip
    tibia = [Plate(plateau, 3.8, 1.3, 0.15 * build.cortex)]
    tibia += build.shaft([
        (0.05, 3.6, 2.2, 0.14), (0.05, 5.2, 1.8, 0.24), (0.05, 7.5, 1.45, 0.4),
        (0.0, 11, 1.3, 0.5), (0.0, 20, 1.25, 0.5),
    ])  # fmt: skip
    for x in (-0.55, 0.6):
        tibia += chain([(x, top + 0.3, 0.5, 0.08), (x * 0.8, top - 0.3, 0.14, 0.08)])
    return tibia


def _knee_prosthesis(wide, top):
    """A total knee prosthesis: caps on the condyles, tray on the tibia, keel."""
    caps = []
    for side in (-1, 1):
        x = side * 2.15 * wide
        caps += chain([(x - 1.8, -2.6, 0.3), (x - 1.2, -0.9, 0.45), (x, -0.35, 0.5),
                       (x + 1.2, -0.9, 0.45), (x + 1.8, -2.6, 0.3)], 2)  # fmt: skip
    tray = Block(0.0, top + 0.75, 3.75 * wide, 0.22, 3.6, 0.2)
    keel = Capsule(0.0, top + 0.8, 0.0, top + 4.2, 0.75, 0.5)
    return metal([*caps, tray, keel], TITANIUM)
