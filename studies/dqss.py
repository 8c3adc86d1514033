"""The cost of a mixture of quantizers in training, as ratios for MobileNetV2 with candidates in every layer.

    python studies/dqss.py                       # batch 16, 96 px; about 5 minutes on 2 cores
    python studies/dqss.py --short               # a tiny network, to see that everything runs
    python studies/dqss.py --rounds=5 --bits=3

It measures a training step (forward, backward, update) of MobileNetV2 after `tfqnas.quantize`, in one process and in
turn (A B C A B C ...). A ratio is the median of the rounds' ratios, with the quartiles beside it.

mixed / LSQ         weights with LSQ, LSQ+, DoReFa and min-max, inputs with LSQ, LSQ+, PACT, DoReFa and min-max (PACT is
                    for inputs only), against LSQ alone.
mixed / every pair  the same against the mixture by its definition, a weighted sum of convolutions of each quantized
                    kernel with each quantized input.
LSQ / float         LSQ alone against no quantizers.
memory              peak of a separate process that does three steps, minus its memory after the imports.

Results: docs/results/dqss.md (cost of a mixed step).
"""

import argparse
import pathlib
import subprocess
import sys

import tfqnas  # isort: skip  # before TensorFlow, whose oneDNN it turns on

import keras
import tensorflow as tf

sys.path.append(str(pathlib.Path(__file__).parents[1] / "benchmarks"))  # whose ways of measuring it shares
from table import Row, in_turn, ratio_row, show, versions
from training import peak_memory

from tfqnas import quantizers
from tfqnas.graph.rebuilding import rebuilt
from tfqnas.layers import QuantConv2D, QuantDense, QuantDepthwiseConv2D, depthwise
from tfqnas.quantizers import Mixture
from tfqnas.train.optimizer import FusedSGD

WEIGHTS = ("lsq", "lsq_plus", "dorefa", "min_max")
INPUTS = ("lsq", "lsq_plus", "pact", "dorefa", "min_max")


def network(short):
    if not short:
        return keras.applications.MobileNetV2((96, 96, 3), weights=None)
    layers = [keras.Input((16, 16, 3)), keras.layers.Conv2D(8, 3, activation="relu")]
    layers += [keras.layers.DepthwiseConv2D(3, padding="same"), keras.layers.ReLU(), keras.layers.Conv2D(8, 1)]
    return keras.Sequential([*layers, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(10)])


def mixture(names, bits, role):
    return Mixture([quantizers.get(name, bits, role) for name in names])


class _EveryPair:
    """A quantized layer with mixtures as the definition has them: an operation for each pair of candidates."""

    def call(self, x):
        def weighted(mixed, tensor, batched):
            if mixed is None:
                return [(1.0, tensor)]
            parts = zip(tf.unstack(mixed.coefficients), mixed.candidates, strict=True)
            return [(a, candidate(tensor, batched=batched)) for a, candidate in parts]

        kernels = weighted(self.weight_quantizer, tf.convert_to_tensor(self.kernel), False)
        inputs = weighted(self.input_quantizer, x, True)
        return self.finish(tf.add_n([a * b * self.operation(y, w) for a, y in inputs for b, w in kernels]))


class PairsConv2D(_EveryPair, QuantConv2D):
    def operation(self, x, kernel):
        return self.convolution_op(x, kernel)


class PairsDepthwiseConv2D(_EveryPair, QuantDepthwiseConv2D):
    def operation(self, x, kernel):
        if self._has_fast_gradient:
            return depthwise.depthwise_conv2d(x, kernel, (1, *self.strides, 1))
        return tf.nn.depthwise_conv2d(x, kernel, (1, *self.strides, 1), self.padding.upper())


class PairsDense(_EveryPair, QuantDense):
    def operation(self, x, kernel):
        return tf.matmul(x, kernel)


PAIRS = {QuantConv2D: PairsConv2D, QuantDepthwiseConv2D: PairsDepthwiseConv2D, QuantDense: PairsDense}


