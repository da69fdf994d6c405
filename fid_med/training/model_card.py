"""The model card of an extractor (Mitchell et al. 2019), to publish it with."""

from collections.abc import Mapping

from fid_med.data.labelled import SPLITS

# YAML at the beginning, as the Hugging Face hub reads it.
_FRONT_MATTER = """---
library_name: keras
tags:
- fid
- radiography
- feature-extraction
---
"""
_USE = """## Intended use

Features for the Fréchet inception distance between real and generated radiographs of the kind
described here. FIDs of different extractors cannot be compared: report the fingerprint with the
FID. An extractor is biased in favour of its own training images: compare with images that it has
not seen.

It is not a medical device. Do not use its classifier for diagnosis.

```python
import fid_med

result = fid_med.compute_fid("real_images", "generated_images", "extractor.keras")
```

`extractor.keras` contains keyed hashes of the training images, by which fid_med recognises them,
and neither images nor names of files or patients.
"""


def model_card(record: Mapping) -> str:
    """Describes a training run for those who get its extractor.

    Args:
      record: content of `training.json`.

    Returns:
      Markdown, with the front matter of the Hugging Face hub. It names the data set, its labels and
      numbers, and no image, patient or path.
    """
    config, preprocessing = record["config"], record["preprocessing"]
    labels = [name.replace("|", "\\|") for name in record["labels"]]
    patients = record["patients"]
    of_patients = f"of {patients:,} patients" if patients else "of unknown patients"
    total = sum(split["count"] for split in record["splits"].values())
    start = record["lineage"][-1]
    lines = [
        _FRONT_MATTER,
        f"# InceptionV3 trained on {record['dataset']}",
        "",
        "A feature extractor for the Fréchet inception distance (FID), made by fid_med "
        f"{record['versions']['fid_med']}.",
        "",
        f"Fingerprint: `{record['fingerprint']}`",
        "",
        "## Data",
        "",
        f"{total:,} images {of_patients}, labelled {', '.join(labels)}.",
        "",
        f"| split | images | {' | '.join(labels)} |",
        f"| --- | --- |{' --- |' * len(labels)}",
    ]
    for part in SPLITS:
        split = record["splits"][part]
        counts = (f"{split['labels'][name]:,}" for name in record["labels"])
        lines.append(f"| {part} | {split['count']:,} | {' | '.join(counts)} |")
    lines += [
        "",
        "## Training",
        "",
        f"Recipe {config['recipe']}, from the weights {start['name']} (fingerprint "
        f"`{start['fingerprint']}`), at {preprocessing['height']} x {preprocessing['width']} pixels"
        f", optimizer {config['optimizer']}, learning rate {config['learning_rate']:g}, batches of "
        f"{config['batch_size']}, seed {config['seed']}. `training.json` has all settings.",
        "",
        "## Results",
        "",
        "| split | images | accuracy | balanced accuracy | AUC (95 % interval) |",
        "| --- | --- | --- | --- | --- |",
    ]
    for part, report in record["reports"].items():
        ends = report["auc_interval"]
        interval = f" ({ends[0]:.3f} to {ends[1]:.3f})" if ends else ""
        lines.append(
            f"| {part} | {report['count']:,} | {_format(report['accuracy'])} | "
            f"{_format(report['balanced_accuracy'])} | {_format(report['auc'])}{interval} |"
        )
    lines += [
        "",
        "The weights are those of the epoch with the highest AUC on the validation images, so "
        "results on these are too optimistic.",
        "",
        _USE,
    ]
    return "\n".join(lines)


def _format(value):
    return "undefined" if value is None else f"{value:.3f}"
