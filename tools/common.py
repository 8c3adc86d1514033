"""What all tools share: flags made from a settings record, help on them, and errors without a traceback."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import os
import shlex
import sys
import typing
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from absl import app, flags

from tfqnas.errors import UserError

if TYPE_CHECKING:
    from tfqnas.train.run import Run
    from tfqnas.train.stages import Bits

# What is defined here are flags of the tool that asks for them: it is their module, to absl.
flags.disclaim_key_flags()
Config = typing.TypeVar("Config")
# What keeps the work that is done, so that the same command goes on; for whoever presses Ctrl-C.
_KEPT: list[str] = []
# Settings dataclasses whose fields are flags.
_SETTINGS: list[type] = []
_HELP = {f"{dashes}{name}" for dashes in ("-", "--") for name in ("help", "helpshort", "h", "?")}


def define_flags(config_class: type, holder: flags.FlagValues = flags.FLAGS, **defaults: Any) -> None:
    """Defines an absl flag for each field of a settings dataclass, in `holder`."""
    define: dict[Any, Callable[..., Any]]
    define = {int: flags.DEFINE_integer, float: flags.DEFINE_float, str: flags.DEFINE_string, bool: flags.DEFINE_bool}
    if holder is flags.FLAGS:
        _SETTINGS.append(config_class)
    for field in dataclasses.fields(config_class):
        default, text = defaults.get(field.name, field.default), field.metadata["help"]
        if typing.get_origin(field.type) is tuple:
            flags.DEFINE_list(field.name, [str(v) for v in default], text, flag_values=holder)
        else:
            define[field.type](field.name, default, text, flag_values=holder)


def from_flags(config_class: type[Config], holder: flags.FlagValues = flags.FLAGS) -> Config:
    """The settings record that the flags in `holder` describe."""
    values = {}
    for field in dataclasses.fields(typing.cast(Any, config_class)):
        value = holder[field.name].value
        if typing.get_origin(field.type) is tuple:
            element = typing.get_args(field.type)[0]
            try:
                value = tuple(element(v) for v in value)
            except ValueError:
                raise UserError(
                    f"--{field.name}: expected {element.__name__}s separated by commas, received {','.join(value)}"
                ) from None
        values[field.name] = value
    return config_class(**values)


def bit_width(run: Run, flag: str, text: str) -> Bits:
    """The supernet of a run that a flag names: a bit width, or "mixed".

    Raises:
        UserError: the run has no such supernet.
    """
    value = int(text) if str(text).isdecimal() else text
    if value not in run.bit_widths:
        raise UserError(f"--{flag}: expected one of this run's {list(run.bit_widths)}, received {text}")
    return value


def import_tensorflow() -> None:
    """Imports TensorFlow without the lines on CUDA and oneDNN that it writes whatever its log level is.

    They come from C++ before logging is set up, so only the file descriptor can be silenced. A failing import
    still raises its exception. Tools call this when the settings are known to be right: it takes seconds.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    kept = os.dup(2)
    with open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), 2)
    try:
        importlib.import_module("tfqnas")  # first: it sets what TensorFlow reads when it is imported
        importlib.import_module("tensorflow")
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def run(main: Callable[[list[str]], None]) -> None:
    """Runs `main(argv)`: errors that are meant for the user end with their message and exit code 1."""
    tool, name = sys.modules[main.__module__], main.__module__
    if name != "__main__":  # installed: the program is a script of two lines, which has neither text nor flags
        sys.modules["__main__"].__doc__ = tool.__doc__
        for flag in flags.FLAGS.get_key_flags_for_module(name):
            flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)

    def parse(arguments: list[str]) -> list[str]:
        before = arguments[: arguments.index("--")] if "--" in arguments else arguments
        if _HELP & set(before[1:]):
            with contextlib.suppress(BrokenPipeError):  # `--help | head`
                print(help_text(tool.__doc__ or ""), flush=True)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.exit(0)
        return app.parse_flags_with_usage(arguments)

    def guarded(argv: list[str]) -> None:
        try:
            main(argv)
        except (UserError, OSError) as error:
            sys.stdout.flush()
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)
        except KeyboardInterrupt:
            print(f"\nstopped; {_what_is_kept()}", file=sys.stderr)
            sys.exit(130)

    app.run(guarded, flags_parser=parse)


def keeps(what: str | os.PathLike[str]) -> None:
    """Remembers what keeps the tool's work from now on, a file or a directory: Ctrl-C says so."""
    _KEPT.append(os.fspath(what))


def _what_is_kept() -> str:
    command = shlex.join(["python", *sys.argv])
    if not _KEPT:
        return f"nothing of this command is kept, it begins anew:\n    {command}"
    return f"what is done is kept in {_KEPT[-1]}, the same command goes on from there:\n    {command}"


def help_text(doc: str) -> str:
    """What a tool does and its flags: its own, then group by group those of settings."""
    own = {flag.name: flag for flag in flags.FLAGS.get_key_flags_for_module(sys.argv[0])}
    groups: dict[str, list[flags.Flag]] = {}
    for config_class in _SETTINGS:
        for field in dataclasses.fields(config_class):
            annotated = (c for c in reversed(config_class.__mro__) if field.name in vars(c).get("__annotations__", {}))
            definer = next(annotated)
            heading = (definer.__doc__ or definer.__name__).strip().split(". ")[0].splitlines()[0].rstrip(".")
            groups.setdefault(heading, []).append(flags.FLAGS[field.name])
            own.pop(field.name, None)
    parts = [doc.strip()]
    for heading, members in {"Flags of this tool": list(own.values()), **groups}.items():
        if members:
            parts.append(f"{heading}:\n" + "\n".join(map(_flag_text, members)))
    parts.append("--flagfile=FILE reads flags from a file, one a line; --helpfull lists those of absl as well.")
    return "\n\n".join(parts)


def _flag_text(flag: flags.Flag) -> str:
    switch = f"--[no]{flag.name}" if flag.boolean else f"--{flag.name}"
    default = "" if flag.default in (None, "", []) else f" (default: {flag.default_as_str.strip(chr(39))})"
    return flags.text_wrap(f"{switch}: {flag.help}{default}", 100, "      ", "  ")
