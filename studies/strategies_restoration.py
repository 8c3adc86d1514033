"""Compares strategies for each layer (DQSS) with each single strategy on super-resolution, by PSNR and SSIM on Y.

    python studies/strategies_restoration.py --model=runs/edsr_x2.keras --mode=ptq --bits=8,6,4
    python studies/strategies_restoration.py --model=runs/edsr_x2.keras --mode=qat --bits=4 \\
        --strategies=dqss,lsq,lsq_plus
    python studies/strategies_restoration.py --report --figure=sr_psnr.png

All strategies learn for the same number of steps on the same patches of the training photos, and are evaluated on the 7
test photos. Each result is a line of --results (a .jsonl file). The same command continues a study that was stopped
and does not repeat results. With --save the models are kept in a directory, for pictures and exports.

Results: docs/results/dqss_photos.md (super-resolution).
"""

import argparse
import pathlib
import time

import results
from results import numbers

from tfqnas.dqss.candidates import singles
from tfqnas.dqss.quantize_settings import LOSSES, PostTrainingSettings, TrainingSettings
from tfqnas.errors import UserError
from tfqnas.files import append_jsonl, read_jsonl
from tfqnas.quantizers import supports

KEY = ("network", "mode", "bits", "strategy", "seed")
DQSS, DEPLOYABLE = "dqss", "dqss_deployable"
SINGLES = singles()
COMPARED = (DQSS, *SINGLES)
NAMES = (DEPLOYABLE, *COMPARED)


def candidates_of(strategy, bits):
    """Settings for a strategy of `NAMES`: a dict, or None where it does not exist at this bit width."""
    if strategy in (DQSS, DEPLOYABLE):
        # What is exported rounds its stream of residual sums to 8 bits: the search sees that.
        return {"deployable": True, "integer_aware": True} if strategy == DEPLOYABLE else {}
    pair = dict(zip(("weights", "inputs"), SINGLES[strategy], strict=True))
    if not all(supports(name, bits, role) for role, name in pair.items()):
        return None
    return {role: (name,) for role, name in pair.items()}


def missing_cases(known, network, arguments, settings):
    """Records of `KEY` that have no result yet, in the order in which they are wanted.

    Raises:
        UserError: where those that have one were made with other `settings`.
    """
    done = {tuple(row[name] for name in KEY): row for row in known}
    wanted = [
        (network, arguments.mode, bits, strategy, seed)
        for seed in arguments.seeds
        for bits in arguments.bits
        for strategy in arguments.strategies
    ]
    results.refuse_other_settings([done[key] for key in wanted if key in done], settings, arguments.results)
    return [
        dict(zip(KEY, key, strict=True))
        for key in wanted
        if key not in done and candidates_of(key[3], key[2]) is not None
    ]


