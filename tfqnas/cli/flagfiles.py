"""The flag files that are installed with tfqnas, found by their names: `--flagfile=digits_oqa`."""

import pathlib
from collections.abc import Iterator, Sequence

from tfqnas.errors import UserError, did_you_mean

FOLDER = pathlib.Path(__file__).parents[1] / "configs"


def names() -> list[str]:
    """Names of the flag files, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.cfg"))


def with_paths(arguments: Sequence[str]) -> list[str]:
    """The arguments with the path of a flag file in place of its name.

    A file that is there is taken first. The names may have the folder and the suffix of former versions:
    `configs/digits_oqa.cfg`.

    Raises:
        UserError: there is neither a file nor a flag file of that name.
    """
    return list(_with_paths(iter(arguments)))


def _with_paths(arguments: Iterator[str]) -> Iterator[str]:
    for argument in arguments:
        if argument == "--":
            yield argument
            yield from arguments
        elif argument in ("--flagfile", "-flagfile"):
            yield argument
            yield from (_path_of(value) for value in [next(arguments, None)] if value is not None)
        elif argument.startswith(("--flagfile=", "-flagfile=")):
            flag, _, value = argument.partition("=")
            yield f"{flag}={_path_of(value)}"
        else:
            yield argument


def _path_of(value: str) -> str:
    path = pathlib.Path(value).expanduser()
    if not value or (path.exists() and not path.is_dir()):
        return value
    name = value.removeprefix("configs/").removesuffix(".cfg")
    if name in names():
        return str(FOLDER / f"{name}.cfg")
    what = "is a directory" if path.is_dir() else "is not there"
    raise UserError(
        f"--flagfile={value}: {what}, expected a file with flags, or one of {', '.join(names())}"
        f"{did_you_mean(name, names())}"
    )
