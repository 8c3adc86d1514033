"""Compares strategies for each layer (DQSS) with each single strategy on EfficientNet-Lite0 with ImageNet weights.

    python studies/strategies_zoo.py --bits=8,6,5,4
    python studies/strategies_zoo.py --report --figure=dqss_lite0.png

Quantization is post-training and without labels, calibrated on crops of 16 of the training photos. It is evaluated by
agreement with the float model on crops of the 5 others and of the 7 test photos, and by accuracy on the 20 labelled
photographs. All strategies have the same crops and learn for the same number of steps. With --size search and
calibration use smaller crops, which is cheaper; evaluation is always at 224 pixels. Each result is a line of --results
(a .jsonl file) and is not computed again. Intervals are at 95%. That of agreement is a bootstrap over the photos, since
crops of one photo are alike; that of accuracy is by Wilson's formula.

Results: docs/results/dqss_photos.md (EfficientNet-Lite0).
"""

import argparse
import time

import numpy as np
import results
from results import numbers
from scipy.stats import binomtest
from strategies_restoration import COMPARED, DQSS, KEY, candidates_of, missing_cases, names

from tfqnas.dqss.quantize_settings import PostTrainingSettings
from tfqnas.errors import UserError
from tfqnas.files import append_jsonl, read_jsonl
from tfqnas.tasks.classification import agreement

NETWORK, SIZE = "efficientnet_lite0", 224
# Training photos for the calibration; the others are among those that judge.
CALIBRATING, EACH = 16, 42
SAMPLES = 10_000
SETTINGS = ("images", "size", "steps", "batch_size", "guard", "refine", "refine_images", "crops", "weights", "inputs")


def crops_to_judge(photos, each):
    """uint8 (photos x each, 224, 224, 3): `each` crops of every photo, one photo after the other."""
    from tfqnas.data import photos as data

    return np.concatenate([data.crops([photo], SIZE, each, 1 + number) for number, photo in enumerate(photos)])


class Judge:
    """Compares models with the float one on crops that none was calibrated on.

    Args:
        model: the float Keras model. photos: list of uint8 (h, w, 3). each: crops of a photo.
    """

    def __init__(self, model, photos, each):
        from tfqnas import zoo

        self.pixels, self.each = _normalized(crops_to_judge(photos, each)), each
        images, self.labels = zoo.labelled_photos()
        self.labelled = _normalized(images)
        self.reference = self.logits(model, self.pixels)

    def figures(self, model):
        """`{"agreement", "kl", "cosine", "right", "same"}`; same: crops of each photo with the float prediction."""
        given = self.logits(model, self.pixels)
        same = given.argmax(1) == self.reference.argmax(1)
        right = int((self.logits(model, self.labelled).argmax(1) == self.labels).sum())
        return {
            **agreement(given, self.reference),
            "right": right,
            "of": len(self.labels),
            "same": same.reshape(-1, self.each).sum(1).tolist(),
            "crops": self.each,
        }

    @staticmethod
    def logits(model, pixels, batch_size=42):
        import tensorflow as tf

        run = tf.function(lambda x: model(x, training=False), autograph=False, reduce_retracing=True)
        parts = [run(tf.constant(pixels[i : i + batch_size])) for i in range(0, len(pixels), batch_size)]
        return np.concatenate([np.asarray(part) for part in parts])


def _normalized(pixels):
    return (pixels.astype(np.float32) - 128.0) / 128.0


def interval(same, each, seed=0):
    """95% of the share of crops that agree, by a bootstrap over the photos.

    Args:
        same: of each photo, how many of its `each` crops agree; for a difference of two models, the difference.
    """
    drawn = np.random.default_rng(seed).integers(len(same), size=(SAMPLES, len(same)))
    return tuple(np.percentile(np.asarray(same)[drawn].mean(1) / each, (2.5, 97.5)).tolist())


def candidates(case, arguments):
    """Settings of a case's strategy; of DQSS those to choose from."""
    if case["strategy"] != DQSS:
        return candidates_of(case["strategy"], case["bits"])
    return {role: tuple(getattr(arguments, role)) for role in ("weights", "inputs")}


def run(arguments):
    """Computes what is missing."""
    known = read_jsonl(arguments.results)
    settings = {name: getattr(arguments, name) for name in SETTINGS}
    missing = missing_cases(known, NETWORK, arguments, settings)
    if not missing:
        return
    from tfqnas import zoo
    from tfqnas.data import photos
    from tfqnas.dqss.post_training import search_post_training

    found, model = photos.load(arguments.data_dir or None), zoo.load(NETWORK)
    judge = Judge(model, [*found.test, *found.train[CALIBRATING:]], arguments.crops)
    if not any(row["strategy"] == "float" for row in known):
        key = dict(zip(KEY, (NETWORK, "", 32, "float", 0), strict=True))
        append_jsonl(arguments.results, {**key, **judge.figures(model)})
    images = _normalized(photos.crops(found.train[:CALIBRATING], arguments.size, arguments.images, 0))
    smaller = zoo.with_input_size(model, (arguments.size, arguments.size))
    for number, case in enumerate(missing, 1):
        words, began = f"[{number}/{len(missing)}] {case['bits']} bits, {case['strategy']}", time.perf_counter()
        config = PostTrainingSettings(
            bits=case["bits"],
            seed=case["seed"],
            **candidates(case, arguments),
            guard=arguments.guard,
            steps=arguments.steps,
            tune_steps=arguments.steps // 3,
            batch_size=arguments.batch_size,
            refine=arguments.refine,
            refine_images=arguments.refine_images,
        )
        if case["strategy"] != DQSS:
            config = config.alone(*config.weights, *config.inputs)
        try:
            result = search_post_training(smaller, images, config)
        except UserError as error:
            append_jsonl(arguments.results, {**case, "error": str(error)})
            print(f"{words}: {error}", flush=True)
            continue
        seconds = time.perf_counter() - began
        quantized = zoo.with_input_size(result.model, (SIZE, SIZE))
        row = {
            **case,
            **judge.figures(quantized),
            "seconds": round(seconds, 1),
            **results.chosen(result),
            "settings": settings,
        }
        append_jsonl(arguments.results, row)
        print(
            f"{words}: agreement {row['agreement']:.3f}, KL {row['kl']:.3f}, {row['right']} of {row['of']} right, "
            f"{seconds:.0f} s",
            flush=True,
        )


