"""One thread is enough for the small networks of these tests, and the only number that busy cores do not slow down."""

import os

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # for the processes that tests start


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """PyTorch may have been loaded by the tests of another folder."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def encoders(tmp_path_factory):
    """A folder of encoders in which the default one is prepared for images of 128 pixels, which takes seconds."""
    import torch

    from model.encoders.encoder import open_encoder

    folder, threads = tmp_path_factory.mktemp("encoders"), torch.get_num_threads()
    torch.set_num_threads(1)
    open_encoder("efficientnet_lite0", 128, folder, threads=1)
    torch.set_num_threads(threads)
    return folder


@pytest.fixture(scope="session")
def encoder(encoders):
    """The default encoder for images of 128 pixels."""
    from model.encoders.encoder import open_encoder

    return open_encoder("efficientnet_lite0", 128, encoders, threads=1)
