"""Shows the progress of a long job, and estimates the time left. The relative work of its parts is known."""

import contextlib
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TextIO


class Progress:
    """Shows the progress of a job in one line.

        [3/9] supernet_b4  61%  loss 0.42 acc 97.1%  | part 0:32 left | job 2:41 left

    On a terminal the line is rewritten in place. Elsewhere (a file, CI) a new line appears at the start and the end of
    each part, and at most every `interval` seconds.

    The time left is estimated from the wall time of the work in this process. The running part continues at its own
    rate (seconds per unit of work), which is measured over its updates and blended with the rate of the finished parts
    while little of it is done. The remaining parts take the rate of all parts begun here, including the whole running
    part. `?` is shown while there is no estimate.

    Args:
        parts: `(name, work)` in order; work is positive, in any unit.
        stream: the stream to write to, by default standard output.
        interval: seconds between two lines, by default 0.1 on a terminal and 10 elsewhere.
        clock: a function that returns seconds; replaced in tests.
        width: number of columns, by default the terminal's.
    """

    def __init__(
        self,
        parts: Sequence[tuple[str, float]],
        stream: TextIO | None = None,
        interval: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        width: int | None = None,
    ) -> None:
        self._work = {name: float(work) for name, work in parts}
        if len(self._work) != len(parts):
            raise ValueError(f"two parts have the same name: {[name for name, _ in parts]}")
        for name, work in self._work.items():
            if not (work > 0 and math.isfinite(work)):
                raise ValueError(f"part {name!r}: work is {work}, expected a positive number")
        self._numbers = {name: number for number, name in enumerate(self._work, 1)}
        self._open = dict(self._work)  # parts that are neither finished nor skipped
        self._stream = sys.stdout if stream is None else stream
        self._terminal = self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self._interval = (0.1 if self._terminal else 10.0) if interval is None else interval
        self._clock = clock
        self._width = width
        self._done_work = self._done_time = 0.0  # of finished parts, in this process
        self._current: Part | None = None
        self._shown = ""  # the unfinished line on the terminal
        self._shown_at = -math.inf

    @contextlib.contextmanager
    def part(self, name: str, start: float = 0.0) -> Iterator["Part"]:
        """A context in which a part runs; `start` is the fraction that an earlier process has done."""
        self._take(name)
        part = self._current = Part(self, name, self._work[name], start, self._clock())
        self._show(force=True)
        try:
            yield part
        except BaseException:
            self._end(part, f"stopped at {_percent(part.fraction)} after {_duration(part.elapsed())}")
            raise
        self._open.pop(name)
        self._done_work += part.work * (1.0 - part.start)
        self._done_time += part.elapsed()
        self._end(part, f"done in {_duration(part.elapsed())}", more=bool(self._open))

    def skip(self, name: str) -> None:
        """Marks a part as finished by an earlier process, so that it does not count for the estimate."""
        self._take(name)
        self._open.pop(name)
        self._line(f"{self._head(name)}  already done")

    def log(self, text: str) -> None:
        """Writes a line above the line of progress."""
        self._line(str(text))
        if self._current and self._terminal:
            self._show(force=True)

    def time_left(self) -> float | None:
        """Estimated seconds until the job is done, or None without an estimate."""
        work, seconds = self._done_work, self._done_time
        left = 0.0
        rest = sum(self._open.values())
        if part := self._current:
            rest -= part.work
            own = part.time_left()
            if own is None:
                return None
            left = own
            work += part.work * (1.0 - part.start)
            seconds += part.elapsed() + left
        if rest <= 0:
            return left
        return left + rest * seconds / work if work > 0 else None

    def _rate(self) -> float | None:
        """Seconds per unit of work in the finished parts."""
        return self._done_time / self._done_work if self._done_work else None

    def _take(self, name: str) -> None:
        if self._current:
            raise RuntimeError(f"part {name!r} begins inside part {self._current.name!r}")
        if name not in self._work:
            raise KeyError(f"{name!r} is not one of the parts {list(self._work)}")
        if name not in self._open:
            raise ValueError(f"part {name!r} is already done")

    def _head(self, name: str) -> str:
        return f"[{self._numbers[name]}/{len(self._work)}] {name}"

    def _show(self, force: bool = False) -> None:
        now, part = self._clock(), self._current
        if part is None or (not force and now - self._shown_at < self._interval):
            return
        self._shown_at = now
        head = f"{self._head(part.name)}  {_percent(part.fraction):>4}"
        job = f"job {_duration(self.time_left())} left"
        line = self._fit(head, part.text, f"| part {_duration(part.time_left())} left | {job}", f"| {job}")
        if self._terminal:
            self._stream.write(f"\r{line}\x1b[K")
            self._shown = line
        else:
            self._stream.write(line + "\n")
        self._stream.flush()

    def _fit(self, head: str, text: str, *tails: str) -> str:
        """Head, text and the first tail with which the text fits; if none fits, the last tail and a shortened text."""
        width = self._columns()
        rooms = [width - len(head) - len(tail) - 6 for tail in tails]
        for tail, room in zip(tails, rooms, strict=True):
            if len(text) <= room:
                return "  ".join(filter(None, (head, text, tail)))
        if rooms[-1] >= 12:
            return "  ".join((head, f"{text[: int(rooms[-1]) - 3]}...", *filter(None, tails[-1:])))
        return "  ".join(filter(None, (head, *tails[-1:])))[: int(width)]

    def _columns(self) -> float:
        if not self._terminal and self._width is None:
            return math.inf
        if self._width is not None:
            return self._width
        try:
            columns = os.get_terminal_size(self._stream.fileno()).columns
        except (OSError, ValueError):
            columns = 0
        return (columns or 80) - 1  # some terminals wrap in the last column

    def _end(self, part: "Part", how: str, more: bool = False) -> None:
        self._current = None
        tail = f"| job {_duration(self.time_left())} left" if more else ""
        self._line(self._fit(f"{self._head(part.name)}  {how}", part.text, tail))

    def _line(self, text: str) -> None:
        self._stream.write(f"\r\x1b[K{text}\n" if self._shown else f"{text}\n")
        self._stream.flush()
        self._shown = ""


