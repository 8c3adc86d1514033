"""Makes every import of TensorFlow and Keras an error, for `./test.sh --quick`.

Python imports a module of this name when it starts, if its directory is on PYTHONPATH. So the processes that a test
starts obey it as well.
"""

import sys

PACKAGES = {"keras", "keras_tuner", "tensorflow", "tensorflow_datasets", "tensorflow_model_optimization", "tf_keras"}
BLOCKED = "--quick runs without TensorFlow, and a test that needs it has the marker tensorflow"


class Blocker:
    """A finder that refuses the modules of `PACKAGES` and leaves all others to the finders after it."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in PACKAGES:
            raise ImportError(f"{name}: {BLOCKED}")


sys.meta_path.insert(0, Blocker())
