import dataclasses
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf

from tfqnas.errors import TrainingDivergedError, UserError
from tfqnas.files import read_jsonl
from tfqnas.spaces import SearchSpace, Stage
from tfqnas.train import checkpoint
from tfqnas.train.run_config import RunConfig

BATCH = 8
SPACE = SearchSpace(
    name="nano", resolutions=(8, 12), stem_channels=8, stages=(Stage(8, 2, (1, 2), (3, 5), (3, 4)),), head_channels=16
)


def epochs(steps):
    """The epochs that make so many steps of 1,300 images."""
    return steps * BATCH / 1300


@pytest.fixture(scope="module")
def space_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("space") / "nano.json"
    path.write_text(SPACE.to_json())
    return path


@pytest.fixture(scope="module")
def settings(space_file):
    """Settings of a run of a few steps in every stage."""
    return RunConfig(
        space=str(space_file),
        bits=(4, 3),
        batch_size=BATCH,
        held_out=100,
        recalibration_images=64,
        float_epochs=epochs(2),
        largest_epochs=epochs(2),
        supernet_epochs=(epochs(4),),
        warmup_epochs=epochs(1),
        evaluation_epochs=epochs(2),
        random_subnets=1,
        dropout=0.2,
        shift=0.1,
        rotation=5.0,
        checkpoint_steps=2,
    )


def trained(config):
    from tfqnas.runs.run import Run
    from tfqnas.runs.training import train

    run = Run.create(config)
    train(run, run.costs.progress())
    return run


def weights(run, name):
    """The last checkpoint of a stage: `(arrays by path, record)`."""
    loaded = run.checkpoints(run.stage(name)).load()
    assert loaded is not None
    return loaded


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.fixture(scope="module")
def finished(settings, tmp_path_factory):
    """A run of float, largest_b4, supernet_b4, supernet_b3, trained once for all tests, which only read it."""
    return trained(dataclasses.replace(settings, run_dir=str(tmp_path_factory.mktemp("runs") / "finished")))


@pytest.fixture
def copied(finished, tmp_path):
    """The same run in a directory that a test may change."""
    directory = tmp_path / "copy"
    shutil.copytree(finished.directory, directory)
    return dataclasses.replace(finished.config, run_dir=str(directory))


def test_a_run_leaves_every_stage_at_its_last_step(finished):
    assert [stage.name for stage in finished.stages] == ["float", "largest_b4", "supernet_b4", "supernet_b3"]
    for stage, steps in zip(finished.stages, (2, 2, 4, 4), strict=True):
        values, meta = weights(finished, stage.name)
        assert meta["step"] == steps
        assert all(np.all(np.isfinite(value)) for value in values.values())
    records = read_jsonl(finished.directory / "log.jsonl")
    ended = {r["stage"]: r for r in records if r.get("event") == "finished"}
    assert list(ended) == [stage.name for stage in finished.stages]
    assert ended["largest_b4"]["held_out"].keys() == {"largest"}
    assert ended["supernet_b3"]["held_out"].keys() == {"largest", "smallest"}
    assert all(0 <= record["input_wait"] <= 1 for record in ended.values())
    assert len(list((finished.directory / "events" / "supernet_b4").iterdir())) == 1


