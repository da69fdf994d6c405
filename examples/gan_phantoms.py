#!/usr/bin/env python3
"""Trains a small GAN on phantoms and measures its FID as it learns."""

import pathlib

from absl import flags

from fid_med import cli

USAGE = """usage: gan_phantoms.py [flags]

Trains a small generative adversarial network on procedural radiographs, and measures the FID of its
images every few epochs with FIDCallback. It takes about two minutes on two cores and downloads
nothing. The scale of the FID depends on the extractor. With --extractor=random the values are
comparable only within one run, in which they should decrease."""

_OUTPUT_DIR = flags.DEFINE_string("output_dir", "gan_output", "Folder to write to.")
_EXTRACTOR = flags.DEFINE_string(
    "extractor", "random", "Extractor: random, imagenet, ttur, or the path of a file."
)
_EXTRACTOR_SIZE = flags.DEFINE_integer(
    "extractor_size", 75, "Input size in pixels; 0 for the extractor's own.", lower_bound=0
)
_PHANTOMS = flags.DEFINE_integer("phantoms", 384, "Number of phantoms to train on.", lower_bound=64)
_COMPARED = flags.DEFINE_integer(
    "compared", 256, "Number of other phantoms, and of generated images, per FID.", lower_bound=2
)
_EPOCHS = flags.DEFINE_integer("epochs", 40, "Number of passes over the phantoms.", lower_bound=1)
_EVERY = flags.DEFINE_integer("every", 5, "Number of epochs between two FIDs.", lower_bound=1)
_SEED = flags.DEFINE_integer(
    "seed", 0, "Seed of the phantoms, the weights and the latent vectors.", lower_bound=0,
    upper_bound=2**32 - 1,
)  # fmt: skip

SIZE = 64
LATENT_DIM = 64
AVERAGE = 0.98
BATCH = 16
BODY_PARTS = ("chest",)  # a network this small does not learn six views in two minutes


def build_generator():
    """Builds a small DCGAN generator: latent vectors [B, 64] to images [B, 64, 64, 1] in -1..1.

    Radford, Metz & Chintala 2016, figure 1, with nearest-neighbour upsampling and convolutions
    instead of transposed convolutions, which cause checkerboard artefacts.
    """
    import keras
    from keras import layers

    stages = [layers.Input((LATENT_DIM,)), layers.Dense(4 * 4 * 96), layers.Reshape((4, 4, 96))]
    for width in (64, 48, 32, 16):
        stages += [
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.UpSampling2D(),
            layers.Conv2D(width, 3, padding="same", use_bias=False),
        ]
    stages += [
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.Conv2D(1, 5, padding="same", activation="tanh", dtype="float32"),
    ]
    return keras.Sequential(stages, name="generator")


def build_discriminator():
    """Builds the discriminator: images [B, 64, 64, 1] in -1..1 to the logit that they are real."""
    import keras
    from keras import layers

    stages = [layers.Input((SIZE, SIZE, 1))]
    for width in (24, 48, 72, 96):
        # ELU instead of leaky ReLU, for which TensorFlow's graph optimiser fails.
        stages.append(layers.Conv2D(width, 4, strides=2, padding="same", activation="elu"))
    stages += [layers.Flatten(), layers.Dropout(0.3), layers.Dense(1, dtype="float32")]
    return keras.Sequential(stages, name="discriminator")


def build_gan(seed: int):
    """Builds a Keras model of both networks, trained by `fit` on images [B, 64, 64, 1] in -1..1."""
    import keras
    import tensorflow as tf

    class GAN(keras.Model):
        """The GAN of Goodfellow et al. 2014, with the non-saturating loss (section 3)."""

        def __init__(self):
            super().__init__()
            self.generator, self.discriminator = build_generator(), build_discriminator()
            # The moving average of the generator's weights, which varies less; the FID is its.
            self.averaged = build_generator()
            self.averaged.set_weights(self.generator.get_weights())
            self.seeds = keras.random.SeedGenerator(seed)
            self.rates = [keras.optimizers.Adam(4e-4, beta_1=0.5) for _ in range(2)]

        def call(self, latents):
            return self.averaged(latents)

        def train_step(self, real):
            latents = keras.random.normal((tf.shape(real)[0], LATENT_DIM), seed=self.seeds)
            with tf.GradientTape(persistent=True) as tape:
                generated = self.generator(latents, training=True)
                for_real = self.discriminator(real, training=True)
                for_generated = self.discriminator(generated, training=True)
                # Cross-entropy of a logit x: softplus(-x) for the label real, else softplus(x).
                judged = tf.reduce_mean(tf.nn.softplus(-for_real) + tf.nn.softplus(for_generated))
                fooled = tf.reduce_mean(tf.nn.softplus(-for_generated))
            for network, loss, rate in zip(
                (self.discriminator, self.generator), (judged, fooled), self.rates, strict=True
            ):
                gradients = tape.gradient(loss, network.trainable_variables)
                rate.apply(gradients, network.trainable_variables)
            for average, weight in zip(
                self.averaged.variables, self.generator.variables, strict=True
            ):
                if average.dtype.startswith("float"):  # not the state of random generators
                    average.assign(AVERAGE * average + (1 - AVERAGE) * weight)
            return {"discriminator_loss": judged, "generator_loss": fooled}

    gan = GAN()
    for rate, network in zip(gan.rates, (gan.discriminator, gan.generator), strict=True):
        rate.build(network.trainable_variables)
    gan.compile()
    gan.build((None, LATENT_DIM))
    return gan


