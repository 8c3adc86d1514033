"""The main of every `py_test` of BUILD: pytest on the file that it is given."""

import os
import sys

import pytest

if __name__ == "__main__":
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)  # for the processes that tests start
    sys.exit(pytest.main(["-p", "no:cacheprovider", *sys.argv[1:]]))
