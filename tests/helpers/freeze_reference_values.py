"""Writes fid_med/validation/reference_values.json: values that independent programs compute.

    pip install torch torch-fidelity pytorch-fid 'scipy<1.18'
    PYTHONPATH=. python tests/helpers/freeze_reference_values.py

Run it where the other programs are installed; TensorFlow is not needed. Only the fixed arrays,
float64, are taken from fid_med. The values are computed by the other programs alone.
"""

import importlib.metadata

import numpy as np
import torch
from pytorch_fid.fid_score import calculate_frechet_distance
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric

from fid_med.utils.files import write_json
from fid_med.validation import reference_values

COMMAND = "PYTHONPATH=. python tests/helpers/freeze_reference_values.py"


def torch_fidelity_fid(real, generated):
    statistics = [
        fid_features_to_statistics(torch.from_numpy(reference_values.numbers(name)))
        for name in (generated, real)
    ]
    return fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]


def pytorch_fid_fid(real, generated):
    moments = []
    for name in (real, generated):
        x = reference_values.numbers(name)
        moments += [np.mean(x, axis=0), np.cov(x, rowvar=False)]
    return calculate_frechet_distance(*moments)


def torch_fidelity_score(shuffle):
    logits = torch.from_numpy(reference_values.numbers("logits"))
    return isc_features_to_metric(
        logits, reference_values.SPLITS, shuffle, reference_values.SHUFFLE
    )


def value(program, call, obtained):
    packages = [program, "torch", "numpy", "scipy"]
    found = {package: importlib.metadata.version(package) for package in packages}
    return {
        "value": float(obtained),
        "program": program,
        "version": found.pop(program),
        "with": found,
        "call": call,
        "command": COMMAND,
    }


def main():
    fid = "metric_fid.fid_statistics_to_metric(fid_features_to_statistics(...), ...)"
    isc = f"metric_isc.isc_features_to_metric(logits, splits={reference_values.SPLITS}, shuffle="
    ordered, shuffled = torch_fidelity_score(False), torch_fidelity_score(True)
    mean, std = "inception_score_mean", "inception_score_std"
    tf, pf = "torch-fidelity", "pytorch-fid"
    shuffle_call = f"{isc}True, rng_seed={reference_values.SHUFFLE})"
    values = {
        "fid_torch_fidelity": value(tf, fid, torch_fidelity_fid("real", "generated")),
        "fid_few_torch_fidelity": value(tf, fid, torch_fidelity_fid("few_real", "few_generated")),
        "fid_pytorch_fid": value(
            pf,
            "fid_score.calculate_frechet_distance of np.mean and np.cov",
            pytorch_fid_fid("real", "generated"),
        ),
        "is_mean_in_order": value(tf, f"{isc}False)", ordered[mean]),
        "is_mean_shuffled": value(tf, shuffle_call, shuffled[mean]),
        "is_std_shuffled": value(tf, shuffle_call, shuffled[std]),
    }
    digests = {name: reference_values.sha256(name) for name in reference_values.SHAPES}
    write_json(reference_values.PATH, {"numbers": digests, "values": values})
    for name, entry in values.items():
        print(f"{name}: {entry['value']!r} ({entry['program']} {entry['version']})")


if __name__ == "__main__":
    main()
