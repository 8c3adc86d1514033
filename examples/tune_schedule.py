"""Finds the settings of a training schedule with keras-tuner: learning rates, warm-up, soft labels, shares of epochs.

    .venv/bin/python examples/tune_schedule.py --directory=runs/tune

It uses the handwritten digits. Each trial trains one schedule, first the largest network and then its supernet, with
the same total number of epochs. Its score is the mean held-out accuracy of the supernet's largest and smallest subnet.
In the end the flags of the best schedule for tools/train.py are printed. After a stop at any moment, the same command
continues from the last checkpoint of its trial.

    tensorboard --logdir=runs/tune/events      # trials and their settings, under HParams

Several processes or hosts need keras-tuner's variables and a common directory:

    export KERASTUNER_ORACLE_IP=127.0.0.1 KERASTUNER_ORACLE_PORT=8500
    KERASTUNER_TUNER_ID=chief python examples/tune_schedule.py --directory=runs/tune &
    KERASTUNER_TUNER_ID=worker0 python examples/tune_schedule.py --directory=runs/tune &
    KERASTUNER_TUNER_ID=worker1 python examples/tune_schedule.py --directory=runs/tune
"""

import argparse
import dataclasses
import hashlib
import json
import pathlib
import sys

import keras
import keras_tuner
import tensorflow as tf

from tfqnas.errors import TrainingDivergedError, UserError, as_text
from tfqnas.files import read_json, write_json
from tfqnas.integrations.keras_tuner.remote import role
from tfqnas.progress import Progress
from tfqnas.runs.run import Run
from tfqnas.runs.training import train
from tfqnas.train.run_config import RunConfig

OBJECTIVE = keras_tuner.Objective("held_out_accuracy", "max")
# What is tuned; all else is as in `BASE` and the flags.
TUNED = (
    "largest_learning_rate",
    "supernet_learning_rate",
    "warmup_epochs",
    "distillation_weight",
    "largest_epochs",
    "supernet_epochs",
)
BASE = {"space": "tiny", "batch_size": 50, "recalibration_images": 300, "dropout": 0.0, "shift": 0.08, "zoom": 0.1}


class Schedule(keras_tuner.HyperModel):
    """A schedule of one bit width as a hypermodel: `build` makes its supernet, `fit` trains it in a run directory.

    Args:
        base: `RunConfig` of all that is not tuned. epochs: of the largest network and of the supernet together.
        directory: of the runs, in `runs/`, one for each combination of settings, and of `events/`.
    """

    def __init__(self, base: RunConfig, epochs: float, directory: pathlib.Path) -> None:
        super().__init__(name="schedule")
        self.base, self.epochs, self.directory = base, epochs, directory

    def config(self, hp: keras_tuner.HyperParameters) -> RunConfig:
        """The `RunConfig` of a trial; asked for without one, `hp` learns the space."""
        share = hp.Float("largest_share", 0.3, 0.7, step=0.1, default=0.5)
        settings = {
            "largest_learning_rate": hp.Float("largest_learning_rate", 0.01, 0.2, sampling="log", default=0.05),
            "supernet_learning_rate": (hp.Float("supernet_learning_rate", 0.005, 0.1, sampling="log", default=0.025),),
            "warmup_epochs": hp.Choice("warmup_epochs", [0.0, 0.5, 1.0], default=0.5),
            "distillation_weight": hp.Float("distillation_weight", 0.0, 1.0, step=0.25, default=0.5),
            "largest_epochs": round(share * self.epochs, 3),
            "supernet_epochs": (round((1 - share) * self.epochs, 3),),
        }
        text = json.dumps(settings, sort_keys=True)
        name = hashlib.sha256(text.encode()).hexdigest()[:10]
        return dataclasses.replace(self.base, run_dir=str(self.directory / "runs" / name), **settings)

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """The supernet that the schedule begins with, untrained."""
        return Run(self.config(hp)).networks.new_supernet(self.base.bits[0])

    def fit(self, hp: keras_tuner.HyperParameters, model: keras.Model, **_: object) -> dict[str, float]:
        """Trains the schedule, from its last checkpoint if there is one, and returns the objective and its parts."""
        config = self.config(hp)
        run = Run.create(config)
        done = run.directory / "score.json"
        if not done.exists():
            write_json(done, self._trained(run))
        scores = read_json(done)
        self._write_events(hp, run.directory.name, scores)
        return scores

    def _trained(self, run: Run) -> dict[str, float]:
        try:
            train(run, Progress([(stage.name, stage.epochs) for stage in run.stages], stream=sys.stderr))
        except TrainingDivergedError as error:  # a rate that is too high has the lowest score
            print(error)
            return {"held_out_accuracy": 0.0, "largest": 0.0, "smallest": 0.0}
        supernet = run.networks.load(run.stages[-1])
        found = {
            name: run.evaluator.accuracy(supernet, arch, "held_out")
            for name, arch in (("largest", run.space.largest()), ("smallest", run.space.smallest()))
        }
        return {"held_out_accuracy": sum(found.values()) / 2, **found}

    def _write_events(self, hp: keras_tuner.HyperParameters, name: str, scores: dict[str, float]) -> None:
        from tensorboard.plugins.hparams import api

        with tf.summary.create_file_writer(str(self.directory / "events" / name)).as_default(step=0):
            api.hparams(dict(hp.values), trial_id=name)
            for metric, value in scores.items():
                tf.summary.scalar(metric, value)


