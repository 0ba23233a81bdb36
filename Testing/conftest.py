"""One thread a process: the networks of the tests are too small for more, and runs repeat to the bit."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
