#!/usr/bin/env python3
"""Computes the Fréchet inception distance between real and generated images."""

from absl import flags

from fid_med import cli

USAGE = """usage: compute_fid.py REAL GENERATED [flags]

Computes the Fréchet inception distance between two sets of images.
REAL and GENERATED are each a folder of images (searched below too) or a .npz of statistics, ours
or any with TTUR's keys mu and sigma. The last line on stdout is "FID: <value>"; progress and
warnings go to stderr."""

_EXTRACTOR = flags.DEFINE_string(
    "extractor",
    "imagenet",
    "imagenet (Keras's weights, downloaded once), ttur (the 2015-12-05 graph of published FIDs), "
    "random, or the path of an extractor.keras, of InceptionV3 weights (.weights.h5, .h5), of a "
    "whole InceptionV3 model (.keras, .h5) or of the 2015-12-05 graph (.pb, .tgz).",
)
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", 32, "Images that go through the network at once.", lower_bound=1
)
_IMAGE_SIZE = flags.DEFINE_integer(
    "image_size", None, "Input size in pixels, in place of the extractor's own.", lower_bound=75
)
_RESIZE = flags.DEFINE_enum(
    "resize", None, ["antialias", "tf1"], "Resize mode, in place of the extractor's own."
)
_ASPECT = flags.DEFINE_enum(
    "aspect", None, ["stretch", "pad"], "Aspect mode, in place of the extractor's own."
)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the weights of --extractor=random.")
_JSON = flags.DEFINE_string("json", None, "File to write the whole result to, as JSON.")
_SAVE_STATISTICS = flags.DEFINE_string(
    "save_statistics", None, "Folder to write real.npz and generated.npz to."
)
_SKIP_UNREADABLE = flags.DEFINE_bool(
    "skip_unreadable", False, "Leave unreadable images out and count them in the result."
)
_EXCLUDE_TRAINING_IMAGES = flags.DEFINE_bool(
    "exclude_training_images",
    False,
    "Leave out images that the extractor was trained or validated on.",
)
_CACHE_DIR = flags.DEFINE_string(
    "cache_dir",
    None,
    "Folder that keeps features by the content of image files: a killed run goes on, a repeated "
    "one computes only what changed. Holds hashes, no names.",
)


def main(real, generated):
    from fid_med import artifacts
    from fid_med.evaluation import compute_fid, is_statistics

    folders = [f"{folder}/file" for folder in (_SAVE_STATISTICS.value, _CACHE_DIR.value) if folder]
    for target in (_JSON.value, *folders):
        if target:
            artifacts.check_writable(target)
    if not (is_statistics(real) and is_statistics(generated)):
        cli.load_tensorflow()
    result = compute_fid(
        real,
        generated,
        _EXTRACTOR.value,
        batch_size=_BATCH_SIZE.value,
        image_size=_IMAGE_SIZE.value,
        resize=_RESIZE.value,
        aspect=_ASPECT.value,
        seed=_SEED.value,
        skip_unreadable=_SKIP_UNREADABLE.value,
        exclude_training_images=_EXCLUDE_TRAINING_IMAGES.value,
        cache_dir=_CACHE_DIR.value,
    )
    if _SAVE_STATISTICS.value:
        result.save_statistics(_SAVE_STATISTICS.value)
    if _JSON.value:
        artifacts.write_json(_JSON.value, result.to_dict())
    for line in result.summary():
        print(line)
    print(f"FID: {result.fid:.10g}")


if __name__ == "__main__":
    cli.run(main, USAGE, positional=("REAL", "GENERATED"))
