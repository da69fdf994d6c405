"""Packaging of fid_med: the library, its scripts and the command `fid-med`."""

import pathlib

import setuptools

HERE = pathlib.Path(__file__).parent
VERSION = {}
exec((HERE / "fid_med" / "version.py").read_text(encoding="utf-8"), VERSION)

# fid_med/data/dicom_decoders.py says which decodes what. imagecodecs 2025.3.30 is the last version
# for Python 3.10.
DICOM = [
    "pydicom>=3.0",
    "imagecodecs>=2025.3.30",
    "pylibjpeg>=2.0.1",
    "pylibjpeg-openjpeg>=2.3",
]

setuptools.setup(
    name="fid_med",
    version=VERSION["__version__"],
    description="Fréchet inception distance for radiographs, next to the published ImageNet FID",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE", "NOTICE"],
    python_requires=">=3.10",
    packages=setuptools.find_packages(include=["fid_med", "fid_med.*"]),
    # Scripts, not modules, so that site-packages gets no package named train or eval.
    scripts=[
        "train/train_classifier.py",
        "eval/compute_fid.py",
        "eval/compute_statistics_beam.py",
        "eval/disturbance_study.py",
        "eval/validate_reference.py",
    ],
    entry_points={"console_scripts": ["fid-med=fid_med.__main__:main"]},
    package_data={"fid_med": ["py.typed"], "fid_med.validation": ["reference_values.json"]},
    install_requires=[
        "tensorflow>=2.20",
        "keras>=3.10",
        "h5py>=3.11",
        "tensorflow-datasets>=4.9.7",
        "numpy>=1.26",
        "scipy>=1.12",
        "pillow>=10.1",
        "absl-py>=2.0",
        "tqdm>=4.64",
        "matplotlib>=3.8",
        # etils 1.14 dropped Python 3.10; without this, the pip of 3.10 backtracks for minutes.
        'etils<1.14; python_version < "3.11"',
        # tensorflow-datasets 4.9.10 needs it to prepare a data set, but leaves it to etils, which
        # dropped it in 1.15.
        "importlib_resources",
    ],
    # tensorflow_datasets.testing imports dill but does not depend on it.
    extras_require={
        "beam": ["apache-beam>=2.69"],
        "dicom": DICOM,
        "docs": ["pdoc>=15"],
        "hub": ["huggingface_hub>=0.23"],
        # TensorFlow 2.21 no longer depends on it.
        "tensorboard": ["tensorboard"],
        "test": [
            "pytest>=7.4",
            "pytest-xdist>=3.8",
            "ruff==0.17.6",
            "scikit-image>=0.22",
            "dill",
            *DICOM,
        ],
    },
    classifiers=[
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Medical Science Apps.",
    ],
)
