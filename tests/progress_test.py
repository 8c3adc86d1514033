import io
import re

import pytest

from tfqnas.progress import Progress


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True

    def screen(self):
        """What a terminal shows after all that was written."""
        lines = []
        for line in self.getvalue().split("\n"):
            shown = ""
            for piece in line.split("\r"):
                piece, erased, rest = piece.partition("\x1b[K")
                shown = piece + rest if erased else piece + shown[len(piece) :]
            lines.append(shown)
        return lines


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(autouse=True)
def terminal_type(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")


def seconds(text):
    """The time left shown after `part` and after `job`; None for an unknown one."""

    def parse(value):
        total = 0
        for number in value.split(":"):
            total = 60 * total + int(number)
        return total

    return {
        name: None if value == "?" else parse(value) for name, value in re.findall(r"(part|job) (\?|[\d:]+) left", text)
    }


def test_the_line_has_number_percent_text_and_times_left(clock):
    out = Terminal()
    progress = Progress([("float", 1), ("supernet_b4", 4), ("search", 2)], out, clock=clock, width=120)
    with progress.part("float"):
        clock.now += 10
    with progress.part("supernet_b4") as part:
        for percent in range(1, 62):
            clock.now += 0.4
            part.update(percent / 100, "loss 0.42 acc 97.1%")
        line = out.screen()[-1]
        assert line.startswith("[2/3] supernet_b4   61%  loss 0.42 acc 97.1%  | part ")
        left = seconds(line)
        assert left["part"] == pytest.approx(0.39 * 40, abs=2)
        assert left["job"] == pytest.approx(0.39 * 40 + 2 * 10, abs=3)


@pytest.mark.parametrize("pace", [1.0, 0.2, 5.0])
def test_the_time_left_of_an_even_job_is_right_from_the_start(clock, pace):
    out = io.StringIO()
    progress = Progress([("a", 1), ("b", 3), ("c", 6)], out, interval=0, clock=clock)
    begin, total = clock.now, 10 * 20 * pace
    for name, work in (("a", 1), ("b", 3), ("c", 6)):
        with progress.part(name) as part:
            for step in range(20 * work):
                clock.now += pace
                part.update((step + 1) / (20 * work))
                assert progress.time_left() == pytest.approx(total - (clock.now - begin), abs=1e-6)


def test_a_slow_first_step_is_not_taken_for_the_pace(clock):
    progress = Progress([("train", 1)], io.StringIO(), clock=clock)
    with progress.part("train") as part:
        part.update(0.0, "preparing")
        for step in range(10):
            clock.now += 20 if step == 0 else 0.1  # tracing, then steps
            part.update((step + 1) / 1000)
        clock.now += 2
        part.update(0.030)
        assert progress.time_left() == pytest.approx(970 * 0.1, rel=0.05)


def test_nothing_is_known_before_the_first_update(clock):
    out = Terminal()
    progress = Progress([("a", 1), ("b", 1)], out, clock=clock, width=100)
    with progress.part("a"):
        assert progress.time_left() is None
        assert out.screen()[-1] == "[1/2] a    0%  | part ? left | job ? left"


def test_the_rate_of_finished_parts_serves_the_next_from_its_first_moment(clock):
    progress = Progress([("a", 2), ("b", 4), ("c", 1)], io.StringIO(), clock=clock)
    with progress.part("a"):
        clock.now += 10
    with progress.part("b") as part:
        assert part.time_left() == pytest.approx(20)
        assert progress.time_left() == pytest.approx(25)


def test_a_part_that_turns_out_slower_moves_the_whole_estimate(clock):
    progress = Progress([("a", 1), ("b", 1), ("c", 1)], io.StringIO(), clock=clock)
    with progress.part("a"):
        clock.now += 10
    with progress.part("b") as part:
        for percent in range(1, 91):
            clock.now += 1.0  # ten times slower
            part.update(percent / 100)
        assert part.time_left() == pytest.approx(10, rel=0.2)
        assert progress.time_left() == pytest.approx(10 + (10 + 100) / 2, rel=0.1)


def test_work_of_an_earlier_process_is_neither_left_nor_counted_as_fast(clock):
    out = io.StringIO()
    progress = Progress([("a", 50), ("b", 10), ("c", 10)], out, clock=clock)
    progress.skip("a")
    with progress.part("b") as part:
        part.resume(0.5)
        for percent in range(51, 101):
            clock.now += 1
            part.update(percent / 100)
    assert progress.time_left() == pytest.approx(100)
    assert out.getvalue().startswith("[1/3] a  already done\n[2/3] b")


@pytest.mark.parametrize("done", [-1.0, 0.0, 0.5, 1.0, 7.0, float("nan"), float("inf")])
def test_time_left_is_never_negative(clock, done):
    progress = Progress([("a", 1), ("b", 1)], io.StringIO(), clock=clock)
    with progress.part("a") as part:
        clock.now += 1
        part.update(0.4)
        for change in (1.0, -5.0):  # a clock may also be set back
            clock.now += change
            part.update(done)
            assert (progress.time_left() or 0) >= 0


def test_elsewhere_than_on_a_terminal_lines_are_few_and_plain(clock):
    out = io.StringIO()
    progress = Progress([("a", 1), ("b", 1)], out, clock=clock)
    for name in ("a", "b"):
        with progress.part(name) as part:
            for step in range(350):
                clock.now += 0.1
                part.update((step + 1) / 350, "loss 1")
    text = out.getvalue()
    assert "\r" not in text and "\x1b" not in text and text.endswith("\n")
    assert len(text.splitlines()) == 2 * (1 + 3 + 1)  # start, one each 10 s, end
    assert text.splitlines()[4] == "[1/2] a  done in 0:35  loss 1  | job 0:35 left"
    assert text.splitlines()[-1] == "[2/2] b  done in 0:35  loss 1"


def test_on_a_terminal_each_part_leaves_one_line(clock):
    out = Terminal()
    progress = Progress([("a", 1), ("b", 1)], out, clock=clock, width=80)
    for name in ("a", "b"):
        with progress.part(name) as part:
            for step in range(100):
                clock.now += 0.5
                part.update((step + 1) / 100, "x" * (step % 7))
    assert [line[:19] for line in out.screen()] == ["[1/2] a  done in 0:", "[2/2] b  done in 0:", ""]


def test_a_terminal_is_not_rewritten_more_often_than_ten_times_a_second(clock):
    out = Terminal()
    with Progress([("a", 1)], out, clock=clock).part("a") as part:
        for step in range(1000):
            clock.now += 0.001
            part.update(step / 1000)
    assert out.getvalue().count("\r") < 15


@pytest.mark.parametrize("width", range(10, 130, 7))
def test_a_line_never_exceeds_the_width(clock, width):
    out = Terminal()
    progress = Progress([("supernet_b4", 1), ("b", 1)], out, interval=0, clock=clock, width=width)
    with progress.part("supernet_b4") as part:
        for step in range(10):
            clock.now += 1000
            part.update(step / 10, "loss 0.42 accuracy 97.1% learning rate 0.05")
    assert max(map(len, out.screen())) <= width
    assert all(line.startswith("[1/2] supe"[:width]) for line in out.screen()[:-1])


def test_a_narrow_line_gives_up_text_before_the_time_left(clock):
    out = Terminal()
    with Progress([("a", 1)], out, interval=0, clock=clock, width=50).part("a") as part:
        clock.now += 10
        part.update(0.5, "loss 0.42 accuracy 97.1% learning rate 0.05")
        assert out.screen()[-1] == "[1/1] a   50%  loss 0.42 acc...  | job 0:10 left"


def test_a_text_that_is_too_long_gets_the_room_of_the_longer_tail(clock):
    """On 80 columns what a search has found is seen, and not the time of its part."""
    out = Terminal()
    progress = Progress([("search_b4", 1), ("search_b3", 9)], out, interval=0, clock=clock, width=79)
    with progress.part("search_b4") as part:
        for done, seconds in ((0.1, 100), (0.5, 1000)):
            clock.now += seconds
            part.update(done, "86.4% at 0.17, 91.2% at 0.5, 92.6% at 1.06 effective_mflops; 120 subnets")
        line = out.screen()[-1]
        assert "86.4% at 0.17, 91.2% at 0.5, 92..." in line and "| job" in line and "part" not in line
        part.update(0.6, "short")
        assert "| part" in out.screen()[-1]


def test_a_log_line_stands_above_the_progress_line(clock):
    out = Terminal()
    progress = Progress([("a", 1)], out, clock=clock, width=80)
    with progress.part("a") as part:
        clock.now += 1
        part.update(0.5, "working")
        progress.log("hello")
        assert out.screen()[:-1] == ["hello"]
        assert out.screen()[-1].startswith("[1/1] a   50%  working")
    progress.log("bye")
    assert out.screen()[-2:] == ["bye", ""]


@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_passes_and_the_line_is_ended(clock, stream, error):
    out = stream()
    progress = Progress([("a", 1)], out, clock=clock)
    with pytest.raises(error), progress.part("a") as part:
        clock.now += 12
        part.update(0.25)
        raise error
    assert out.getvalue().endswith("[1/1] a  stopped at 25% after 0:12\n")
    with progress.part("a"):  # and may be tried again
        pass


def test_text_over_several_lines_stays_in_one(clock):
    out = Terminal()
    with Progress([("a", 1)], out, interval=0, clock=clock).part("a") as part:
        part.update(0.1, "two\nlines")
        assert "two lines" in out.screen()[-1]


def test_wrong_use_is_named():
    with pytest.raises(ValueError, match="'a'.*0"):
        Progress([("a", 0)], io.StringIO())
    with pytest.raises(ValueError, match="same name"):
        Progress([("a", 1), ("a", 2)], io.StringIO())
    progress = Progress([("a", 1), ("b", 1)], io.StringIO())
    with pytest.raises(KeyError, match="'c' is not one of"):
        progress.skip("c")
    progress.skip("a")
    with pytest.raises(ValueError, match="'a' is already done"):
        progress.skip("a")
    with pytest.raises(RuntimeError, match="'b' begins inside"), progress.part("b"):
        progress.skip("b")
