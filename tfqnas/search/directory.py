"""The directory of a search with its settings, scores and front, next to earlier searches of the same supernet.

`search/b4` belongs to one search and never mixes settings or scores of two. When a search with other settings begins,
the earlier search is set aside with its models as `search/b4.1`, `b4.2` and so on; its own command brings it back. Full
scores depend only on the supernet, so a new search starts with those of earlier searches, in `reused.jsonl`.
"""

import dataclasses
import glob
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypedDict

from tfqnas.arch import Arch
from tfqnas.files import read_json, read_jsonl, read_regular, warn, write_atomically, write_json
from tfqnas.records import Open, RecordError, conform
from tfqnas.search.pareto import ParetoFront, Result
from tfqnas.search.search_config import SearchConfig
from tfqnas.search.searcher import SEARCHERS
from tfqnas.settings import first_difference, plain, read_back, written
from tfqnas.spaces import SearchSpace


class SearchOf(TypedDict, total=False):
    """What a search depends on besides its settings.

    `space` and `supernet` are digests: of the space, and of the checkpoint that was scored. `latency_table_sha256` and
    `latency_device` are content and device of the latency table, None without one.
    """

    space: str
    supernet: str
    latency_table_sha256: str | None
    latency_device: str | None


class _Named(TypedDict):
    model: str


_ANY = "random"  # a searcher, where only the other settings matter
_SETTINGS, _SCORES, _REUSED, _MODELS = "config.json", "scored.jsonl", "reused.jsonl", "models.json"


def claim(
    directory: Path,
    config: SearchConfig,
    more: SearchOf,
    space: SearchSpace,
    models: Path,
    fitting: Callable[[list[Result]], list[Result]],
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Prepares `directory` for the search with these settings, and sets another search in it aside.

    Args:
        directory: directory of the search.
        config: its settings.
        more: what else the result depends on.
        space: space of the supernet.
        models: directory of extracted models, some of which may belong to the search that is set aside.
        fitting: function that takes `Result`s of other searches and returns the usable ones, with this search's costs.
        say: called with lines for the user.
    """
    if not _belongs(directory, config, more):
        if (directory / _SETTINGS).exists():
            what = "with other settings" if of_same_supernet(directory, more) else "with another supernet"
            say(f"{directory.name} was searched {what}: see {_set_aside(directory, models)}")
        former = next((other for other in _others(directory) if _belongs(other, config, more)), None)
        if former is not None:
            say(f"{former}: was searched with these settings before and continues as {directory.name}")
            _bring_back(former, directory, models)
        else:
            found: dict[Arch, Result] = {}
            for other in _others(directory):
                if of_same_supernet(other, more):
                    found |= {result.arch: result for result in results_in(other, space, say) if not result.estimated}
                else:
                    say(f"{other}: its scores are of another supernet, and not reused")
            reused = fitting(list(found.values()))
            if found:
                say(
                    f"{len(reused)} scores of earlier searches of this supernet are reused, {len(found) - len(reused)} "
                    "exceed the limits"
                )
            lines = "".join(json.dumps(dataclasses.asdict(result)) + "\n" for result in reused)
            write_atomically(directory / _REUSED, lines)
    elif not (settings_in(directory) or ({}, {}))[1].get("supernet"):
        say(f"{directory} does not say which supernet it scored (an earlier version made it); its scores are believed")
    write_json(directory / _SETTINGS, {**written(config), **more})


def of_same_supernet(directory: Path, more: SearchOf) -> bool:
    """Whether what a search has scored is of this supernet, as far as its file says."""
    kept = settings_in(directory)
    return kept is None or not {"space", "supernet"} & set(_differs(kept[1], more))


def reused_in(directory: Path, space: SearchSpace, say: Callable[[str], object] = warn) -> list[Result]:
    """The `Result`s that a search took from earlier searches when it began; arguments and errors as in `scored_in`."""
    return read_jsonl(directory / _REUSED, Result, say, lambda result: _check(result, space))


def scored_in(directory: Path, space: SearchSpace, say: Callable[[str], object] = warn) -> list[Result]:
    """The `Result`s that a search has scored so far.

    Args:
        directory: directory of the search.
        space: space of the supernet.
        say: called with a warning for each line that a killed process left incomplete.

    Raises:
        RecordError: a line is not such a result, or its architecture is not of the space.
    """
    return read_jsonl(directory / _SCORES, Result, say, lambda result: _check(result, space))


def results_in(directory: Path, space: SearchSpace, say: Callable[[str], object] = warn) -> list[Result]:
    """The reused and then the scored `Result`s of a search; arguments and errors as in `scored_in`."""
    return [*reused_in(directory, space, say), *scored_in(directory, space, say)]


def _check(result: Result, space: SearchSpace) -> None:
    space.validate(result.arch)
    if not result.costs:
        raise ValueError("costs: expected at least one, received an empty object")


def front_in(directory: Path, space: SearchSpace) -> ParetoFront | None:
    """The `ParetoFront` that a search has written, or None; raises `RecordError` if it is damaged or not of `space`."""
    path = directory / "pareto.json"
    if not path.exists():
        return None
    front = ParetoFront.from_json(read_regular(path), str(path))
    for place, row in enumerate(front.rows):
        try:
            space.validate(row.arch)
        except ValueError as error:
            raise RecordError(f"{path}: rows[{place}]: {error}") from None
    return front


def settings_in(directory: Path) -> tuple[dict[str, Any], SearchOf] | None:
    """The settings of a search, JSON data, and what it is of, or None; raises `RecordError` if the file is damaged.

    The searcher may be one that this process does not know.
    """
    path = directory / _SETTINGS
    if not path.exists():
        return None
    kept = read_json(path, dict[str, Any])
    about = {name: kept.pop(name) for name in SearchOf.__annotations__ if name in kept}
    known = kept if conform(kept.get("search", ""), str, f"{path}: search") in SEARCHERS else {**kept, "search": _ANY}
    settings = {**plain(read_back(SearchConfig, known, str(path))), **kept}
    return settings, conform(about, SearchOf, str(path))


def _belongs(directory: Path, config: SearchConfig, more: SearchOf) -> bool:
    """Whether a search has these settings; fields that were added after it was written do not matter."""
    kept = settings_in(directory)
    return kept is not None and not first_difference(config, kept[0]) and not _differs(kept[1], more)


def _differs(kept: SearchOf, more: SearchOf) -> list[str]:
    """What differs of what two searches are of. Files of earlier versions do not have everything."""
    return [name for name, value in more.items() if kept.get(name, value) != value]


def _others(directory: Path) -> list[Path]:
    """The searches that were set aside, by number."""
    found = [path for path in directory.parent.glob(f"{directory.name}.*") if path.suffix[1:].isdecimal()]
    return sorted(found, key=lambda path: int(path.suffix[1:]))


def _set_aside(directory: Path, models: Path) -> Path:
    """Moves a search and its models away, and returns its new directory. A killed call can be repeated."""
    path = directory / _MODELS
    for record in read_json(path, list[Annotated[_Named, Open()]]) if path.exists() else ():
        for file in models.glob(f"{glob.escape(record['model'])}.*"):
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