def with_pairs(model):
    def replace(layer):
        return PAIRS[type(layer)].from_config(layer.get_config()) if type(layer) in PAIRS else None

    return rebuilt(model, replace)


def models(names, short, bits):
    """`{name: Keras model}` of the same weights, initialised."""
    keras.utils.set_random_seed(0)
    plain = network(short)
    images = tf.random.stateless_normal((16, *plain.input_shape[1:]), seed=(0, 1))
    lsq = {"weights": quantizers.get("lsq", bits, "weights"), "inputs": quantizers.get("lsq", bits, "inputs")}
    mixed = {"weights": mixture(WEIGHTS, bits, "weights"), "inputs": mixture(INPUTS, bits, "inputs")}
    found = {}
    for name in names:
        settings = {"float": {}, "lsq": lsq}.get(name, mixed)
        model = tfqnas.quantize(plain, **settings)
        if settings:
            tfqnas.initialize(model, images)
        found[name] = with_pairs(model) if name == "pairs" else model
    return found


def training_step(model, batch):
    """A function that does one step on random images."""
    images = tf.random.stateless_normal((batch, *model.input_shape[1:]), seed=(1, 2))
    labels = tf.random.stateless_uniform((batch,), (3, 4), maxval=model.output_shape[-1], dtype=tf.int32)
    optimizer = FusedSGD(learning_rate=1e-4, momentum=0.9, nesterov=True)
    optimizer.build(model.trainable_variables)

    @tf.function(autograph=False)
    def step():
        variables = model.trainable_variables
        with tf.GradientTape() as tape:
            y = model(images, training=True)
            loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(labels, y))
        gradients = tape.gradient(loss, [v.value for v in variables])
        optimizer.apply(gradients, variables)
        return loss

    return lambda: step().numpy()


def measure(arguments):
    made = models(("float", "lsq", "mixed", "pairs"), arguments.short, arguments.bits)
    steps = {name: training_step(model, arguments.batch) for name, model in made.items()}
    plain, lsq, mixed = in_turn([steps[name] for name in ("float", "lsq", "mixed")], arguments.rounds)
    yield ratio_row("mixed / LSQ", mixed, lsq, 2.2)
    yield ratio_row("LSQ / float", lsq, plain)
    mixed, pairs = in_turn([steps["mixed"], steps["pairs"]], max(2, arguments.rounds // 4))
    yield ratio_row("mixed / every pair", mixed, pairs)
    memory = {}
    for name in ("lsq", "mixed"):
        command = [sys.executable, __file__, *sys.argv[1:], f"--memory={name}"]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        memory[name] = float(result.stdout.split()[-1])
    spread = f"{memory['mixed']:,.0f} / {memory['lsq']:,.0f} MB"
    yield Row("memory: mixed / LSQ", memory["mixed"] / memory["lsq"], spread)


def measure_memory(arguments):
    """Peak memory in MB of three training steps, less that of the imports."""
    before = peak_memory()
    name = arguments.memory
    step = training_step(models((name,), arguments.short, arguments.bits)[name], arguments.batch)
    for _ in range(3):
        step()
    return peak_memory() - before


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="a tiny network and few rounds: the ratios mean nothing")
    parser.add_argument("--rounds", type=int, default=0, help="rounds of measurement; 0: 15, or 2 with --short")
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument("--memory", help=argparse.SUPPRESS)  # of whom; prints the memory and nothing else
    arguments = parser.parse_args()
    arguments.rounds = arguments.rounds or (2 if arguments.short else 15)
    arguments.batch = 4 if arguments.short else 16
    if arguments.memory:
        print(measure_memory(arguments))
        return
    what = "a tiny network" if arguments.short else "MobileNetV2, 96 px"
    print(
        f"{versions('tensorflow', 'keras', 'numpy')}\n{what}, batch {arguments.batch}, {arguments.bits} bits, "
        f"{arguments.rounds} rounds",
        flush=True,
    )
    show(measure(arguments))


if __name__ == "__main__":
    main()