class Part:
    """A running part of a job, from `Progress.part`."""

    def __init__(self, progress: Progress, name: str, work: float, start: float, now: float) -> None:
        self.name = name
        self.work = work
        self.start = self.fraction = _fraction(start)
        self.text = ""
        self._progress = progress
        self._began = now
        self._updates: list[
            tuple[float, float]
        ] = []  # (seconds, fraction) of the first update with work done and of the last

    def update(self, done: float, text: str | None = None) -> None:
        """Sets the finished fraction of the part, 0 to 1, and the text to show; None keeps the text."""
        self.fraction = _fraction(done)
        if text is not None:
            self.text = " ".join(str(text).split())
        if self.fraction > self.start:
            self._updates = [*self._updates[:1], (self.elapsed(), self.fraction)]
        self._progress._show()

    def resume(self, fraction: float) -> None:
        """Marks a fraction as done by an earlier process, for example after restoring a checkpoint."""
        self.start = _fraction(fraction)
        self._updates.clear()
        self.update(fraction)

    def log(self, text: str) -> None:
        """Writes a line above the line of progress."""
        self._progress.log(text)

    def elapsed(self) -> float:
        """Seconds since the part began."""
        return max(0.0, self._progress._clock() - self._began)

    def time_left(self) -> float | None:
        """Estimated seconds until the part is done, or None without an estimate."""
        remaining = 1.0 - self.fraction
        own, others = self._seconds_for_all(), self._progress._rate()
        if others is not None:
            others *= self.work
            # The part's own rate counts half when a twentieth is done, and nearly fully when a third is.
            weight = (done := max(0.0, self.fraction - self.start)) / (done + 0.05)
            own = others if own is None else weight * own + (1.0 - weight) * others
        if remaining <= 0.0:
            return 0.0
        return None if own is None else remaining * own

    def _seconds_for_all(self) -> float | None:
        """Seconds for the whole part at its own rate.

        The first step is slow (tracing, compilation), so the rate is measured from its end as soon as enough updates
        have followed.
        """
        if not self._updates:
            return None
        (first_time, first), (time_, last) = self._updates[0], self._updates[-1]
        if last - first > 0.01 and time_ > first_time:
            return (time_ - first_time) / (last - first)
        return time_ / (last - self.start) if last > self.start else None


def _fraction(value: float) -> float:
    value = float(value)
    return min(1.0, max(0.0, value)) if math.isfinite(value) else 0.0


def _percent(fraction: float) -> str:
    return f"{math.floor(100 * fraction + 1e-9)}%"  # 100% means done


def _duration(seconds: float | None) -> str:
    """m:ss or h:mm:ss; `?` for None."""
    if seconds is None or not math.isfinite(seconds):
        return "?"
    minutes, seconds = divmod(math.ceil(max(0.0, seconds) - 1e-6), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
