"""Ranges and choices stand in the declaration of a setting, and hold wherever a record of settings is made."""

import dataclasses
import pickle

import numpy as np
import pytest

from tfqnas.errors import SettingError
from tfqnas.settings import Settings, limits, setting, share


@dataclasses.dataclass(frozen=True)
class Baking(Settings):
    """Bread."""

    loaves: int = setting(1, "how many", at_least=1)
    heat: float = setting(220.0, "degrees", above=100, at_most=300, only={"kind": ("rye", "wheat")})
    rest: float = setting(0.5, "hours", at_least=0, below=24)
    salt: float = share(0.02, "of the flour")
    seeds: int = setting(0, "grams", at_least=5, at_most=50, or_zero=True)
    water: float = setting(0.7, "of the flour", above=0, below=1)
    kind: str = setting("rye", "flour", choices=("rye", "wheat", "none"))
    ovens: tuple[int, ...] = setting((1,), "their numbers", at_least=1)
    times: tuple[float, float] = setting((1.0, 2.0), "two risings", at_least=0, only={"rest": ()})
    extras: tuple[str, ...] = setting((), "nuts and such", choices=("nuts", "raisins"))
    nuts: int = setting(3, "how many", only={"extras": ("nuts",)})
    name: str = setting("", "any text")
    crust: float = setting(0.1, "how thick", only={"size": ("large",)})

    @property
    def size(self):
        return "large" if self.loaves == 1 else "small"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"loaves": 0}, "loaves: expected a whole number from 1 on, received 0"),
        ({"loaves": True}, "loaves: expected a whole number from 1 on, received True"),
        ({"loaves": 10**22}, f"loaves: expected a whole number from 1 on, at most 2147483647, received {10**22}"),
        ({"loaves": 1.5}, "loaves: expected a whole number from 1 on, received 1.5"),
        ({"loaves": "two"}, "loaves: expected a whole number from 1 on, received two"),
        ({"heat": 100}, "heat: expected a number above 100, at most 300, received 100"),
        ({"heat": float("nan")}, "heat: expected a finite number above 100, at most 300, received nan"),
        ({"rest": float("inf")}, "rest: expected a finite number from 0 to below 24, received inf"),
        ({"rest": 24}, "rest: expected a number from 0 to below 24, received 24"),
        ({"salt": -0.1}, "salt: expected a number from 0 to 1, received -0.1"),
        ({"seeds": 4}, "seeds: expected 0 or a whole number from 5 to 50, received 4"),
        ({"water": 1.0}, "water: expected a number between 0 and 1, received 1.0"),
        ({"kind": "ry"}, "kind: expected one of rye, wheat, none, received ry, did you mean rye?"),
        ({"ovens": (1, 0)}, "ovens: expected whole numbers from 1 on, received 1,0"),
        ({"times": (1.0,)}, "times: expected 2 values, received 1.0"),
        ({"times": (1.0, float("nan"))}, "times: expected finite numbers from 0 on, received 1.0,nan"),
        ({"extras": ("raisin",)}, "extras: expected some of nuts, raisins, received raisin, did you mean raisins?"),
    ],
)
def test_a_value_that_is_not_allowed_is_named_with_what_is(values, message):
    with pytest.raises(SettingError) as raised:
        Baking(**values)
    assert str(raised.value) == message
    assert raised.value.field == next(iter(values))
    copy = pickle.loads(pickle.dumps(raised.value))  # it crosses processes
    assert (str(copy), copy.field) == (message, raised.value.field)


def test_defaults_ends_of_ranges_and_numbers_of_numpy_are_allowed():
    Baking()
    Baking(heat=300, rest=0, salt=1, seeds=0, ovens=(), extras=("nuts", "raisins"), kind="none")
    Baking(loaves=np.int64(3), heat=np.float32(250), seeds=50, water=0.999)
    assert Baking(ovens=[2, 3]).ovens == (2, 3)  # of JSON data
    with pytest.raises(SettingError):
        dataclasses.replace(Baking(), loaves=0)


def test_limits_are_said_in_words():
    said = {field.name: limits(field) for field in dataclasses.fields(Baking)}
    assert said == {
        "loaves": "from 1 on",
        "heat": "above 100, at most 300",
        "rest": "from 0 to below 24",
        "salt": "from 0 to 1",
        "seeds": "0 or from 5 to 50",
        "water": "between 0 and 1",
        "kind": "one of rye, wheat, none",
        "ovens": "from 1 on",
        "times": "from 0 on",
        "extras": "some of nuts, raisins",
        "nuts": "",
        "name": "",
        "crust": "",
    }


@pytest.mark.parametrize(
    ("values", "name", "found"),
    [
        ({}, "heat", None),
        ({"kind": "none"}, "heat", ("with `kind=none`", "`kind=rye` or `kind=wheat`")),
        ({"rest": 0}, "times", ("without `rest`", "`rest`")),
        ({}, "times", None),
        ({}, "nuts", None),  # an empty tuple: all of them
        ({"extras": ("nuts", "raisins")}, "nuts", None),
        ({"extras": ("raisins",)}, "nuts", ("with `extras=raisins`", "`extras=nuts`")),
        ({"loaves": 2}, "crust", ("with small", "large")),
        ({}, "crust", None),
    ],
)
def test_a_setting_says_where_it_has_no_effect(values, name, found):
    assert Baking(**values).without_effect(name) == found