def train(output_dir, extractor, *, phantoms, compared, epochs, every, seed) -> list[dict]:
    """Trains the GAN, and writes `samples.png`, `history.csv` and `fid.json`.

    Args:
      output_dir: folder to write to.
      extractor: a loaded `FeatureExtractor`.
      phantoms, compared, epochs, every, seed: see the flags.

    Returns:
      list of one dict per FID: epoch from 0 (-1 before training), fid, seconds.
    """
    import keras
    import numpy as np
    import tensorflow as tf

    from fid_med import FIDCallback
    from fid_med.phantoms.radiograph import phantom_set
    from fid_med.utils import plots
    from fid_med.utils.files import write_json
    from fid_med.utils.progress import say

    keras.utils.set_random_seed(seed)
    output_dir = pathlib.Path(output_dir)
    images, _ = phantom_set(phantoms, size=SIZE, seed=seed, body_parts=BODY_PARTS)
    # Not the training images, so that memorising them does not lower the FID.
    others, _ = phantom_set(compared, size=SIZE, seed=seed + 1, body_parts=BODY_PARTS)
    scaled = images[..., None].astype(np.float32) / 127.5 - 1
    batches = tf.data.Dataset.from_tensor_slices(scaled).shuffle(phantoms, seed=seed)
    gan = build_gan(seed)
    fid = FIDCallback(
        gan.averaged,
        others,
        extractor,
        output_range=(-1, 1),
        every=every,
        num_generated=compared,
        seed=seed,
    )
    sheet = [("phantoms", list(others[:8]))]
    latents = np.random.default_rng(seed).standard_normal((8, LATENT_DIM), np.float32)

    def report(epoch, logs):
        if not np.isnan(logs["fid"]):
            say(f"epoch {epoch + 1}: FID {logs['fid']:.4g}, {fid.results[-1]['seconds']:.1f} s")
            drawn = gan.averaged(latents, training=False).numpy()[..., 0]
            pixels = np.clip(np.rint((drawn + 1) * 127.5), 0, 255).astype(np.uint8)
            sheet.append((f"epoch {epoch + 1}\nFID {logs['fid']:.4g}", list(pixels)))

    start = fid.measure()
    say(f"before training: FID {start:.4g}")
    gan.fit(
        batches.batch(BATCH, drop_remainder=True).prefetch(2),
        epochs=epochs,
        shuffle=False,  # the dataset does
        verbose=0,
        callbacks=[
            fid,
            keras.callbacks.CSVLogger(str(output_dir / "history.csv")),
            keras.callbacks.LambdaCallback(on_epoch_end=report),
        ],
    )
    plots.contact_sheet(
        sheet, output_dir / "samples.png", "Procedural phantoms and images of a GAN; no patients"
    )
    write_json(
        output_dir / "fid.json",
        {"extractor": extractor.name, "images": compared, "before": start, "fid": fid.results},
    )
    return [{"epoch": -1, "fid": start}, *fid.results]


def main():
    from fid_med.utils.files import check_writable

    check_writable(pathlib.Path(_OUTPUT_DIR.value) / "history.csv")
    cli.load_tensorflow()
    from fid_med import load_extractor

    results = train(
        _OUTPUT_DIR.value,
        load_extractor(_EXTRACTOR.value, image_size=_EXTRACTOR_SIZE.value or None),
        phantoms=_PHANTOMS.value,
        compared=_COMPARED.value,
        epochs=_EPOCHS.value,
        every=_EVERY.value,
        seed=_SEED.value,
    )
    print(f"look at {pathlib.Path(_OUTPUT_DIR.value) / 'samples.png'}")
    for result in results:
        print(f"epoch {result['epoch'] + 1}: FID {result['fid']:.4g}")


if __name__ == "__main__":
    cli.run(main, USAGE)
