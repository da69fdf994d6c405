"""Runs other programs in the interpreter where they are installed; fid_med is not needed there.

    python peer_worker.py versions
    python peer_worker.py command {pytorch-fid|torch-fidelity} WEIGHTS.pth REAL GENERATED
    python peer_worker.py serve

`versions` prints a JSON object of versions. `command` runs a program's whole job on two folders
with the weights of a file, and prints its value on the last line. `serve` reads requests from stdin
and answers them, one JSON object per line each.
"""

import importlib.metadata
import json
import os
import sys

PACKAGES = (
    "torch",
    "torchvision",
    "pytorch-fid",
    "torch-fidelity",
    "onnxruntime",
    "onnx",
    "numpy",
    "scipy",
)


def versions():
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def pytorch_fid_inception(weights):
    """Returns pytorch-fid's module of the network; it loads the given weights, without download."""
    import torch
    from pytorch_fid import inception

    inception.load_state_dict_from_url = lambda *_, **__: torch.load(weights)
    return inception


def pytorch_fid_network(weights):
    """Returns pytorch-fid's network for pixels that are already resized and scaled."""
    network = pytorch_fid_inception(weights).InceptionV3(
        [3], resize_input=False, normalize_input=False
    )
    return network.eval()


def command(program, weights, real, generated):
    """Runs a program's whole job with its default settings."""
    if program == "pytorch-fid":
        from pytorch_fid import fid_score

        pytorch_fid_inception(weights)
        workers = min(8, len(os.sched_getaffinity(0)))
        value = fid_score.calculate_fid_given_paths([real, generated], 50, "cpu", 2048, workers)
    else:
        import torch_fidelity

        value = torch_fidelity.calculate_metrics(
            input1=generated,
            input2=real,
            fid=True,
            cuda=False,
            feature_extractor_weights_path=weights,
            cache=False,
            verbose=False,
        )["frechet_inception_distance"]
    print(float(value))


class Server:
    """The jobs of `serve`; arrays are exchanged as .npy files."""

    def __init__(self):
        self.job = None
        self.result = None

    def weights(self, arrays, path):
        """Writes the arrays of an npz, with PyTorch's names, as a state dict."""
        import numpy as np
        import torch

        with np.load(arrays) as file:
            torch.save({name: torch.from_numpy(file[name]) for name in file.files}, path)

    def network(self, program, weights, pixels):
        """Prepares a network for one batch: float32 [B, 299, 299, 3], 0..255."""
        import numpy as np
        import torch

        pixels = np.load(pixels)
        if program == "torch-fidelity":
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

            network = FeatureExtractorInceptionV3(
                "inception-v3-compat", ["2048"], feature_extractor_weights_path=weights
            ).eval()
            # This network takes bytes, and scales and resizes them itself.
            batch = torch.from_numpy(np.rint(pixels).astype(np.uint8).transpose(0, 3, 1, 2).copy())

            def job():
                with torch.no_grad():
                    return network(batch)[0].numpy()

        else:
            batch = np.ascontiguousarray(((pixels - 128) / 128).transpose(0, 3, 1, 2), np.float32)
            network = pytorch_fid_network(weights)
            if program == "pytorch-fid":

                def job():
                    with torch.no_grad():
                        return network(torch.from_numpy(batch))[0].numpy()

            else:
                job = self._onnx(network, batch, f"{weights}.onnx")
        self.job = job

    def _onnx(self, network, batch, path):
        import onnxruntime
        import torch

        if not os.path.exists(path):
            torch.onnx.export(
                network,
                (torch.from_numpy(batch[:2]),),
                path,
                dynamo=False,
                input_names=["pixels"],
                dynamic_axes={"pixels": {0: "batch"}},
            )
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return lambda: session.run(None, {"pixels": batch})[0]

    def frechet(self, program, moments):
        """Prepares the distance between two sets of moments from an npz."""
        import numpy as np

        with np.load(moments) as file:
            first, second = ((file[f"mu{i}"], file[f"sigma{i}"]) for i in (1, 2))
        if program == "pytorch-fid":
            from pytorch_fid.fid_score import calculate_frechet_distance

            self.job = lambda: calculate_frechet_distance(*first, *second)
        else:
            from torch_fidelity.metric_fid import fid_statistics_to_metric

            sides = [{"mu": mu, "sigma": sigma} for mu, sigma in (first, second)]
            self.job = lambda: fid_statistics_to_metric(*sides, verbose=False)[
                "frechet_inception_distance"
            ]

    def run(self):
        """Runs the prepared job; only this is timed."""
        self.result = self.job()

    def save(self, path):
        """Writes the result of the job."""
        import numpy as np

        array = np.asarray(self.result)
        np.save(path, array.reshape(len(array), -1) if array.ndim else array)


def serve():
    # Answers have their own channel: anything that a library prints goes to stderr.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    server = Server()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            getattr(server, request.pop("do"))(**request)
            answer = {}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def main(job, *arguments):
    if job == "versions":
        print(json.dumps(versions()))
    else:
        {"command": command, "serve": serve}[job](*arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
