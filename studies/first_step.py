"""The first step of LSQ: that of the paper against the one with the smallest squared error, before and after training.

    python studies/first_step.py                                   # digits, 3 seeds; 15 minutes on 2 cores
    python studies/first_step.py --dataset=fashion_mnist --seeds=3

A small network with residual blocks is trained in float, quantized at 8, 4, 3 and 2 bits (the first and the last layer
with 8) with either rule for the first steps of weights and inputs, and trained again. SQNR is that of its logits before
the second training. Rows are means over the seeds with standard deviations.

Results: docs/results/models.md (the first step of LSQ).
"""

import argparse

import tfqnas  # isort: skip  # before TensorFlow, whose oneDNN it turns on

import keras
import numpy as np

from tfqnas.data import dataset
from tfqnas.data.data_config import DataConfig
from tfqnas.data.images import EvaluationImages
from tfqnas.quantizers import LSQ
from tfqnas.quantizers.lsq import MIN_STEP

RULES = ("paper", "squared error")
_BATCH = 32


class Paper(LSQ):
    """`LSQ` with the first step of the paper, `2 * mean(abs(v)) / sqrt(qp)`."""

    def set_from(self, x):
        self.step.assign(max(2 * float(np.abs(np.asarray(x)).mean()) / self.qp**0.5, MIN_STEP))


def network(size, channels, classes):
    layers = keras.layers
    x = inputs = keras.Input((size, size, channels))
    for filters, stride in ((16, 1), (24, 2), (32, 2)):
        x = layers.Conv2D(filters, 3, stride, "same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
        y = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
        y = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(y))
        y = layers.BatchNormalization(momentum=0.9)(layers.Conv2D(filters, 1, use_bias=False)(y))
        x = layers.Add()([x, y])
    return keras.Model(inputs, layers.Dense(classes)(layers.GlobalAveragePooling2D()(x)))


def train(model, images, labels, epochs, rate, seed):
    keras.utils.set_random_seed(seed)
    schedule = keras.optimizers.schedules.CosineDecay(rate, epochs * len(images) // _BATCH)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(schedule), loss)
    model.fit(images, labels, _BATCH, epochs, verbose=0)


def arrays(split, size, limit):
    """`(normalised images, labels)` of at most `limit` images."""
    images = np.concatenate([np.asarray(batch) for batch in EvaluationImages(split, size).batches(256)])
    return images[:limit], np.asarray(split.labels)[:limit]


def measured(found, seed, options):
    """Yields `(bits, rule, SQNR, accuracy before, accuracy after)`."""
    (x, y), (tests, targets) = (
        arrays(s, options.size, n) for s, n in ((found.train, options.train), (found.test, 4000))
    )
    keras.utils.set_random_seed(seed)
    model = network(options.size, found.channels, found.num_classes)
    train(model, x, y, 10, 3e-3, seed)
    expected = model.predict(tests, verbose=0)
    for bits in (8, 4, 3, 2):
        for rule, kind in zip(RULES, (Paper, LSQ), strict=True):
            quantized = tfqnas.quantize(model, kind(bits), kind(bits, signed=None))
            tfqnas.initialize(quantized, x[:256])
            logits = quantized.predict(tests, verbose=0)
            decibels = 10 * np.log10((expected**2).mean() / ((logits - expected) ** 2).mean())
            train(quantized, x, y, 4, 1e-3, seed)
            after = quantized.predict(tests, verbose=0)
            yield bits, rule, decibels, *((each.argmax(axis=1) == targets).mean() for each in (logits, after))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--data_dir", default=None)
    parser.add_argument("--size", type=int, default=16, help="pixels of a side")
    parser.add_argument("--train", type=int, default=6000, help="training images")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    found = dataset.load(DataConfig(dataset=options.dataset, data_dir=options.data_dir), 100)
    results = {}
    for seed in range(options.seeds):
        for bits, rule, *values in measured(found, seed, options):
            results.setdefault((bits, rule), []).append(values)
            print(f"seed {seed}, {bits} bits, {rule}: {values[0]:.1f} dB, {values[1]:.4f}, {values[2]:.4f}", flush=True)
    print(f"\n{options.dataset}, {options.seeds} seeds")
    print(f"{'bits':5} {'first step':14} {'SQNR, dB':>14} {'before':>16} {'after training':>16}")
    for (bits, rule), values in results.items():
        means, spreads = np.mean(values, axis=0), np.std(values, axis=0, ddof=min(1, options.seeds - 1))
        parts = [
            f"{means[0]:6.1f} ± {spreads[0]:.1f}",
            *(f"{m:.4f} ± {s:.4f}" for m, s in zip(means[1:], spreads[1:], strict=True)),
        ]
        print(f"{bits:<5} {rule:14} {parts[0]:>14} {parts[1]:>16} {parts[2]:>16}")


if __name__ == "__main__":
    main()