def show(arguments):
    """Prints the table, the best of each bit width first, and draws the figure."""
    rows = [row for row in read_jsonl(arguments.results) if "agreement" in row]
    if not rows:
        raise UserError(f"--results: {arguments.results} has nothing yet")
    print(
        "| bits | strategy | agreement | 95% | DQSS minus this, 95% | KL, nats | cosine | labelled photos | 95% | "
        "seconds |\n" + "|---" * 10 + "|"
    )
    for row in sorted(rows, key=lambda r: (-r["bits"], -r["agreement"])):
        low, high = interval(row["same"], row["crops"])
        down, up = binomtest(row["right"], row["of"]).proportion_ci(method="wilson")
        bits = "-" if row["bits"] == 32 else row["bits"]
        print(
            f"| {bits} | {row['strategy']} | {row['agreement']:.1%} | {low:.1%} to {high:.1%} | "
            f"{_difference(row, rows)} | {row['kl']:.3f} | {row['cosine']:.4f} | {row['right']} of {row['of']} | "
            f"{down:.0%} to {up:.0%} | {row.get('seconds', '')} |"
        )
    if arguments.figure:
        draw(rows, arguments.figure)
        print(f"written: {arguments.figure}")


def _difference(row, rows):
    """How much more DQSS agrees than a strategy at its bit width, an interval in points."""
    ours = [r for r in rows if r["strategy"] == DQSS and r["bits"] == row["bits"]]
    if not ours or row is ours[0]:
        return ""
    differences = np.subtract(ours[0]["same"], row["same"])
    low, high = interval(differences, row["crops"])
    return f"{100 * differences.mean() / row['crops']:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def draw(rows, path):
    """Agreement against bits, a dot and its interval for each strategy."""
    from tfqnas.report.canvas import new_figure, save
    from tfqnas.report.style import COLOURS, GREY, INK

    bits = sorted({row["bits"] for row in rows if row["bits"] != 32})
    strategies = [name for name in COMPARED if any(row["strategy"] == name for row in rows)]
    figure = new_figure(9.0, 4.6)
    axes = figure.add_subplot()
    for place, strategy in enumerate(strategies):
        own = sorted((row for row in rows if row["strategy"] == strategy), key=lambda row: row["bits"])
        xs = [bits.index(row["bits"]) + 0.8 * ((place + 0.5) / len(strategies) - 0.5) for row in own]
        ys = [row["agreement"] for row in own]
        ends = np.array([interval(row["same"], row["crops"]) for row in own]).T
        colour = COLOURS[0] if strategy == DQSS else [*COLOURS[1:], GREY, INK][(place - 1) % 7]
        axes.errorbar(
            xs,
            ys,
            yerr=np.abs(ends - ys),
            fmt="D" if strategy == DQSS else "o",
            color=colour,
            markersize=8 if strategy == DQSS else 5,
            linewidth=1.2,
            label=strategy,
        )
    axes.set_xticks(range(len(bits)), [f"{b} bits" for b in bits])
    axes.set_ylabel("crops with the float model's prediction")
    axes.yaxis.set_major_formatter(lambda y, _: f"{y:.0%}")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=9)
    axes.set_title(
        "EfficientNet-Lite0, post-training: agreement on photos not calibrated on, 95%",
        loc="left",
        fontsize=11,
        fontweight="bold",
        color=INK,
    )
    save(figure, path, "y")


def words(text):
    return text.split(",")


def parsed(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", default="", help="of the prepared photos")
    parser.add_argument("--bits", type=numbers, default=[8, 6, 5, 4])
    parser.add_argument("--seeds", type=numbers, default=[0])
    parser.add_argument("--strategies", type=names, default=list(COMPARED), help="by default dqss and all single")
    parser.add_argument("--images", type=int, default=64, help="crops of the calibration")
    parser.add_argument("--steps", type=int, default=24, help="a third more for tuning")
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--size", type=int, default=SIZE, help="height and width of the crops of the calibration")
    parser.add_argument("--weights", type=words, default=[], help="candidates of dqss; by default those of the search")
    parser.add_argument("--inputs", type=words, default=[])
    parser.add_argument("--guard", type=int, default=4, help="single strategies that dqss tunes as well")
    parser.add_argument(
        "--refine",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="try other strategies layer by layer, the longest part",
    )
    parser.add_argument("--refine_images", type=int, default=16)
    parser.add_argument("--crops", type=int, default=EACH, help="of each of the 12 photos that judge")
    parser.add_argument("--results", default="runs/lite0.jsonl")
    parser.add_argument("--report", action="store_true", help="the table of what is there, nothing is computed")
    parser.add_argument("--figure", default="", help="a .png to draw")
    return parser.parse_args(argv, argparse.Namespace(mode="ptq"))


def main(argv=None):
    results.study(parsed(argv), run, show)


if __name__ == "__main__":
    main()
