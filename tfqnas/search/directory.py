"""The directory of a search: its settings, its scores, its front; and the searches of the same supernet before it.

`search/b4` belongs to one search: settings and scores of another are never mixed with its own. Where a search with
other settings begins, the one before it is set aside as `search/b4.1`, `b4.2` and so on, with its models; its own
command brings it back. Full scores depend on the supernet alone, so the new search has them from the start, in
`reused.jsonl`.
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
    """Makes `directory` that of the search with these settings; what another search has there is set aside.

    Args:
        directory: `Path`. config: `SearchConfig`. more: dict, JSON data that decides the result as well.
        models: `Path` of the extracted models, some of which may be of the search that is set aside.
        fitting: `Result`s of other searches -> those that this search can use, with its costs.
        say: called with lines for the user.
    """
    if not _belongs(directory, config, more):
        if (directory / _SETTINGS).exists():
            say(f"{directory.name} was searched with other settings: see {_set_aside(directory, models)}")
        former = next((other for other in _others(directory) if _belongs(other, config, more)), None)
        if former is not None:
            say(f"{former}: searched with these settings before, goes on as {directory.name}")
            _bring_back(former, directory, models)
        else:
            found: dict[Arch, Result] = {}
            for other in _others(directory):
                found |= {result.arch: result for result in results_in(other, say) if not result.estimated}
            reused = fitting(list(found.values()))
            if found:
                say(
                    f"{len(reused)} scores of earlier searches of this supernet are reused, {len(found) - len(reused)} "
                    "are beyond the limits"
                )
            lines = "".join(json.dumps(dataclasses.asdict(result)) + "\n" for result in reused)
            write_atomically(directory / _REUSED, lines)
    write_json(directory / _SETTINGS, {**plain(config), **more})


def reused_in(directory: Path, say: Callable[[str], None] = lambda line: None) -> list[Result]:
    """The `Result`s that a search had from others when it began."""
    return _read(directory / _REUSED, say)


def scored_in(directory: Path, say: Callable[[str], None] = lambda line: None) -> list[Result]:
    """The `Result`s of a search so far; `say` is called with a warning of each line that cannot be read."""
    return _read(directory / _SCORES, say)


def results_in(directory: Path, say: Callable[[str], None] = lambda line: None) -> list[Result]:
    """Both, the reused ones first."""
    return [*reused_in(directory, say), *scored_in(directory, say)]


def front_in(directory: Path) -> ParetoFront | None:
    """The `ParetoFront` that a search has written, None if it has not."""
    path = directory / "pareto.json"
    return ParetoFront.from_json(read_json(path)) if path.exists() else None


def _read(path: Path, say: Callable[[str], None]) -> list[Result]:
    return [Result(**{**record, "arch": Arch.from_json(record["arch"])}) for record in read_jsonl(path, say)]


def _belongs(directory: Path, config: SearchConfig, more: Mapping[str, Any]) -> bool:
    """Whether a directory has these settings; fields that are younger than it do not matter."""
    path = directory / _SETTINGS
    if not path.exists():
        return False
    kept = read_json(path)
    return not first_difference(config, kept) and all(kept.get(name, value) == value for name, value in more.items())


def _others(directory: Path) -> list[Path]:
    """Searches that were set aside, in the order of their numbers."""
    found = [path for path in directory.parent.glob(f"{directory.name}.*") if path.suffix[1:].isdecimal()]
    return sorted(found, key=lambda path: int(path.suffix[1:]))


def _set_aside(directory: Path, models: Path) -> Path:
    """Returns where the search is now. Paths in its `models.json` then begin there; repetition makes a kill good."""
    path = directory / _MODELS
    for record in read_json(path) if path.exists() else ():
        for file in models.glob(f"{record['model']}.*"):
            (directory / models.name).mkdir(exist_ok=True)
            file.rename(directory / models.name / file.name)
    names = (directory.with_name(f"{directory.name}.{number}") for number in itertools.count(1))
    return directory.rename(next(name for name in names if not name.exists()))


def _bring_back(former: Path, directory: Path, models: Path) -> None:
    if directory.exists():  # a kill has left it without settings
        _set_aside(directory, models)
    former.rename(directory)
    if (directory / models.name).exists():
        models.mkdir(exist_ok=True)
        for file in (directory / models.name).iterdir():
            file.rename(models / file.name)
        (directory / models.name).rmdir()
