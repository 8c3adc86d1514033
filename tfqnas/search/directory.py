"""The directory of a search with its settings, scores and front, next to earlier searches of the same supernet.

`search/b4` belongs to one search and never mixes settings or scores of two. When a search with other settings begins,
the earlier search is set aside with its models as `search/b4.1`, `b4.2` and so on; its own command brings it back. Full
scores depend only on the supernet, so a new search starts with those of earlier searches, in `reused.jsonl`.
"""

import dataclasses
import itertools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tfqnas.arch import Arch
from tfqnas.files import read_json, read_jsonl, write_atomically, write_json
from tfqnas.search.pareto import ParetoFront, Result
from tfqnas.search.search_config import SearchConfig
from tfqnas.settings import first_difference, plain

_SETTINGS, _SCORES, _REUSED, _MODELS = "config.json", "scored.jsonl", "reused.jsonl", "models.json"


def claim(
    directory: Path,
    config: SearchConfig,
    more: Mapping[str, Any],
    models: Path,
    fitting: Callable[[list[Result]], list[Result]],
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Prepares `directory` for the search with these settings, and sets another search in it aside.

    Args:
        directory: directory of the search.
        config: its settings.
        more: other JSON data that the result depends on.
        models: directory of extracted models, some of which may belong to the search that is set aside.
        fitting: function that takes `Result`s of other searches and returns the usable ones, with this search's costs.
        say: called with lines for the user.
    """
    if not _belongs(directory, config, more):
        if (directory / _SETTINGS).exists():
            say(f"{directory.name} was searched with other settings: see {_set_aside(directory, models)}")
        former = next((other for other in _others(directory) if _belongs(other, config, more)), None)
        if former is not None:
            say(f"{former}: was searched with these settings before and continues as {directory.name}")
            _bring_back(former, directory, models)
        else:
            found: dict[Arch, Result] = {}
            for other in _others(directory):
                found |= {result.arch: result for result in results_in(other, say) if not result.estimated}
            reused = fitting(list(found.values()))
            if found:
                say(
                    f"{len(reused)} scores of earlier searches of this supernet are reused, {len(found) - len(reused)} "
                    "exceed the limits"
                )
            lines = "".join(json.dumps(dataclasses.asdict(result)) + "\n" for result in reused)
            write_atomically(directory / _REUSED, lines)
    write_json(directory / _SETTINGS, {**plain(config), **more})


def reused_in(directory: Path, say: Callable[[str], None] = lambda line: None) -> list[Result]:
    """The `Result`s that a search took from earlier searches when it began; `say` is as in `scored_in`."""
    return _read(directory / _REUSED, say)


def scored_in(directory: Path, say: Callable[[str], None] = lambda line: None) -> list[Result]:
    """The `Result`s that a search has scored so far; `say` is called with a warning for each unreadable line."""
    return _read(directory / _SCORES, say)


def results_in(directory: Path, say: Callable[[str], None] = lambda line: None) -> list[Result]:
    """The reused and then the scored `Result`s of a search; `say` is as in `scored_in`."""
    return [*reused_in(directory, say), *scored_in(directory, say)]


def front_in(directory: Path) -> ParetoFront | None:
    """The `ParetoFront` that a search has written, or None."""
    path = directory / "pareto.json"
    return ParetoFront.from_json(read_json(path)) if path.exists() else None


def _read(path: Path, say: Callable[[str], None]) -> list[Result]:
    return [Result(**{**record, "arch": Arch.from_json(record["arch"])}) for record in read_jsonl(path, say)]


def _belongs(directory: Path, config: SearchConfig, more: Mapping[str, Any]) -> bool:
    """Whether a directory has these settings; fields that were added after it was written do not matter."""
    path = directory / _SETTINGS
    if not path.exists():
        return False
    kept = read_json(path)
    return not first_difference(config, kept) and all(kept.get(name, value) == value for name, value in more.items())


def _others(directory: Path) -> list[Path]:
    """The searches that were set aside, by number."""
    found = [path for path in directory.parent.glob(f"{directory.name}.*") if path.suffix[1:].isdecimal()]
    return sorted(found, key=lambda path: int(path.suffix[1:]))


def _set_aside(directory: Path, models: Path) -> Path:
    """Moves a search and its models away, and returns its new directory. A killed call can be repeated."""
    path = directory / _MODELS
    for record in read_json(path) if path.exists() else ():
        for file in models.glob(f"{record['model']}.*"):
            (directory / models.name).mkdir(exist_ok=True)
            file.rename(directory / models.name / file.name)
    names = (directory.with_name(f"{directory.name}.{number}") for number in itertools.count(1))
    return directory.rename(next(name for name in names if not name.exists()))


def _bring_back(former: Path, directory: Path, models: Path) -> None:
    if directory.exists():  # a killed process left it without settings
        _set_aside(directory, models)
    former.rename(directory)
    if (directory / models.name).exists():
        models.mkdir(exist_ok=True)
        for file in (directory / models.name).iterdir():
            file.rename(models / file.name)
        (directory / models.name).rmdir()
