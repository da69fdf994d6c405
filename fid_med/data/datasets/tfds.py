"""Image classification sets of TensorFlow Datasets, by name."""

import contextlib
import re

import numpy as np
from absl import logging

from fid_med.data.labelled import DEVELOPMENT, UNDIVIDED, LabelledImages
from fid_med.errors import DataError, reason_of
from fid_med.utils.progress import say
from fid_med.utils.tensorflow_import import import_tensorflow

_NAME = re.compile(r"[a-z]\w*(/[\w.\-]+)?(:\d+\.\d+\.\d+|:\*\.\*\.\*)?")
_SPLITS = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}


def parse(set_name: str) -> str:
    """Returns the name as TFDS takes it; raises a DataError for any other text."""
    if not _NAME.fullmatch(set_name):
        raise DataError(
            f"tfds/{set_name}: no name of TensorFlow Datasets; expected tfds/NAME, "
            "tfds/NAME/CONFIG or one of these with :VERSION"
        )
    return set_name


def load(
    set_name: str,
    data_dir=None,
    label: str | None = None,
    patient_feature: str | None = None,
) -> LabelledImages:
    """Loads a set of TensorFlow Datasets, prepared or not; its files are read in their order.

    The set is known to TFDS, is one of `fid_med.data.tfds_builders`, or was prepared in `data_dir`
    by a builder of any other program. If it is not prepared, TFDS downloads and prepares it. Its
    splits are kept: `train`, `validation` (also `valid`, `val` or `dev`) and `test`. Images of
    other splits are left out, which is said.

    Args:
      set_name: NAME, NAME/CONFIG, or one of these with `:VERSION`.
      data_dir: folder of TFDS's data; by default TFDS's own, `~/tensorflow_datasets`.
      label: feature with the label; by default the only one, or that of `supervised_keys`.
      patient_feature: feature that names the patient; by default `patient`, if there is one.

    Raises:
      DataError: an unknown set, one without an image or a label, a missing feature, or one that
        cannot be downloaded.
    """
    with _quiet():
        return _load(parse(set_name), data_dir, label, patient_feature)


@contextlib.contextmanager
def _quiet():
    """TFDS logs several lines for each split that it opens, and each failed download ten times."""
    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _load(set_name, data_dir, label, patient_feature):
    builder = _prepared(set_name, data_dir)
    name, features = builder.info.full_name, builder.info.features
    image_key = _image_key(features, name)
    label_key, classes, several = _label(builder.info, label, name)
    patient_key = _text_key(features, patient_feature, "patient", name)
    study_key = _text_key(features, None, "study", name)
    splits = [split for split in _SPLITS if split in builder.info.splits]
    left_out = sorted(set(builder.info.splits) - set(splits))
    if not splits:
        raise DataError(f"{name}: has the splits {', '.join(left_out)}; expected train or test")
    if left_out:
        say(f"{name}: images of other splits are left out: {', '.join(left_out)}")

    def label_of(example):
        return _numbers(example[label_key], len(classes), several)

    def pair(example):
        return example[image_key], label_of(example)

    def described(example):
        return label_of(example), {key: example[key] for key in (patient_key, study_key) if key}

    dataset, rows, of_split = None, [], []
    for split in splits:
        part = builder.as_dataset(split=split, shuffle_files=False)
        dataset = part.map(pair) if dataset is None else dataset.concatenate(part.map(pair))
        found = _rows(builder, split, image_key, described)
        rows += found
        of_split += [_SPLITS[split]] * len(found)
    say(f"{name}: {len(rows)} images, read in the order of its files")

    def texts(key):
        if key is None:
            return None
        values = [_text(row[key]) for _, row in rows]
        return values if all(values) else None

    return LabelledImages.from_dataset(
        dataset,
        classes,
        name=name,
        labels=np.array([label for label, _ in rows]),
        patients=texts(patient_key),
        studies=texts(study_key),
        splits=_divided(np.array(of_split)),
    )


def _prepared(set_name, data_dir):
    import_tensorflow()  # before TensorFlow Datasets does, without messages
    import tensorflow_datasets as tfds

    import fid_med.data.tfds_builders  # noqa: F401  (registers them)

    try:
        builder = tfds.builder(set_name, data_dir=data_dir)
    except Exception as error:
        first, *_ = str(error).splitlines() or [type(error).__name__]  # a list of all sets follows
        raise DataError(
            f"tfds/{set_name}: TensorFlow Datasets does not find it ({first.rstrip('.')}); if "
            "another program has prepared it, give that folder as --data_dir"
        ) from None
    if not builder.is_prepared():
        say(f"{builder.info.full_name}: not in {builder.data_dir}; TFDS downloads and prepares it")
        try:
            builder.download_and_prepare()
        except Exception as error:
            raise DataError(
                f"tfds/{set_name}: TensorFlow Datasets cannot prepare it ({reason_of(error)}); "
                "prepare it on a machine with internet and give its folder as --data_dir"
            ) from None
    return builder


def _image_key(features, name):
    import tensorflow_datasets as tfds

    keys = [key for key, x in features.items() if isinstance(x, tfds.features.Image)]
    if len(keys) != 1:
        raise DataError(
            f"{name}: {len(keys)} features are images ({', '.join(keys) or 'none'}), expected one"
        )
    return keys[0]


def _label(info, wanted, name):
    """The key of the label's feature, its classes, and whether an image may have several."""
    import tensorflow_datasets as tfds

    found = {}
    for key, feature in info.features.items():
        inner = getattr(feature, "feature", feature)
        if isinstance(inner, tfds.features.ClassLabel):
            found[key] = tuple(inner.names), inner is not feature
    supervised = (info.supervised_keys or (None, None))[1]
    key = wanted or (supervised if supervised in found else None)
    if key is None and len(found) == 1:
        (key,) = found
    if key not in found:
        given = f"label {wanted!r}" if wanted else "no label"
        known = f"give --label={' or '.join(sorted(found))}" if found else "it has no class labels"
        raise DataError(f"{name}: {given}: {known}", wrong_flag=True)
    return key, *found[key]


def _text_key(features, wanted, default, name):
    if wanted is not None and wanted not in features:
        raise DataError(
            f"{name}: no feature {wanted!r}; it has {', '.join(sorted(features))}", wrong_flag=True
        )
    return wanted or (default if default in features else None)


def _rows(builder, split, image_key, function):
    """Values of a function of each example, without decoding images."""
    import tensorflow_datasets as tfds

    undecoded = {image_key: tfds.decode.SkipDecoding()}
    part = builder.as_dataset(split=split, shuffle_files=False, decoders=undecoded)
    return list(part.map(function).as_numpy_iterator())


def _text(value):
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _numbers(label, count, several):
    import tensorflow as tf

    return (
        tf.reduce_any(tf.one_hot(label, count, True, False, dtype=tf.bool), axis=0)
        if (several)
        else label
    )


def _divided(of_split):
    """Splits as `LabelledImages` names them: training images are divided if validation lacks."""
    if "validation" in of_split:
        return of_split
    rest = DEVELOPMENT if "test" in of_split else UNDIVIDED
    return np.where(of_split == "train", rest, of_split)
