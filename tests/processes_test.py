"""A fork of the template is a process like one that Python starts, except for what it has imported."""

import json
import os
import signal
import sys
import time

import pytest

from tests import processes

pytestmark = pytest.mark.tensorflow
# What a process sees of itself.
SELF = """
import json, os, sys, threading
print(json.dumps([sys.argv, os.getcwd(), os.environ.get("MARK"), sys.path[:2], "tensorflow" in sys.modules]))
print("tfqnas" in sys.modules, __name__, file=sys.stderr)
sys.exit(3)
"""


def test_it_has_its_arguments_environment_directory_outputs_and_code(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SELF)
    for command, first in ((["-c", SELF, "a", "--b=c d"], ""), ([script, "a", "--b=c d"], str(tmp_path))):
        environment = {**os.environ, "MARK": "here", "PYTHONPATH": "/one"}
        done = processes.run(command, cwd=tmp_path, env=environment)
        name = "-c" if first == "" else str(script)
        assert json.loads(done.stdout) == [[name, "a", "--b=c d"], str(tmp_path), "here", [first, "/one"], True]
        assert (done.stderr, done.returncode) == ("False __main__\n", 3)


def test_the_template_has_one_thread():
    count = "import os; print(len(os.listdir('/proc/self/task')))"
    if sys.platform == "linux":
        assert processes.run(["-c", count]).stdout == "1\n"


def test_an_exception_ends_it_with_a_traceback():
    done = processes.run(["-c", "raise ValueError('why')"])
    assert done.returncode == 1 and done.stderr.startswith("Traceback") and done.stderr.endswith("ValueError: why\n")


def test_it_runs_beside_others_and_can_be_killed(tmp_path):
    with open(tmp_path / "output.txt", "w+") as output:
        wait = processes.Process(["-c", "print('began', flush=True)\nimport time\ntime.sleep(600)"], output)
        assert processes.run(["-c", "pass"]).returncode == 0 and wait.poll() is None
        while not (tmp_path / "output.txt").read_text():
            time.sleep(0.01)
        wait.kill()
        assert wait.wait(60) == -signal.SIGKILL
    with pytest.raises(processes.subprocess.TimeoutExpired):
        processes.run(["-c", "import time; time.sleep(600)"], timeout=0.1)


def test_tensorflow_trains_in_it():
    code = """
import keras, numpy
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
model.compile("sgd", "mse")
print(model.fit(numpy.ones((8, 4)), numpy.ones((8, 2)), verbose=0).history["loss"][0] > 0)
"""
    done = processes.run(["-c", code])
    assert done.stdout == "True\n", done.stderr
