"""One thread is enough for the small networks of these tests, and the only number that busy cores do not slow down."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before PyTorch loads, and for the processes that tests start