def test_tensorboard_shows_subnets_quantizers_augmented_images_and_settings(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata

    events = EventAccumulator(str(finished.directory / "events" / "supernet_b3"), size_guidance={"tensors": 0})
    events.Reload()
    tags = set(events.Tags()["tensors"])
    assert {f"{what}/{name}" for what in ("loss", "accuracy") for name in ("largest", "smallest", "random_1")} <= tags
    assert {"learning_rate", "gradient_norm", "held_out/largest", "held_out/smallest"} <= tags
    # A step of every quantizer, as it is at the last checkpoint.
    values, _ = weights(finished, "supernet_b3")
    steps = {path: value for path, value in values.items() if path.endswith("quantizer/step")}
    assert steps
    for path, value in steps.items():
        last = events.Tensors(f"quantizers/{path}")[-1]
        assert last.step == 4
        np.testing.assert_allclose(tf.make_ndarray(last.tensor_proto), np.mean(value), rtol=1e-6)
    width, height, *images = tf.make_ndarray(events.Tensors("inputs/augmented")[0].tensor_proto)
    assert (int(width), int(height), len(images)) == (12, 12, 8)
    assert len(set(images)) > 1
    content = events.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    settings = metadata.parse_session_start_info_plugin_data(content).hparams
    assert settings["batch_size"].number_value == BATCH and settings["bits"].string_value == "4,3"
    assert settings["stage"].string_value == "supernet_b3"


def test_held_out_accuracy_is_looked_at_while_training_but_not_twice_at_the_end(finished):
    looks = [r for r in read_jsonl(finished.directory / "log.jsonl") if r.get("event") == "evaluated"]
    assert [(r["stage"], r["step"]) for r in looks] == [("supernet_b4", 2), ("supernet_b3", 2)]
    assert all(r["held_out"].keys() == {"largest", "smallest"} for r in looks)


def test_accuracy_right_after_inheritance_is_in_the_log(finished):
    (record,) = [r for r in read_jsonl(finished.directory / "log.jsonl") if r.get("event") == "inherited"]
    assert (record["stage"], record["source"]) == ("supernet_b3", "supernet_b4")
    assert all(0 <= record[name] <= 1 for name in ("accuracy_before", "accuracy_old_statistics", "accuracy"))
    held_out = finished.evaluator.accuracy(finished.networks.supernet(4), finished.space.largest(), "held_out")
    assert record["accuracy_before"] == held_out


@pytest.mark.slow
def test_the_same_seed_gives_the_same_run_bit_by_bit(finished, settings, tmp_path):
    again = trained(dataclasses.replace(settings, run_dir=str(tmp_path / "again")))
    for stage in finished.stages:
        assert_same(weights(finished, stage.name)[0], weights(again, stage.name)[0])
    numbers = ("loss", "losses", "gradient_norm", "held_out", "learning_rate", "accuracy")
    logs = [
        [{name: r[name] for name in numbers if name in r} for r in read_jsonl(run.directory / "log.jsonl")]
        for run in (finished, again)
    ]
    assert logs[0] == logs[1]


def test_a_finished_run_trains_nothing(copied):
    before = len(read_jsonl(f"{copied.run_dir}/log.jsonl"))
    trained(copied)
    assert len(read_jsonl(f"{copied.run_dir}/log.jsonl")) == before


@pytest.mark.parametrize(
    ("name", "value"), [("supernet_learning_rate", (0.01,)), ("seed", 1), ("bits", (4, 2)), ("narrow_range", True)]
)
def test_other_settings_in_the_same_directory_are_refused_by_name(copied, name, value):
    from tfqnas.runs.run import Run

    with pytest.raises(UserError, match=rf"config\.json was made with `{name}="):
        Run.create(dataclasses.replace(copied, **{name: value}))


@pytest.mark.parametrize(("lowest", "fits"), [(32, True), (36, False)])
def test_a_space_for_much_larger_images_is_refused_with_the_reason(settings, tmp_path, lowest, fits):
    from tfqnas.runs.run import Run

    space = dataclasses.replace(SPACE, resolutions=(lowest, 40))
    (tmp_path / "space.json").write_text(space.to_json())
    config = dataclasses.replace(settings, run_dir=str(tmp_path / "run"), space=str(tmp_path / "space.json"))
    if fits:
        Run.create(config)
        return
    with pytest.raises(UserError, match="`space=nano`: expects images of 36 to 40 pixels, those of digits have 8 x 8"):
        Run.create(config)
    assert not (tmp_path / "run").exists()


def test_evaluation_images_are_kept_as_long_as_the_memory_allows(settings, tmp_path):
    from tfqnas.runs.run import Run

    size = 397 * 8 * 8  # bytes of the test images at 8 pixels
    run = Run(dataclasses.replace(settings, cache_gb=2.5 * size / 1e9))
    first, limited = run.evaluator.images("test", 8), run.evaluator.images("test", 8, 100)
    assert run.evaluator.images("test", 8) is first and len(limited) == 100 and limited.nbytes == 100 * 8 * 8
    run.evaluator.images("held_out", 12)  # 100 * 12 * 12: both stay
    assert run.evaluator.images("test", 8, 100) is limited
    run.evaluator.images("test", 12)  # does not fit beside the others
    assert run.evaluator.images("test", 8) is not first
    np.testing.assert_array_equal(next(iter(run.evaluator.images("test", 8).batches(5))), next(iter(first.batches(5))))


def test_settings_that_change_no_result_may_differ(copied):
    from tfqnas.runs.run import Run

    Run.create(dataclasses.replace(copied, checkpoint_steps=3))


def test_a_checkpoint_of_other_settings_is_refused_by_name(copied, finished):
    os.remove(f"{copied.run_dir}/config.json")
    expected = r"the checkpoint of stage supernet_b3 .* with `momentum=0\.9`.*`momentum=0\.5`"
    with pytest.raises(UserError, match=expected):
        run = trained(dataclasses.replace(copied, momentum=0.5))
        run.networks.supernet(3)


def test_a_truncated_checkpoint_falls_back_to_the_one_before_it(copied, finished, capsys):
    from tfqnas.runs.run import Run

    run = Run.existing(copied.run_dir)
    newest, before = run.checkpoints(run.stage("supernet_b3")).files()
    assert (newest.name, before.name) == ("step-00000004.npz", "step-00000002.npz")
    newest.write_bytes(newest.read_bytes()[:-1000])
    run = trained(copied)
    assert "truncated or damaged" in capsys.readouterr().out
    values, meta = weights(run, "supernet_b3")
    assert meta["step"] == 4
    assert_same(values, weights(finished, "supernet_b3")[0])


def test_a_loss_that_is_not_finite_stops_and_leaves_the_last_good_checkpoint(settings, tmp_path):
    from tfqnas.runs.run import Run
    from tfqnas.runs.training import train

    config = dataclasses.replace(
        settings,
        run_dir=str(tmp_path / "run"),
        bits=(4,),
        float_epochs=epochs(60),
        float_learning_rate=1e6,
        warmup_epochs=0.0,
        checkpoint_steps=1,
    )
    run = Run.create(config)
    with pytest.raises(TrainingDivergedError, match=r"stage float, step \d+ of 60, learning rate \S+e\+0[56]"):
        train(run, run.costs.progress())
    values, meta = weights(run, "float")
    assert 0 < meta["step"] < 60
    assert all(np.all(np.isfinite(value)) for value in values.values())
    assert not run.networks.finished(run.stage("float"))


def test_an_update_that_is_not_finite_is_never_saved(settings, tmp_path):
    """At the last step no further loss would show it."""
    from tfqnas.runs.run import Run
    from tfqnas.runs.training import train

    config = dataclasses.replace(
        settings,
        run_dir=str(tmp_path / "run"),
        bits=(4,),
        float_epochs=epochs(1),
        float_learning_rate=3e38,
        warmup_epochs=0.0,
        weight_decay=10.0,
    )
    run = Run.create(config)
    message = r"step 0 of 1, learning rate 3e\+38.*is not finite after the update"
    with pytest.raises(TrainingDivergedError, match=message):
        train(run, run.costs.progress())
    assert run.checkpoints(run.stage("float")).files() == []


@pytest.mark.parametrize("form", ["checkpoint", "weights.h5"])
def test_float_weights_of_the_users_own_are_where_training_starts(finished, settings, tmp_path, form):
    source = finished.networks.load(finished.stage("float"))
    if form == "checkpoint":
        path = finished.checkpoints(finished.stage("float")).files()[0]
    else:
        path = tmp_path / "mine.weights.h5"
        source.save_weights(path)
    run = trained(
        dataclasses.replace(
            settings,
            run_dir=str(tmp_path / "run"),
            bits=(4,),
            float_weights=str(path),
            float_epochs=0.0,
            largest_epochs=0.0,
            supernet_epochs=(0.0,),
        )
    )
    assert [stage.name for stage in run.stages] == ["float", "supernet_b4"]
    began = {v.path: v.numpy() for v in source.variables}
    assert_same({name: weights(run, "float")[0][name] for name in began}, began)
    quantized = weights(run, "supernet_b4")[0]
    assert_same({name: quantized[name] for name in began}, began)
    steps = [value for name, value in quantized.items() if name.endswith("step")]
    assert steps and all(0 < step < 100 for step in steps)


def test_float_weights_that_do_not_fit_are_refused(settings, finished, tmp_path):
    wider = tmp_path / "wider.json"
    wider.write_text(dataclasses.replace(SPACE, head_channels=24).to_json())
    config = dataclasses.replace(settings, run_dir=str(tmp_path / "run"), float_epochs=0.0)
    with pytest.raises(UserError, match=r"nowhere\.npz.* not there"):
        trained(dataclasses.replace(config, float_weights=str(tmp_path / "nowhere.npz")))
    path = finished.checkpoints(finished.stage("float")).files()[0]
    config = dataclasses.replace(config, run_dir=str(tmp_path / "wider"), space=str(wider), float_weights=str(path))
    with pytest.raises(UserError, match=r"head/kernel has shape \(1, 1, 8, 24\)"):
        trained(config)


def test_direct_schedule_starts_every_bit_width_from_float(finished, settings, tmp_path):
    path = finished.checkpoints(finished.stage("float")).files()[0]
    run = trained(
        dataclasses.replace(
            settings,
            run_dir=str(tmp_path / "run"),
            schedule="direct",
            float_weights=str(path),
            float_epochs=0.0,
            largest_epochs=0.0,
            supernet_epochs=(0.0,),
        )
    )
    starts = [(stage.name, stage.init) for stage in run.stages[1:]]
    assert starts == [("supernet_b4", "float"), ("supernet_b3", "float")]
    assert not [r for r in read_jsonl(run.directory / "log.jsonl") if r.get("event") == "inherited"]
    four, three = (weights(run, f"supernet_b{bits}")[0] for bits in (4, 3))
    for name in four:
        if name.endswith("weight_quantizer/step"):  # 2 * mean(abs(w)) / sqrt(Qp): not a doubled one
            assert 1.3 < three[name] / four[name] < 3  # set anew from the same weights, for a range of 3 instead of 7


def test_a_step_down_by_four_bits_doubles_the_steps_four_times(finished, settings, tmp_path):
    path = finished.checkpoints(finished.stage("float")).files()[0]
    run = trained(
        dataclasses.replace(
            settings,
            run_dir=str(tmp_path / "run"),
            bits=(8, 4),
            float_weights=str(path),
            float_epochs=0.0,
            largest_epochs=0.0,
            supernet_epochs=(0.0,),
        )
    )
    assert [stage.name for stage in run.stages] == ["float", "supernet_b8", "supernet_b4"]
    eight, four = (weights(run, f"supernet_b{bits}")[0] for bits in (8, 4))
    for name in eight:
        factor = 16 if name.endswith("step") else 1
        np.testing.assert_array_equal(four[name], factor * eight[name], err_msg=name)


def test_finetuning_trains_one_subnet_from_its_supernet(copied):
    from tfqnas.runs.run import Run
    from tfqnas.runs.training import train
    from tfqnas.train.stages import finetuning

    run = Run.existing(copied.run_dir)
    stage = finetuning(3, run.space.smallest(), epochs(2), 0.01)
    train(run, run.costs.progress([stage]), stages=[stage])
    values, meta = run.checkpoints(stage).load()
    assert meta["step"] == 2
    before = weights(run, "supernet_b3")[0]
    moved = {name for name in before if not np.array_equal(values[name], before[name])}
    # The smallest has one block. Decay moves all kernels, so what shows it are the BatchNorms.
    gammas = {name.split("/")[0] for name in moved if name.endswith("gamma") and "stage" in name.split("/")[0]}
    assert gammas == {"stage1_block1"}, moved
    record = read_jsonl(run.directory / "log.jsonl")[-1]
    assert record["stage"] == stage.name and record["held_out"].keys() == {"subnet"}
    with pytest.raises(UserError, match=r"learning_rate is 0\.01, this command has 0\.1"):
        run.networks.load(finetuning(3, run.space.smallest(), epochs(2), 0.1))


def test_integer_aware_finetuning_trains_what_the_device_computes(copied):
    """Resumed half-way it ends where it would have ended; what it saves is its evaluation, and has an exact file."""
    from tests.tflite_export.conftest import images
    from tflite_export import reference
    from tflite_export.int_graph import pixels_of
    from tflite_export.lower import lower
    from tfqnas.quantizers import Calibrated, quantizers_of
    from tfqnas.runs.family import extract_model
    from tfqnas.runs.run import Run
    from tfqnas.runs.training import train
    from tfqnas.train.stages import finetuning

    run = Run.existing(copied.run_dir)
    stage = finetuning(3, run.space.smallest(), epochs(4), 0.01, integer_aware=True)
    assert stage.name == f"finetune_b3_{run.space.smallest().key}_integer"
    train(run, run.costs.progress([stage]), None, [stage])
    values, meta = run.checkpoints(stage).load()
    assert meta["step"] == 4
    start = run.networks.new_subnet(
        run.networks.supernet(3), stage.arch, run.evaluator.recalibrate(run.networks.supernet(3), stage.arch)
    )
    kernels = [v for v in start.trainable_variables if v.path.endswith("kernel")]
    assert all(np.abs(values[v.path] - v.numpy()).max() > 0 for v in kernels)
    for variable in (v for v in start.variables if "moving" in v.path):
        np.testing.assert_array_equal(values[variable.path], variable.numpy())  # folded as extracted

    (run.checkpoints(stage).files()[-1]).unlink()
    again = Run.existing(copied.run_dir)
    train(again, again.costs.progress([stage]), None, [stage])
    assert_same(again.checkpoints(stage).load()[0], values)

    net = again.networks.load(stage)
    record, model = extract_model(again, net, stage.arch, again.directory / "models" / stage.name)
    assert record["before"] == record["after"] and any(isinstance(q, Calibrated) for q in quantizers_of(model))
    x = next(iter(again.evaluator.images("test", stage.arch.resolution).batches(64)))
    graph = lower(model, images(model.input_shape[1:], n=8))
    logits = reference.logits(graph, reference.run(graph, pixels_of(graph, x)))
    assert np.mean(logits.argmax(1) == np.asarray(model(x)).argmax(1)) > 0.9


def test_a_damaged_config_is_named(copied):
    from tfqnas.runs.run import Run

    with open(f"{copied.run_dir}/config.json", "w") as file:
        file.write("{")
    with pytest.raises(UserError, match=r"config\.json: not valid JSON"):
        Run.existing(copied.run_dir)


def test_a_stage_that_is_not_finished_is_not_loaded(copied):
    from tfqnas.runs.run import Run

    run = Run.existing(copied.run_dir)
    run.checkpoints(run.stage("supernet_b3")).files()[0].unlink()
    with pytest.raises(UserError, match="stage supernet_b3 stands at step 2, expected step 4"):
        run.networks.supernet(3)
    assert checkpoint.read(run.checkpoints(run.stage("supernet_b3")).files()[0])[1]["step"] == 2
