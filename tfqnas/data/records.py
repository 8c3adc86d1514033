"""Random access to the examples of TFRecord files. TFDS offers it only for newer formats."""

import bisect
import itertools
import os
import struct
import threading
from collections.abc import Iterable

import numpy as np

# A record consists of its length (uint64) with a checksum (uint32), and the data with a checksum (uint32).
_HEADER, _FOOTER = 12, 4


class TFRecords:
    """The records of several local TFRecord files by number. Checksums are not verified.

    Args:
        parts: `(path, first, count)` in order, the range of records of each file.
    """

    def __init__(self, parts: Iterable[tuple[str, int, int]]) -> None:
        self._parts = list(parts)
        self._ends = list(itertools.accumulate(count for _, _, count in self._parts))
        self._offsets: dict[str, np.ndarray] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, number: int) -> bytes:
        """The bytes of a record."""
        if not 0 <= number < len(self):
            raise IndexError(f"record {number}: expected 0 to {len(self) - 1}")
        part = bisect.bisect_right(self._ends, number)
        path, first, count = self._parts[part]
        offset, length = self._of(path)[first + number - (self._ends[part] - count)]
        with open(path, "rb", buffering=0) as file:
            return os.pread(file.fileno(), length, offset)

    def _of(self, path: str) -> np.ndarray:
        """int64 (n, 2): offset and length of each record of a file, found by reading only the headers."""
        with self._lock:
            if path not in self._offsets:
                found, position, size = [], 0, os.path.getsize(path)
                with open(path, "rb", buffering=0) as file:
                    while position < size:
                        (length,) = struct.unpack("<Q", os.pread(file.fileno(), 8, position))
                        found.append((position + _HEADER, length))
                        position += _HEADER + length + _FOOTER
                if position != size:
                    raise OSError(f"{path}: expected whole records, the last one ends {position - size} bytes too late")
                self._offsets[path] = np.array(found, np.int64)
            return self._offsets[path]
