"""Small trees laid out like the data sets, of noise instead of radiographs."""

import numpy as np
from PIL import Image


def write_image(path, seed, colour=False):
    """A PNG of noise: no two seeds give the same pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (6, 5, 3) if colour else (6, 5)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


REGIONS = ("ELBOW", "FINGER", "FOREARM", "HAND", "HUMERUS", "SHOULDER", "WRIST")


def write_mura(folder):
    """MURA-v1.1 in `folder`: of a region 4 patients with 3 images to train, 1 with 2 to validate.

    The first image of a study is in colour, and macOS's resource forks lie about: the csv file of
    one split even names one. Patients' even numbers are abnormal. Returns its root.
    """
    root, number = folder / "MURA-v1.1", 0
    for split, patients in (("train", 4), ("valid", 1)):
        paths, studies = [], []
        for region in REGIONS:
            for _ in range(patients):
                number += 1
                positive = number % 2 == 0
                study = f"{split}/XR_{region}/patient{number:05d}/study1_"
                study += "positive" if positive else "negative"
                studies.append(f"MURA-v1.1/{study}/,{int(positive)}")
                for i in range(1, 4 if split == "train" else 3):
                    image = f"{study}/image{i}.png"
                    write_image(root / image, 10 * number + i, colour=i == 1)
                    paths.append(f"MURA-v1.1/{image}")
                fork = root / study / "._image1.png"
                fork.write_bytes(b"\0\5\x16\7 no image")
        paths.append(f"MURA-v1.1/{study}/._image1.png")
        (root / f"{split}_image_paths.csv").write_text("\n".join(paths) + "\n")
        (root / f"{split}_labeled_studies.csv").write_text("\r\n".join(studies) + "\r\n")
    return root


EXAMINATIONS = ("XR FOOT RIGHT", "XR ANKLE", "XR KNEE UNI", "XR HIPS BILAT")


def write_lera(folder):
    """LERA Dataset in `folder`: 12 patients with 2 images each, the last third abnormal."""
    root, lines = folder / "LERA Dataset", []
    for i in range(12):
        lines.append(f"{i:04d},{EXAMINATIONS[i % 4]},{int(i >= 8)}")
        for k in range(2):
            write_image(root / f"{i:04d}" / "ST-1" / f"im_{k}.png", 10_000 + 10 * i + k)
        (root / f"{i:04d}" / "ST-1" / "._im_0.png").write_bytes(b"no image")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root


def write_medmnist(path, counts=(6, 4, 3), labels=2, colour=False, several=0, side=28, **changes):
    """An npz of noise; the labels take turns, or, where `several` columns, are noise too.

    `changes` replace arrays; None leaves one out.
    """
    rng = np.random.default_rng(0)
    arrays = {}
    for part, count in zip(("train", "val", "test"), counts, strict=True):
        shape = (count, side, side, 3) if colour else (count, side, side)
        arrays[f"{part}_images"] = rng.integers(0, 256, shape, np.uint8)
        arrays[f"{part}_labels"] = (
            rng.integers(0, 2, (count, several), np.uint8)
            if several
            else (np.arange(count, dtype=np.uint8) % labels)[:, None]
        )
    arrays |= changes
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **{key: a for key, a in arrays.items() if a is not None})
    return path
