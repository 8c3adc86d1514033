import dataclasses
import json

import pytest

from tfqnas.errors import UserError
from tfqnas.train.run_config import RunConfig


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bits": ()}, "bits: expected falling bit widths from 16 to 2, received "),
        ({"bits": (2, 3)}, "bits: .* received 2,3"),
        ({"bits": (4, 4)}, "bits: .* received 4,4"),
        ({"bits": (4, 1)}, "bits: expected whole numbers from 2 to 16, received 4,1"),
        ({"bits": (17,)}, "bits: expected whole numbers from 2 to 16, received 17"),
        ({"schedule": "both"}, "schedule: expected one of inherit, direct, received both"),
        ({"distillation": "yes"}, "distillation: expected one of .*in_place.*, received yes"),
        ({"teacher_arch": "smallest"}, "teacher_arch: expected one of .*, received smallest"),
        ({"distribution": "tpu"}, "distribution: expected one of .*, received tpu"),
        (
            {"bits": (4, 3, 2), "supernet_epochs": (1.0, 2.0)},
            "supernet_epochs: expected 1 value or one for each of `bits=4,3,2`, received 1.0,2.0",
        ),
        ({"supernet_learning_rate": ()}, "supernet_learning_rate: expected 1 value or .*, received nothing"),
        ({"batch_size": 0}, "batch_size: expected a whole number from 1 on, received 0"),
        ({"held_out": 0}, "held_out: expected a whole number from 1 on, received 0"),
        ({"recalibration_images": 0}, "recalibration_images: expected a whole number from 1 on"),
        ({"checkpoint_steps": 0}, "checkpoint_steps: expected a whole number from 1 on"),
        ({"random_subnets": -1}, "random_subnets: expected a whole number from 0 on, received -1"),
        ({"crop_area": 0.0}, "crop_area: expected a number from 0.001 to 1, received 0.0"),
        ({"brightness": 1.5}, "brightness: expected a number from 0 to 1, received 1.5"),
        ({"evaluation_epochs": -1.0}, "evaluation_epochs: expected a number from 0 to 1e\\+09, received -1.0"),
        ({"largest_epochs": -1.0}, "largest_epochs: expected a number from 0 to 1e\\+09, received -1.0"),
        (
            {"supernet_epochs": (1.0, -2.0, 1.0)},
            "supernet_epochs: expected numbers from 0 to 1e\\+09, received 1.0,-2.0,1.0",
        ),
        ({"float_epochs": float("nan")}, "float_epochs: expected a finite number from 0 to 1e\\+09, received nan"),
        ({"warmup_epochs": -0.5}, "warmup_epochs: expected a number from 0 to 1e\\+09, received -0.5"),
        ({"largest_learning_rate": -0.1}, "largest_learning_rate: expected a number from 0 on, received -0.1"),
        (
            {"distillation_temperature": 0.0},
            "distillation_temperature: expected a number from 0.001 to 1000, received 0.0",
        ),
        ({"momentum": 1.5}, "momentum: expected a number from 0 to 1, received 1.5"),
        ({"evaluation_crop": 0.0}, "evaluation_crop: expected a number above 0, at most 1, received 0.0"),
        ({"max_bad_images": -1}, "max_bad_images: expected a whole number from 0 on, received -1"),
        ({"seed": -1}, "seed: expected a whole number from 0 on, received -1"),
        (
            {"schedule": "direct", "distillation": "teacher"},
            "distillation: expected another one with `schedule=direct`, where no bit width has a teacher",
        ),
    ],
)
def test_what_makes_no_run_is_refused_and_named(settings, message):
    with pytest.raises(UserError, match=message):
        RunConfig(**settings)


def test_the_defaults_and_the_extremes_make_a_run():
    RunConfig()
    RunConfig(bits=(16, 2), batch_size=1, random_subnets=0, seed=0)


def test_one_value_stands_for_all_bit_widths():
    config = RunConfig(bits=(4, 3, 2), supernet_epochs=(5.0,), supernet_learning_rate=(0.3, 0.2, 0.1))
    assert [config.for_bits("supernet_epochs", b) for b in (4, 3, 2)] == [5.0, 5.0, 5.0]
    assert [config.for_bits("supernet_learning_rate", b) for b in (4, 3, 2)] == [0.3, 0.2, 0.1]


def test_json_gives_back_the_same_settings():
    config = RunConfig(bits=(8, 2), supernet_epochs=(1.0, 2.5), run_dir="runs/some", flip=True)
    assert RunConfig.from_json(config.to_json()) == config
    assert RunConfig(bits=[8, 2], supernet_epochs=[1.0, 2.5], run_dir="runs/some", flip=True) == config


def test_settings_that_are_gone_are_ignored_where_they_had_no_effect_and_refused_where_they_had():
    stored = json.loads(RunConfig(seed=3).to_json())
    assert RunConfig.from_json(json.dumps({**stored, "sample_full_depth": 0.0})) == RunConfig(seed=3)
    for name in ("sample_full_depth", "lunch"):
        with pytest.raises(UserError, match=f"`{name}=0.5`: this version of tfqnas does not have this setting"):
            RunConfig.from_json(json.dumps({**stored, name: 0.5}))


def test_every_setting_says_what_it_is_for():
    for field in dataclasses.fields(RunConfig):
        assert field.metadata["help"], field.name


def test_the_first_setting_that_would_give_another_result_is_refused_and_named():
    config = RunConfig(bits=(4, 3), seed=1)
    stored = json.loads(config.to_json())
    config.refuse_if_different(stored, "it")
    config.refuse_if_different(
        {**stored, "run_dir": "elsewhere", "distribution": "mirrored", "checkpoint_steps": 7}, "it"
    )
    with pytest.raises(UserError, match="it was made with `seed=5`, this command has `seed=1`"):
        config.refuse_if_different({**stored, "seed": 5}, "it")
    with pytest.raises(UserError, match="made with `bits=4,2`, this command has `bits=4,3`"):
        config.refuse_if_different({**stored, "bits": [4, 2]}, "it")
    del stored["zoom"]  # a setting added after the run was made
    config.refuse_if_different(stored, "it")
