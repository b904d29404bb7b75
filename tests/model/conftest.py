"""One thread is enough for the small networks of these tests, and the only number that busy cores do not slow down."""

import os

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # for the processes that tests start


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """PyTorch may have been loaded by the tests of another folder."""
    import torch

    torch.set_num_threads(1)
