"""What all tools share: flags made from a settings record, help on them, and errors without a traceback."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import os
import shlex
import sys
import types
import typing
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from absl import app, flags

from tfqnas.errors import UserError

if TYPE_CHECKING:
    from tfqnas.runs.run import Run
    from tfqnas.train.stages import Bits

# What is defined here are flags of the tool that asks for them: it is their module, to absl.
flags.disclaim_key_flags()
Config = typing.TypeVar("Config")
# What keeps the work that is done, so that the same command goes on; for whoever presses Ctrl-C.
_KEPT: list[str] = []
# Settings dataclasses whose fields are flags.
_SETTINGS: list[type] = []
# Those whose flags this command does not read, and the commands that do.
_UNREAD: dict[Any, Sequence[str]] = {}
# How the command was called: its program and its arguments.
_CALLED: list[tuple[str, tuple[str, ...]]] = []
_HELP = {f"{dashes}{name}" for dashes in ("-", "--") for name in ("help", "helpshort", "h", "?")}


def define_flags(config_class: Any, holder: flags.FlagValues = flags.FLAGS, read_by: Sequence[str] = ()) -> None:
    """Defines an absl flag for each field of a settings dataclass, in `holder`.

    Args:
        read_by: names of the commands that read these flags, if this one does not: they may stand in a flagfile that
            describes a whole run, and are refused on the command line.
    """
    define: dict[Any, Callable[..., Any]]
    define = {int: flags.DEFINE_integer, float: flags.DEFINE_float, str: flags.DEFINE_string, bool: flags.DEFINE_bool}
    if holder is flags.FLAGS:
        if read_by:
            _UNREAD[config_class] = read_by
        else:
            _SETTINGS.append(config_class)
    for field in dataclasses.fields(config_class):
        default, text = typing.cast(Any, field.default), field.metadata["help"]
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


def run(module: types.ModuleType, program: str, arguments: Sequence[str]) -> None:
    """Runs a command: errors that are meant for the user end with their message and exit code 1.

    Args:
        module: of `tfqnas.cli`, with flags and `main()`; or `main(words)` and a constant `WORDS` that says which words
            it takes besides flags.
        program: how the command was called, such as "tfqnas train". arguments: flags and words.
    """
    _CALLED.append((program, tuple(arguments)))

    def parse(argv: list[str]) -> list[str]:
        before = argv[: argv.index("--")] if "--" in argv else argv
        if _HELP & set(before[1:]):
            with contextlib.suppress(BrokenPipeError):  # `--help | head`
                print(help_text(module), flush=True)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.exit(0)
        try:
            words = flags.FLAGS(argv)[1:]
            if not hasattr(module, "WORDS"):
                _refuse_words(words)
            _refuse_unread(before[1:])
        except (flags.Error, UserError) as error:
            print(f"error: {error}\n{program} --help lists its flags", file=sys.stderr)
            sys.exit(1)
        return words

    def guarded(words: list[str]) -> None:
        try:
            module.main(*([words] if hasattr(module, "WORDS") else []))
        except (UserError, OSError) as error:
            sys.stdout.flush()
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)
        except KeyboardInterrupt:
            print(f"\nstopped; {_what_is_kept()}", file=sys.stderr)
            sys.exit(130)

    app.run(guarded, argv=[program, *arguments], flags_parser=parse)


def _refuse_words(words: Sequence[str]) -> None:
    """Raises UserError for words: most are flags that lack their hyphens."""
    if not words:
        return
    name = words[0].lstrip("-\u2010\u2011\u2012\u2013\u2014\u2015\u2212")  # hyphens and dashes of web pages
    meant = f": a flag begins with two hyphens, --{name}" if name.partition("=")[0] in flags.FLAGS else ""
    raise UserError(f"expected flags only, received {words[0]}{meant}")


def _refuse_unread(arguments: Sequence[str]) -> None:
    """Raises UserError for a flag on the command line, not in a flagfile, that only other commands read."""
    for argument in arguments:
        name = argument.lstrip("-").partition("=")[0]
        name = name if name in flags.FLAGS else name.removeprefix("no")
        for config_class, readers in _UNREAD.items():
            if argument.startswith("-") and name in {field.name for field in dataclasses.fields(config_class)}:
                raise UserError(f"--{name}: has no effect here, {' and '.join(readers)} read it")


def keeps(what: str | os.PathLike[str]) -> None:
    """Remembers what keeps the tool's work from now on, a file or a directory: Ctrl-C says so."""
    _KEPT.append(os.fspath(what))


def _what_is_kept() -> str:
    program, arguments = _CALLED[-1]
    program = program if program.startswith("tfqnas ") else f"python {shlex.quote(program)}"
    command = " ".join([program, shlex.join(arguments)]).rstrip()
    if not _KEPT:
        return f"nothing of this command is kept, it begins anew:\n    {command}"
    return f"what is done is kept in {_KEPT[-1]}, the same command goes on from there:\n    {command}"


def help_text(module: types.ModuleType) -> str:
    """What a command does and its flags: its own, then group by group those of settings."""
    own = {flag.name: flag for flag in flags.FLAGS.get_key_flags_for_module(module.__name__)}
    for config_class in _UNREAD:
        for field in dataclasses.fields(config_class):
            own.pop(field.name, None)
    groups: dict[str, list[flags.Flag]] = {}
    for config_class in _SETTINGS:
        for field in dataclasses.fields(config_class):
            annotated = (c for c in reversed(config_class.__mro__) if field.name in vars(c).get("__annotations__", {}))
            definer = next(annotated)
            heading = (definer.__doc__ or definer.__name__).strip().split(". ")[0].splitlines()[0].rstrip(".")
            groups.setdefault(heading, []).append(flags.FLAGS[field.name])
            own.pop(field.name, None)
    parts = [(module.__doc__ or "").strip()]
    for heading, members in {"Flags of this command": list(own.values()), **groups}.items():
        if members:
            parts.append(f"{heading}:\n" + "\n".join(map(_flag_text, members)))
    parts.append("--flagfile=FILE reads flags from a file, one a line; --helpfull lists those of absl as well.")
    return "\n\n".join(parts)


def _flag_text(flag: flags.Flag) -> str:
    switch = f"--[no]{flag.name}" if flag.boolean else f"--{flag.name}"
    default = "" if flag.default in (None, "", []) else f" (default: {flag.default_as_str.strip(chr(39))})"
    return flags.text_wrap(f"{switch}: {flag.help}{default}", 100, "      ", "  ")
