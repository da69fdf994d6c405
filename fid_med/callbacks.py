"""FID in the training loop: a Keras callback that measures a generator as it learns."""

import contextlib
import math
import time
from collections.abc import Callable

import keras
import numpy as np

from fid_med.data.images import check_pixels
from fid_med.data.sources import open_source
from fid_med.errors import DataError
from fid_med.evaluation.account import SMALL_SAMPLE, ImageAccount, small_sample_warnings
from fid_med.evaluation.extraction import (
    IF_SMALL,
    ExtractionOptions,
    FeatureSet,
    empty_statistics,
    extract,
)
from fid_med.evaluation.generators import NotFiniteError, callable_source, model_source
from fid_med.evaluation.inputs import is_statistics, statistics_account
from fid_med.extractors.keras_settings import undisturbed
from fid_med.extractors.registry import loaded_extractor
from fid_med.metrics.debiased_fid import debiased_fid
from fid_med.metrics.feature_files import load_features
from fid_med.metrics.frechet import factored, frechet_distance
from fid_med.metrics.statistics import FeatureStatistics, check_comparable
from fid_med.metrics.variance_decomposition import LEAST
from fid_med.utils.progress import say, warn

# Splits of the debiased FID: their error is a tenth of its standard error, and the same splits are
# drawn in every epoch.
_REPLICATES = 100


