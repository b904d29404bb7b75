"""Learning and querying with PyTorch and numpy, without a service: arrays in, arrays out."""

import os

# Threads of a worker that shares its cores with a server must sleep while they wait for each other, not spin: on two
# busy cores a training step is three times as fast. Read when PyTorch loads OpenMP, so it has to stand before that.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