def config_of(case, arguments):
    """The settings of a case."""
    values = {"bits": case["bits"], "seed": case["seed"], "batch_size": arguments.batch_size}
    values |= candidates_of(case["strategy"], case["bits"])
    if case["mode"] == "qat":
        own = {"train_steps": arguments.train_steps, "learning_rate": arguments.learning_rate}
        return TrainingSettings(**values, **own, distill=arguments.distill)
    own = {"steps": arguments.steps, "tune_steps": arguments.steps // 3, "refine_images": arguments.refine_images}
    config = PostTrainingSettings(**values, **own, loss=arguments.loss)
    return config.alone(*config.weights, *config.inputs) if case["strategy"] in SINGLES else config


def settings_in(arguments):
    """What a result depends on besides its case, JSON data."""
    own = ("train_steps", "learning_rate") if arguments.mode == "qat" else ("images", "steps", "loss")
    return {name: getattr(arguments, name) for name in ("patch", "batch_size", *own)}


def computed(case, model, task, arguments):
    """The row of a case."""
    began = time.perf_counter()
    result = results.searched(model, task, config_of(case, arguments), arguments.images)
    seconds = time.perf_counter() - began
    if arguments.save:
        directory = pathlib.Path(arguments.save)
        directory.mkdir(parents=True, exist_ok=True)
        result.model.save(directory / "{network}_{mode}_{bits}_{strategy}_{seed}.keras".format(**case))
    return {
        **case,
        **task.evaluate(result.model),
        "seconds": round(seconds, 1),
        **results.chosen(result),
        "settings": settings_in(arguments),
    }


def run(arguments):
    """Computes what is missing."""
    from tfqnas.data import photos
    from tfqnas.runs import model_files
    from tfqnas.tasks.super_resolution import Photos
    from tfqnas.zoo.super_resolution import scale_of
    from tfqnas.zoo.upscaling import score

    known, network = read_jsonl(arguments.results), pathlib.Path(arguments.model).stem
    missing = missing_cases(known, network, arguments, settings_in(arguments))
    if not missing:
        return
    found, model = photos.load(arguments.data_dir or None), model_files.load_model(arguments.model)
    task = Photos(found.train, found.test, scale_of(model), score, arguments.patch)
    if not any(row["network"] == network and row["strategy"] == "float" for row in known):
        of_float = score(model, found.test)
        for name, prefix in (("float", ""), ("bicubic", "bicubic_")):
            row = {metric: of_float[prefix + metric] for metric in ("psnr", "ssim")}
            key = dict(zip(KEY, (network, "", 32, name, 0), strict=True))
            append_jsonl(arguments.results, {**key, **row})
    for number, case in enumerate(missing, 1):
        words = f"[{number}/{len(missing)}] {network}, {case['mode']}, {case['bits']} bits, {case['strategy']}"
        try:
            row = computed(case, model, task, arguments)
            print(f"{words}: {row['psnr']:.3f} dB, SSIM {row['ssim']:.4f}, {row['seconds']:.0f} s", flush=True)
        except UserError as error:  # such as a training that diverges: a result, too
            row = {**case, "error": str(error)}
            print(f"{words}: {error}", flush=True)
        append_jsonl(arguments.results, row)


def show(arguments):
    """Prints the table, the best of each bit width first, and draws the figure."""
    rows = [row for row in read_jsonl(arguments.results) if "psnr" in row]
    if not rows:
        raise UserError(f"--results: {arguments.results} has nothing yet")
    print("| network | mode | bits | strategy | PSNR, dB | to float | SSIM | seconds |\n" + "|---" * 8 + "|")
    floats = {row["network"]: row["psnr"] for row in rows if row["strategy"] == "float"}
    for row in sorted(rows, key=lambda r: (r["network"], r["mode"], -r["bits"], -r["psnr"])):
        bits, loss = "-" if row["bits"] == 32 else row["bits"], row["psnr"] - floats[row["network"]]
        print(
            f"| {row['network']} | {row['mode']} | {bits} | {row['strategy']} | {row['psnr']:.2f} | {loss:+.2f} | "
            f"{row['ssim']:.4f} | {row.get('seconds', '')} |"
        )
    if arguments.figure:
        draw(rows, arguments.figure)
        print(f"written: {arguments.figure}")


def draw(rows, path):
    """One panel for each network and mode with several bit widths: PSNR against bits, DQSS in colour."""
    from tfqnas.report.canvas import new_figure, save
    from tfqnas.report.style import COLOURS, INK

    widths = {(row["network"], row["mode"], row["bits"]) for row in rows if row["mode"] and row["strategy"] == DQSS}
    panels = sorted({(net, mode) for net, mode, _ in widths if sum(w[:2] == (net, mode) for w in widths) > 1})
    if not panels:
        raise UserError("--figure: expected results of DQSS at two bit widths at least")
    columns, rows_of_panels = min(2, len(panels)), (len(panels) + 1) // 2
    figure = new_figure(4.6 * columns, 4.2 * rows_of_panels)
    for number, (network, mode) in enumerate(panels, 1):
        axes, own = figure.add_subplot(rows_of_panels, columns, number), [r for r in rows if r["network"] == network]
        bits = sorted({row["bits"] for row in own if row["mode"] == mode})
        axes.set_xticks(range(len(bits)), [f"{b} bits" for b in bits])
        for strategy, colour in zip(("float", "bicubic"), (INK, COLOURS[1]), strict=True):
            level = next(row["psnr"] for row in own if row["strategy"] == strategy)
            axes.axhline(level, color=colour, linewidth=1, linestyle="--")
            axes.annotate(
                strategy, (0.01, level), xycoords=("axes fraction", "data"), fontsize=8, color=colour, va="bottom"
            )
        _lines(axes, [row for row in own if row["mode"] == mode and row["strategy"] != DEPLOYABLE], bits)
        level = next(row["psnr"] for row in own if row["strategy"] == "bicubic")
        top = next(row["psnr"] for row in own if row["strategy"] == "float")
        axes.set_ylim(level - 2.5 * (top - level), top + 0.25 * (top - level))
        axes.set_title(f"{network}, {mode}", loc="left", fontsize=11, fontweight="bold", color=INK)
        axes.set_ylabel("PSNR on Y, dB")
    save(figure, path, "y")


def _lines(axes, rows, bits):
    from tfqnas.report.style import COLOURS, GREY

    for strategy in sorted({row["strategy"] for row in rows}, key=lambda name: name == DQSS):
        points = sorted((bits.index(row["bits"]), row["psnr"]) for row in rows if row["strategy"] == strategy)
        ours = strategy == DQSS
        xs, ys = zip(*points, strict=True)
        axes.plot(
            xs,
            ys,
            "o-",
            color=COLOURS[0] if ours else GREY,
            alpha=1 if ours else 0.45,
            linewidth=2.2 if ours else 1,
            markersize=6 if ours else 4,
            label=DQSS if ours else None,
        )
    axes.plot([], [], "o-", color=GREY, alpha=0.45, linewidth=1, markersize=4, label="single strategies")
    axes.legend(loc="lower right", frameon=False, fontsize=9)


def names(text):
    if unknown := sorted(set(found := text.split(",")) - set(NAMES)):
        raise argparse.ArgumentTypeError(f"expected some of {','.join(NAMES)}, received {','.join(unknown)}")
    return found


def parsed(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="", help="a float .keras file of super-resolution")
    parser.add_argument("--data_dir", default="", help="of the prepared photos")
    parser.add_argument("--mode", choices=["ptq", "qat"], default="ptq")
    parser.add_argument("--bits", type=numbers, default=[8, 6, 4])
    parser.add_argument("--seeds", type=numbers, default=[0])
    parser.add_argument("--strategies", type=names, default=list(COMPARED), help="by default dqss and all single")
    parser.add_argument("--images", type=int, default=128, help="patches of the calibration")
    parser.add_argument("--patch", type=int, default=32, help="height and width of low-resolution patches")
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--steps", type=int, default=90, help="of ptq; a third more for tuning")
    parser.add_argument("--loss", choices=LOSSES, default="luma", help="of ptq, against the float model")
    parser.add_argument("--refine_images", type=int, default=64)
    parser.add_argument("--train_steps", type=int, default=300, help="of qat")
    parser.add_argument("--learning_rate", type=float, default=0.01, help="of qat")
    parser.add_argument("--distill", type=float, default=0.5, help="of qat")
    parser.add_argument("--results", default="runs/restoration.jsonl")
    parser.add_argument("--save", default="", help="a directory for the models")
    parser.add_argument("--report", action="store_true", help="the table of what is there, nothing is computed")
    parser.add_argument("--figure", default="", help="a .png to draw")
    arguments = parser.parse_args(argv)
    if not arguments.model and not arguments.report:
        parser.error("--model: expected a float .keras file, see tools/train_float.py")
    return arguments


def main(argv=None):
    results.study(parsed(argv), run, show)


if __name__ == "__main__":
    main()