class _Kept(keras_tuner.Tuner):
    """Goes on from its first trial on; keras-tuner's own tuners do so only when one trial has ended."""

    def _populate_initial_space(self) -> None:
        super()._populate_initial_space()
        self.save()


class Bayesian(_Kept, keras_tuner.BayesianOptimization):
    """Bayesian optimisation that can be killed at any moment."""


class Random(_Kept, keras_tuner.RandomSearch):
    """Random search that can be killed at any moment."""


def parsed(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--directory", type=pathlib.Path, default=pathlib.Path("runs/tune"), help="for all that is made"
    )
    parser.add_argument("--dataset", default="digits", help="digits, a TFDS name or a folder")
    parser.add_argument("--data_dir", default="", help="where TFDS keeps its data sets")
    parser.add_argument("--space", default=BASE["space"], help="search space: a name or a JSON file")
    parser.add_argument("--bits", type=int, default=4, help="bit width of the supernet")
    parser.add_argument("--epochs", type=float, default=3.0, help="of the largest network and the supernet together")
    parser.add_argument("--trials", type=int, default=4, help="schedules that are tried")
    parser.add_argument("--held_out", type=int, default=300, help="training images that give the score")
    parser.add_argument("--tuner", choices=["bayesian", "random"], default="bayesian")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    for name in ("epochs", "trials", "held_out"):
        if getattr(arguments, name) <= 0:
            parser.error(f"--{name}: expected a number above 0, received {getattr(arguments, name)}")
    return arguments


def base_of(arguments: argparse.Namespace) -> RunConfig:
    """What all trials have in common. A directory of other settings is refused."""
    config = RunConfig(
        **{
            **BASE,
            "dataset": arguments.dataset,
            "data_dir": arguments.data_dir,
            "space": arguments.space,
            "bits": (arguments.bits,),
            "held_out": arguments.held_out,
            "seed": arguments.seed,
        }
    )
    settings = {"epochs": arguments.epochs, "tuner": arguments.tuner, **json.loads(config.to_json())}
    path = arguments.directory / "settings.json"
    for name, kept in (read_json(path) if path.exists() else {}).items():
        if name in settings and settings[name] != kept:
            raise UserError(
                f"--{name}={as_text(settings[name])}: {path} was made with --{name}={as_text(kept)}: give "
                "the same, or another --directory"
            )
    if not path.exists():
        write_json(path, settings)
    return config


def tuner_of(arguments: argparse.Namespace, model: Schedule) -> keras_tuner.Tuner:
    """keras-tuner's tuner, which goes on with what is in its directory."""
    known = keras_tuner.HyperParameters()
    model.config(known)
    kind = {"bayesian": Bayesian, "random": Random}[arguments.tuner]
    return kind(
        model,
        objective=OBJECTIVE,
        max_trials=arguments.trials,
        seed=arguments.seed,
        hyperparameters=known,
        directory=str(arguments.directory),
        project_name="keras_tuner",
    )


def main(argv: list[str] | None = None) -> None:
    arguments = parsed(argv)
    try:
        who = role()
        model = Schedule(base_of(arguments), arguments.epochs, arguments.directory)
        tuner = tuner_of(arguments, model)
        tuner.search()
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("\nstopped; the same command goes on")
    if who == "worker":
        return
    trials = sorted(tuner.oracle.trials.values(), key=lambda trial: -(trial.score or 0))
    for trial in trials:
        values = ", ".join(f"{name} {value:.4g}" for name, value in trial.hyperparameters.values.items())
        print(f"{trial.score or 0:.2%}  {values}")
    best = model.config(trials[0].hyperparameters)
    flags = " ".join(f"--{name}={as_text(getattr(best, name))}" for name in (*BASE, "dataset", "bits", *TUNED))
    print(f"the best is in {best.run_dir}; to train by it: tools/train.py {flags}")


if __name__ == "__main__":
    main()
