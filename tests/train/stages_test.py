import numpy as np
import pytest

from tfqnas import spaces
from tfqnas.errors import UserError
from tfqnas.train.run_config import RunConfig
from tfqnas.train.stages import MIXED, TrainingStage, finetuning, schedule

EPOCHS = {
    "largest_epochs": 6.0,
    "largest_learning_rate": 0.4,
    "supernet_epochs": (3.0,),
    "supernet_learning_rate": (0.2,),
    "float_epochs": 0.0,
    "float_learning_rate": 0.5,
}


def stages(**settings):
    return schedule(RunConfig(**{**EPOCHS, **settings}))


def test_inheritance_goes_from_bit_width_to_bit_width_with_the_one_above_as_teacher():
    assert stages(bits=(4, 3, 2), supernet_epochs=(3.0, 2.0, 1.0), supernet_learning_rate=(0.3, 0.2, 0.1)) == (
        TrainingStage("largest_b4", 4, 6.0, 0.4, "largest", None, None),
        TrainingStage("supernet_b4", 4, 3.0, 0.3, "sandwich", "in_place", "largest_b4"),
        TrainingStage("supernet_b3", 3, 2.0, 0.2, "sandwich", "supernet_b4", "supernet_b4"),
        TrainingStage("supernet_b2", 2, 1.0, 0.1, "sandwich", "supernet_b3", "supernet_b3"),
    )


def test_any_falling_bit_widths_make_a_schedule():
    names = [(stage.name, stage.init) for stage in stages(bits=(8, 4, 3, 2))]
    assert names == [
        ("largest_b8", None),
        ("supernet_b8", "largest_b8"),
        ("supernet_b4", "supernet_b8"),
        ("supernet_b3", "supernet_b4"),
        ("supernet_b2", "supernet_b3"),
    ]


def test_direct_training_starts_every_bit_width_anew_with_soft_labels_in_place():
    assert stages(bits=(4, 2), schedule="direct", float_epochs=1.0) == (
        TrainingStage("float", None, 1.0, 0.5, "largest"),
        TrainingStage("largest_b4", 4, 6.0, 0.4, "largest", None, "float"),
        TrainingStage("supernet_b4", 4, 3.0, 0.2, "sandwich", "in_place", "largest_b4"),
        TrainingStage("largest_b2", 2, 6.0, 0.4, "largest", None, "float"),
        TrainingStage("supernet_b2", 2, 3.0, 0.2, "sandwich", "in_place", "largest_b2"),
    )


@pytest.mark.parametrize("settings", [{"float_epochs": 2.0}, {"float_weights": "some.npz"}])
def test_floating_point_comes_first_where_it_is_trained_or_given(settings):
    first, second, *_ = stages(**settings)
    assert first == TrainingStage("float", None, settings.get("float_epochs", 0.0), 0.5, "largest")
    assert (second.name, second.init) == ("largest_b4", "float")


def test_without_epochs_of_the_largest_the_supernet_starts_from_what_there_is():
    assert [(s.name, s.init) for s in stages(bits=(4, 3), largest_epochs=0.0)] == [
        ("supernet_b4", None),
        ("supernet_b3", "supernet_b4"),
    ]
    assert [(s.name, s.init) for s in stages(bits=(4,), largest_epochs=0.0, float_epochs=1.0)] == [
        ("float", None),
        ("supernet_b4", "float"),
    ]


def test_a_supernet_of_no_epochs_stays_in_the_line_of_inheritance():
    assert [(s.name, s.epochs, s.init) for s in stages(bits=(4, 3, 2), supernet_epochs=(1.0, 0.0, 1.0))][2:] == [
        ("supernet_b3", 0.0, "supernet_b4"),
        ("supernet_b2", 1.0, "supernet_b3"),
    ]


@pytest.mark.parametrize(
    ("distillation", "expected"),
    [
        ("auto", [None, "in_place", "supernet_b4"]),
        ("teacher", [None, "in_place", "supernet_b4"]),
        ("in_place", [None, "in_place", "in_place"]),
        ("none", [None, None, None]),
    ],
)
def test_where_soft_labels_come_from(distillation, expected):
    assert [s.soft_labels for s in stages(bits=(4, 3), distillation=distillation)] == expected


@pytest.mark.parametrize("settings", [{}, {"schedule": "direct"}, {"float_epochs": 1.0}, {"bits": (8, 4, 3, 2)}])
def test_names_are_different_and_a_stage_starts_from_one_before_it(settings):
    made = stages(**settings)
    names = [stage.name for stage in made]
    assert len(set(names)) == len(names)
    for i, stage in enumerate(made):
        assert stage.init is None or stage.init in names[:i]
        assert stage.soft_labels in (None, "in_place", *names[:i])


@pytest.mark.parametrize(("distilled", "teacher"), [(True, "supernet_b3"), (False, None)])
def test_finetuning_trains_one_subnet_of_a_supernet_with_its_largest_as_teacher(distilled, teacher):
    arch = spaces.get("tiny").smallest()
    assert finetuning(3, arch, 25.0, 0.0016, distilled=distilled) == TrainingStage(
        f"finetune_b3_{arch.key}", 3, 25.0, 0.0016, "subnet", teacher, "supernet_b3", arch
    )
    aware = finetuning(3, arch, 25.0, 0.0016, integer_aware=True)
    assert aware.integer_aware and aware.name == f"finetune_b3_{arch.key}_integer"


@pytest.mark.parametrize(("settings", "init"), [({}, None), ({"float_epochs": 1.0, "schedule": "direct"}, "float")])
def test_a_float_supernet_comes_last_and_changes_nothing_before_it(settings, init):
    plain = stages(bits=(4, 2), **settings)
    made = stages(bits=(4, 2), float_supernet_epochs=2.0, float_supernet_learning_rate=0.1, **settings)
    assert made == (*plain, TrainingStage("supernet_float", None, 2.0, 0.1, "sandwich", "in_place", init))


def test_a_mixed_supernet_learns_in_two_phases_from_the_largest_network_in_floating_point():
    settings = {"float_epochs": 2.0, "mixed_epochs": (3.0, 4.0), "mixed_learning_rate": (0.2, 0.1)}
    assert schedule(RunConfig(**{**EPOCHS, **settings}), mixed=True) == (
        TrainingStage("float", None, 2.0, 0.5, "largest"),
        TrainingStage("supernet_mixed_float", MIXED, 3.0, 0.2, "sandwich", "float", "float", with_float=True),
        TrainingStage("supernet_mixed", MIXED, 4.0, 0.1, "sandwich", "float", "supernet_mixed_float"),
    )
    shorter = schedule(RunConfig(**{**EPOCHS, **settings, "mixed_epochs": (0.0, 4.0)}), mixed=True)
    assert [(s.name, s.init, s.with_float) for s in shorter] == [
        ("float", None, False),
        ("supernet_mixed", "float", False),
    ]


def test_without_the_network_in_floating_point_a_mixed_supernet_is_refused():
    with pytest.raises(UserError, match="float_epochs: expected a positive number, or `float_weights`"):
        schedule(RunConfig(**EPOCHS), mixed=True)


def test_the_name_of_a_stage_stays_a_file_name_for_the_longest_architecture():
    space = spaces.get("mbv3_qfa")
    rng = np.random.default_rng(0)
    archs = [space.sample(rng) for _ in range(20)]
    names = [finetuning(MIXED, arch, 1.0, 0.1, integer_aware=True).name for arch in archs]
    assert len(set(names)) == 20 and max(map(len, names)) < 200
    assert finetuning(MIXED, archs[0], 1.0, 0.1).init == "supernet_mixed"
