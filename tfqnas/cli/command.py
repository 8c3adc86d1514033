"""What all commands share: flags made from settings, help on them, what is refused, and errors without a traceback."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import math
import os
import re
import shlex
import sys
import types
import typing
import warnings
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from absl import app, flags

from tfqnas.cli import flagfiles
from tfqnas.cli.overview import COMMANDS, module_of, show
from tfqnas.errors import SettingError, UserError, as_text, did_you_mean
from tfqnas.locks import writer
from tfqnas.settings import Settings, limits
from tfqnas.train.cluster import Cluster, of_environment

if TYPE_CHECKING:
    from tfqnas.runs.run import Run
    from tfqnas.train.run_config import RunConfig
    from tfqnas.train.stages import Bits

Config = typing.TypeVar("Config")
_HELP = {f"{dashes}{name}" for dashes in ("-", "--") for name in ("help", "helpshort", "helpfull", "h", "?")}


_LARGEST = 2**31 - 1  # of whole numbers, as in settings


class Flags(flags.FlagValues):
    """The flags of one command. Its methods define one each: the arguments are those of absl's `DEFINE_...`."""

    def _define(self, define: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        return define(*arguments, flag_values=self, **options)

    string = functools.partialmethod(_define, flags.DEFINE_string)
    bool = functools.partialmethod(_define, flags.DEFINE_bool)
    integer = functools.partialmethod(_define, flags.DEFINE_integer, upper_bound=_LARGEST)
    list = functools.partialmethod(_define, flags.DEFINE_list)
    enum = functools.partialmethod(_define, flags.DEFINE_enum)

    def float(self, name: str, *arguments: Any, **options: Any) -> Any:
        made = self._define(flags.DEFINE_float, name, *arguments, **options)
        flags.register_validator(name, math.isfinite, "expected a finite number", flag_values=self)
        return made


@dataclasses.dataclass
class _Call:
    """How the command that runs was called.

    Attributes:
        typed: names of flags on the command line itself, not in a flagfile. kept: what keeps its work, or "".
        locks: what only this process may write to until the command ends. cluster: its part in a training on several
            hosts.
    """

    program: str = ""
    arguments: tuple[str, ...] = ()
    flags: flags.FlagValues = dataclasses.field(default_factory=flags.FlagValues)
    typed: frozenset[str] = frozenset()
    kept: str = ""
    locks: contextlib.ExitStack = dataclasses.field(default_factory=contextlib.ExitStack)
    cluster: Cluster | None = None


_call = _Call()


# Flags and settings


def define_flags(config_class: Any, holder: flags.FlagValues, read_by: Sequence[str] = ()) -> None:
    """Defines an absl flag for each field of a settings dataclass, in `holder`.

    Args:
        read_by: names of the commands that read these flags, if this one does not: they may stand in a flagfile that
            describes a whole run, and are refused on the command line.
    """
    define: dict[Any, Callable[..., Any]]
    define = {int: flags.DEFINE_integer, float: flags.DEFINE_float, str: flags.DEFINE_string, bool: flags.DEFINE_bool}
    for field in dataclasses.fields(config_class):
        default, text = typing.cast(Any, field.default), field.metadata["help"]
        if typing.get_origin(field.type) is tuple:
            flags.DEFINE_list(field.name, [str(v) for v in default], text, flag_values=holder)
        else:
            define[field.type](field.name, default, text, flag_values=holder)
        # What this program wants to know of the flag besides.
        flag = holder[field.name]
        flag.heading, flag.limits, flag.read_by = _heading(config_class, field.name), limits(field), tuple(read_by)


def _heading(config_class: type, name: str) -> str:
    """The first sentence on the class that declares a field."""
    definer = next(c for c in config_class.__mro__ if name in vars(c).get("__annotations__", {}))
    return (definer.__doc__ or definer.__name__).strip().split(". ")[0].splitlines()[0].rstrip(".")


def from_flags(config_class: type[Config], holder: flags.FlagValues, effects: bool = True) -> Config:
    """The settings record that the flags in `holder` describe.

    Args:
        effects: whether flags are refused that have no effect with the others.

    Raises:
        UserError: for a value that a setting cannot have, and for a flag on the command line that has no effect.
    """
    values = {}
    for field in dataclasses.fields(typing.cast(Any, config_class)):
        value = holder[field.name].value
        if typing.get_origin(field.type) is tuple:
            element = typing.get_args(field.type)[0]
            try:
                value = tuple(element(v) for v in value)
            except ValueError:
                numbers = "whole numbers" if element is int else "numbers"
                raise SettingError(field.name, f"{numbers} separated by commas", value) from None
        values[field.name] = value
    config = config_class(**values)
    if effects and holder is _call.flags and isinstance(config, Settings):
        for name in _call.typed & values.keys():
            if found := config.without_effect(name):
                refuse([name], *found)
    if note := getattr(config, "note", ""):
        print(in_flags(note, holder))
    return config


def refuse(names: Collection[str], why: str, where: str) -> None:
    """Raises UserError for one of these flags on the command line, where it has no effect.

    In a flagfile it may stand: that may be for more than one command.

    Args:
        names: of flags. why: such as "with `host`". where: what it belongs to, in words.
    """
    for name in names:
        if name in _call.typed:
            raise UserError(f"`{name}`: has no effect {why}, it belongs to {where}")


def fields_of(config_class: Any) -> list[str]:
    """Names of the flags that `define_flags` defines."""
    return [field.name for field in dataclasses.fields(config_class)]


def bit_width(run: Run, flag: str, text: str | None) -> Bits:
    """The supernet of a run that a flag names: a bit width, or "mixed".

    Raises:
        SettingError: the run has no such supernet.
    """
    value = int(text) if text and text.isdecimal() else text
    if value not in run.bit_widths:
        raise SettingError(flag, f"one of this run's {as_text(run.bit_widths)}", text or "")
    return value


def import_tensorflow() -> None:
    """Imports TensorFlow without the lines on CUDA and oneDNN that it writes whatever its log level is.

    They come from C++ before logging is set up, so only the file descriptor can be silenced. A failing import
    still raises its exception. Commands call this when the settings are known to be right: it takes seconds.
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


# Running


def run(module: types.ModuleType, program: str | None = None, arguments: Sequence[str] | None = None) -> None:
    """Runs a command: errors that are meant for the user end with their message and exit code 1.

    Args:
        module: with its flags, `FLAGS`, and `main()`; or `main(words)` and a constant `WORDS` that says which words it
            takes besides flags.
        program: how the command was called, such as "tfqnas train". arguments: flags and words. By default those of
            the process.
    """
    global _call
    warnings.filterwarnings("ignore", module=r"PIL\.")  # of damaged EXIF data: lines of Python between ours
    holder: flags.FlagValues = module.FLAGS
    for name in holder:  # a process may run more than one command: tests do
        holder[name].unparse()
    program, *arguments = [program or sys.argv[0], *(sys.argv[1:] if arguments is None else arguments)]
    _call = _Call(program, tuple(arguments), holder, _typed(arguments, holder))

    def parse(argv: list[str]) -> list[str]:
        if _HELP & set(_before_words(argv[1:])):
            show(help_text(module))
            sys.exit(0)
        try:
            words = _parsed(argv, holder)
            _refuse_words(words, holder, getattr(module, "WORDS", ""))
            for name in _call.typed:
                if readers := getattr(holder[name], "read_by", ()):
                    refuse([name], "here", " and ".join(readers))
        except (flags.Error, UserError) as error:
            print(f"error: {in_flags(error, holder)}\n{program} --help lists its flags", file=sys.stderr)
            sys.exit(1)
        return words

    def guarded(words: list[str]) -> None:
        try:
            _check_directory()
            with _call.locks:
                module.main(*([words] if hasattr(module, "WORDS") else []))
        except (UserError, OSError) as error:
            sys.stdout.flush()
            print(f"error: {in_flags(error, holder)}", file=sys.stderr)
            _end(1)
        except KeyboardInterrupt:
            print(f"\nstopped; {_what_is_kept()}", file=sys.stderr)
            _end(130)

    app.run(guarded, argv=[program, *arguments], flags_parser=parse)


def _end(code: int) -> NoReturn:
    if _call.cluster and _call.cluster.others:
        # One of TensorFlow's threads may wait for another worker, for an hour, and the end of Python for that thread.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def in_flags(message: object, holder: flags.FlagValues) -> str:
    """A message of the library for the command line: settings in backquotes become its flags."""
    text = re.sub(r"`(\w+)(=[^`]*)?`", lambda m: f"--{m[1]}{m[2] or ''}" if m[1] in holder else m[0], str(message))
    return f"--{text}" if isinstance(message, SettingError) and message.field in holder else text


def _check_directory() -> None:
    """Raises UserError if the working directory has been removed, where no path can be found."""
    try:
        os.getcwd()
    except FileNotFoundError:
        raise UserError("the directory in which this command runs has been removed: change to another one") from None


def _before_words(arguments: Sequence[str]) -> list[str]:
    """The arguments before "--"."""
    arguments = list(arguments)
    return arguments[: arguments.index("--")] if "--" in arguments else arguments


def _typed(arguments: Sequence[str], holder: flags.FlagValues) -> frozenset[str]:
    names = (a.lstrip("-").partition("=")[0] for a in _before_words(arguments) if a.startswith("-"))
    found = (name if name in holder else name.removeprefix("no") for name in names)
    return frozenset(name for name in found if name in holder)


def _parsed(argv: Sequence[str], holder: flags.FlagValues) -> list[str]:
    """Gives the flags their values; returns the words beside them."""
    every = flags.FlagValues()
    every.append_flag_values(holder)
    for name in set(flags.FLAGS) - set(holder):  # absl's own
        if (flag := flags.FLAGS[name]).name == name:  # not its short name
            every[name] = flag
    try:
        words = every([argv[0], *flagfiles.with_paths(argv[1:])])[1:]
    except flags.IllegalFlagValueError as error:
        raise _illegal(error, every) from None
    except UnicodeDecodeError as error:
        raise UserError(f"--flagfile: expected flags, one a line, received bytes that are no text ({error})") from None
    except flags.UnrecognizedFlagError as error:
        name = error.flagname
        known = ((other, module_of(other).FLAGS) for other in COMMANDS)
        others = [f"tfqnas {other}" for other, own in known if name in own and not getattr(own[name], "read_by", ())]
        near = did_you_mean(name, holder).replace(" mean ", " mean --")
        hint = f", it belongs to {', '.join(others)}" if others else near
        raise UserError(f"--{name}: this command has no such flag{hint}") from None
    for each in (holder, flags.FLAGS):
        each.mark_as_parsed()
    return words


def _illegal(error: flags.IllegalFlagValueError, holder: flags.FlagValues) -> Exception:
    """What absl says of a value, in the words of settings."""
    found = re.match(r"flag --(\w+)=(.*?): ", str(error), re.DOTALL)
    if not found:
        return error
    name, value = found.groups()
    flag = holder[name]
    if value == "None":  # it was not given
        return UserError(f"--{name}: expected {flag.help}, received nothing")
    nouns = {flags.IntegerParser: "a whole number", flags.FloatParser: "a finite number"}
    nouns |= {flags.BooleanParser: "true or false"}
    expected = " ".join(filter(None, [nouns.get(type(flag.parser)), _limits(flag)]))
    hint = did_you_mean(value, getattr(flag.parser, "enum_values", ()))
    return UserError(f"--{name}: expected {expected or 'another value'}, received {value or 'nothing'}{hint}")


def _refuse_words(words: Sequence[str], holder: flags.FlagValues, expected: str) -> None:
    """Raises UserError for a word where none is expected, and for a flag that lacks its hyphens."""
    for word in words:
        name, equals, _ = word.lstrip("-\u2010\u2011\u2012\u2013\u2014\u2015\u2212").partition("=")  # as on web pages
        is_flag = name in holder and (equals or not word.startswith(name))
        if is_flag or not expected:
            meant = f": a flag begins with two hyphens, --{name}" if name in holder else ""
            raise UserError(f"expected {f'{expected} and flags' if expected else 'flags only'}, received {word}{meant}")


def keeps(what: str | os.PathLike[str]) -> None:
    """Remembers what keeps the command's work from now on, a file or a directory: Ctrl-C says so."""
    _call.kept = os.fspath(what)


def writes(path: str | os.PathLike[str], setting: str, files: Collection[str | os.PathLike[str]] = ()) -> None:
    """Lets no other process write to a path until the command ends; the arguments are those of `tfqnas.locks.writer`.

    A command calls this before it reads what it will change.

    Raises:
        UserError: another process writes there, or one of the files is a directory.
    """
    if directory := next((file for file in files if os.path.isdir(file)), None):
        raise UserError(f"`{setting}={directory}`: expected a file to write, received a directory")
    _call.locks.enter_context(writer(path, setting, files))


def trains(config: RunConfig, new: bool = True) -> Cluster | None:
    """The other processes of this training if there are some; the first one gets the lock of the run's directory.

    Args:
        new: whether the directory need not exist.

    Raises:
        UserError: TF_CONFIG is wrong, or another process writes there.
    """
    _call.cluster = of_environment(config.distribution)
    if _call.cluster is None or _call.cluster.writes:
        if not new:
            changes(config.run_dir)
        elif config.run_dir:
            writes(config.run_dir, "run_dir")
    return _call.cluster


def changes(run_dir: str) -> None:
    """The same for the directory of a run that exists. If it does not, the command says so itself."""
    if os.path.isdir(run_dir):
        writes(run_dir, "run_dir")


def _program() -> str:
    return _call.program if _call.program.startswith("tfqnas ") else f"python {shlex.quote(_call.program)}"


def _what_is_kept() -> str:
    command = " ".join([_program(), shlex.join(_call.arguments)]).rstrip()
    if not _call.kept:
        return f"nothing of this command is kept, it begins anew:\n    {command}"
    return f"what is done is kept in {_call.kept}, the same command goes on from there:\n    {command}"


# Help


def help_text(module: types.ModuleType) -> str:
    """What a command does and its flags: its own, then group by group those of settings."""
    holder = module.FLAGS
    groups: dict[str, list[str]] = {"Flags of this command": []}
    for flag in (holder[name] for name in holder):
        if not getattr(flag, "read_by", ()):
            heading = getattr(flag, "heading", "Flags of this command")
            groups.setdefault(heading, []).append(_flag_text(flag, holder))
    texts = [f"{heading}:\n" + "\n".join(lines) for heading, lines in groups.items() if lines]
    ends = (
        f"--flagfile=FILE reads flags from a file, one a line, or from one of tfqnas: {', '.join(flagfiles.names())}."
    )
    return "\n\n".join([(module.__doc__ or "").strip(), *texts, ends])


def _flag_text(flag: flags.Flag, holder: flags.FlagValues) -> str:
    switch = f"--[no]{flag.name}" if flag.boolean else f"--{flag.name}"
    default = "" if flag.default in (None, "", []) else f"default: {flag.default_as_str.strip(chr(39))}"
    notes = "; ".join(filter(None, [_limits(flag), default]))
    text = re.sub(r"^<.*?>: ", "", flag.help)  # absl's words for the choices
    text = in_flags(text, holder) + (f" ({notes})" if notes else "")
    return flags.text_wrap(f"{switch}: {text}", 100, "      ", "  ")


def _limits(flag: flags.Flag) -> str:
    """Which values a flag may have, in words."""
    if hasattr(flag, "limits"):
        return flag.limits
    if choices := getattr(flag.parser, "enum_values", ()):
        return f"one of {', '.join(choices)}"
    low, high = (getattr(flag.parser, name, None) for name in ("lower_bound", "upper_bound"))
    return "" if low is None else f"from {low:g} " + ("on" if high in (None, _LARGEST) else f"to {high:g}")