class FIDCallback(keras.callbacks.Callback):
    """Measures the FID of a generator every few epochs of its training.

    The extractor and the reference are loaded once, when the callback is made. Each measurement
    generates the same images (from the same latent vectors or seeds), so that epochs differ only by
    the generator. The training's random numbers and its dtype policy are left unchanged, and the
    extractor computes in float32 whatever the policy.

    `logs["fid"]` is set for the history and for later callbacks: list this callback before
    `CSVLogger`, `TensorBoard` or `ModelCheckpoint(monitor="fid", mode="min")`. It is NaN in epochs
    without a measurement. If the generator returns NaN or infinity, it is NaN too, with a warning,
    and the training continues.

    With fewer than 2,048 images per side the FID is biased upward. Then `logs["debiased_fid"]` is
    set as well, if the features of the real images are known: the reference is a folder, an array
    or a dataset, or a `.npz` that `compute_fid.py real_images --save_statistics=FOLDER
    --save_features` has written.

    Example:

    ```python
    import keras
    import fid_med

    generator = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(80 * 80, activation="tanh"),
            keras.layers.Reshape((80, 80, 1)),
        ]
    )
    fid = fid_med.FIDCallback(
        generator, "real_images", "chest/extractor.keras", output_range=(-1, 1), num_generated=16
    )
    print(fid.measure())
    ```

    In training, it is one of the callbacks: `gan.fit(dataset, epochs=100, callbacks=[fid])`.

    Attributes:
      results: a dict for each measurement: `epochs_trained`, the epoch's number as Keras prints it,
        from 1; `epoch`, its number from 0, as in the table of `CSVLogger`; `fid`; `seconds`; and,
        where the debiased FID is computed, `debiased_fid` with the ends of its 95 % interval,
        `debiased_low` and `debiased_high`.
      reference: `FeatureStatistics` of the real images.
      extractor: the loaded `FeatureExtractor`.
    """

    def __init__(
        self,
        generator: keras.Model | Callable[..., np.ndarray],
        reference,
        extractor="imagenet",
        *,
        output_range: tuple[float, float] | None = None,
        latent_dim: int | None = None,
        every: int = 1,
        num_generated: int = SMALL_SAMPLE,
        batch_size: int = 32,
        seed: int = 0,
        name: str = "fid",
    ):
        """Loads the extractor and computes the reference.

        Args:
          generator: a Keras model from latent vectors, float32 [B, latent_dim], standard normal, to
            images [B, H, W, 1] or [B, H, W, 3] of any float dtype; or a callable that takes a count
            and returns up to that many images, uint8 [n, H, W] or [n, H, W, 3]. A callable with a
            parameter `seed` receives one, the same in every epoch. Otherwise the global generators
            of NumPy and Python are seeded for the call, and TensorFlow's is not.
          reference: real images: `FeatureStatistics`, the path of their `.npz`, a folder, an array
            or a dataset, as for `compute_fid`.
          extractor: a `FeatureExtractor`, or a name or path as for `load_extractor`.
          output_range: values of black and of white in the generator model's output, such as
            (-1, 1); required for a model.
          latent_dim: length of a latent vector; by default that of the model's input.
          every: number of epochs between measurements; the last epoch is always measured.
          num_generated: number of images per measurement. FIDs of different counts are not
            comparable.
          batch_size: number of images per pass through the extractor.
          seed: seed of the latent vectors.
          name: name of the value in the logs; that of the debiased FID is `debiased_` and this
            name.

        Raises:
          FidMedError: a reference or an extractor that cannot be used, or of different extractors.
          DataError: a model without `output_range`, or counts below their minimum.
        """
        super().__init__()
        if every < 1 or num_generated < 2:
            raise DataError(
                f"every {every}, num_generated {num_generated}: expected at least 1 epoch and 2 "
                "images"
            )
        self._every, self._count, self._batch_size = every, num_generated, batch_size
        self._seed, self._name = seed, name
        is_model = isinstance(generator, keras.Model)
        self._source = (
            model_source(generator, latent_dim, output_range, num_generated, seed)
            if is_model
            else callable_source(generator, seed)
        )
        self._ready = not is_model or generator.built
        self.results: list[dict] = []
        with undisturbed():
            self.extractor = loaded_extractor(extractor)
            self._real = _reference(reference, self.extractor, batch_size, num_generated)
        self.reference = self._real.statistics
        # Factored once: it would cost as much as some hundred images in every measurement.
        few = num_generated <= self.reference.dim
        self._compared = factored(self.reference) if few else self.reference
        accounts = [self._real.account, ImageAccount("callable", num_generated)]
        self._small = any(account.few for account in accounts)
        self._with_debiased = self._small and _enough(self._real, num_generated)
        for line in small_sample_warnings(accounts):
            warn(line)
        say(self._describe())

    def _describe(self):
        """Says what will be measured, and when."""
        known = self.reference.count is not None
        real = f"{self.reference.count} real images" if known else "real images of unknown count"
        when = "epoch" if self._every == 1 else f"{self._every} epochs, and after the last"
        line = f"{self._name}: {self._count} generated images and {real}, after every {when}"
        if self._with_debiased:
            return f"{line}; debiased_{self._name} too, because there are few images"
        if self._small and self._real.features is None:
            line += (
                f"; for debiased_{self._name} give a folder, or statistics saved with "
                "--save_features"
            )
        return line

    def on_train_begin(self, logs=None):
        """Asks for two images, so that an unsuitable generator fails before the first epoch."""
        if self._ready:
            with undisturbed(self._seed), contextlib.suppress(NotFiniteError):
                images = np.asarray(self._source()(2))
                for image in images:
                    check_pixels(image, "generated image", images)

    def on_epoch_end(self, epoch, logs=None):
        """Measures the FID if it is due, and adds it to the logs."""
        last = epoch + 1 == (self.params or {}).get("epochs")
        found = {}
        if (epoch + 1) % self._every == 0 or last:
            found = self._measure(epoch)
        if logs is not None:
            logs |= self._named(found)

    def _named(self, found):
        """The values of a measurement by their names in the logs; NaN where there is none."""
        values = {self._name: found.get("fid", math.nan)}
        if self._with_debiased:
            values[f"debiased_{self._name}"] = found.get("debiased_fid", math.nan)
        return values

    def _measure(self, epoch):
        start = time.perf_counter()
        try:
            found = self._values()
        except NotFiniteError as error:
            warn(f"epoch {epoch + 1}: {error}")
            found = {"fid": math.nan}
        seconds = time.perf_counter() - start
        self.results.append({
            "epoch": epoch, "epochs_trained": epoch + 1, **found, "seconds": seconds
        })  # fmt: skip
        return found

    def _values(self):
        """Measures the FID and, where there are few images, the debiased FID."""
        generated = self._generated(keep_features=self._with_debiased)
        found = {"fid": frechet_distance(self._compared, generated.statistics)}
        if self._with_debiased:
            debiased = debiased_fid(
                self._real.features,
                generated.features,
                real_patients=self._real.patients,
                replicates=_REPLICATES,
            )
            found["debiased_fid"] = debiased.value
            found["debiased_low"], found["debiased_high"] = debiased.low, debiased.high
        return found

    def measure(self) -> float:
        """Returns the FID of the generator in its present state."""
        return frechet_distance(self._compared, self._generated().statistics)

    def _generated(self, keep_features=False) -> FeatureSet:
        with undisturbed(self._seed):
            source = open_source(self._source(), "generated", self._count)
            options = ExtractionOptions(self._batch_size)
            found = extract(source, self.extractor, options, keep_features=keep_features)
        if found.account.few and not self._small:
            # A generator that repeats itself; said once, as for a small `num_generated`.
            self._small = True
            for line in small_sample_warnings([found.account]):
                warn(line)
        return found


def _reference(reference, extractor, batch_size, num_generated) -> FeatureSet:
    if is_statistics(reference):
        saved = load_features(reference)
        account = statistics_account(saved)
        found = FeatureSet(
            saved.statistics, account, features=saved.features, patients=saved.patients
        )
    elif isinstance(reference, FeatureStatistics):
        found = FeatureSet(reference, ImageAccount("statistics", reference.count))
    else:
        source = open_source(reference, "reference")
        small = min(num_generated, source.count or 0) < SMALL_SAMPLE
        options = ExtractionOptions(batch_size)
        found = extract(source, extractor, options, keep_features=small or IF_SMALL)
        if not small and not found.account.few:
            found.forget_features()
    found.warnings += check_comparable(found.statistics, empty_statistics(extractor))
    for line in [*extractor.warnings, *found.warnings]:
        warn(line)
    return found


def _enough(real: FeatureSet, num_generated: int) -> bool:
    """Whether the debiased FID can be computed."""
    if real.features is None:
        return False
    units = len(real.features) if real.patients is None else len(set(real.patients))
    return min(units, num_generated) >= LEAST
