"""A problem's linear head, fitted to its least regularized loss."""

import numpy as np
import numpy.typing as npt
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from model.errors import BadInput
from model.problems.base import Encoded, VectorProblem
from model.querying.outputs import FloatArray

STEPS = 300  # of L-BFGS
_RIDGE = 1e-3  # of the biases, so that those of classes without an example stay finite


class LinearHead:
    """A problem's linear head, and its fit."""

    def __init__(self, of: VectorProblem, classes: int, c: float) -> None:
        """c: weight of the summed loss against half the squared weights."""
        self.problem, self.classes, self.c = of, classes, c
        module = of.head(1, classes)
        if not isinstance(module, nn.Linear):
            raise BadInput(f'the head of the problem \'{of.name}\' is not linear: set "learner": "own"')
        self.outputs = module.out_features

    def fit(self, x: FloatArray, truth: Encoded) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return weights (d, outputs) and biases (outputs,) of the least c * summed loss + half the squared weights.

        With fewer rows than features the solution lies in the span of the rows, where it is found faster.
        """
        # A second thread costs more than it gives for matrices of this size: 30 times as much on two busy cores.
        with threadpool_limits(1):
            rows = x.astype(np.float64)
            mean = rows.mean(axis=0)
            rows -= mean  # a bias then has little to do with the weights
            span: npt.NDArray[np.float64] | None = None
            if len(rows) < rows.shape[1]:
                squares, left = np.linalg.eigh(rows @ rows.T)
                kept = squares > 1e-12 * max(float(squares[-1]), 1e-12)
                singular = np.sqrt(squares[kept])
                span = (left[:, kept] / singular).T @ rows
                rows = left[:, kept] * singular
            weight, bias = self._solve(torch.from_numpy(rows), _as_tensor(truth))
            if span is not None:
                weight = span.T @ weight
            bias = bias - mean @ weight
        return weight.astype(np.float32), bias.astype(np.float32)

    def raw(self, x: FloatArray, weight: npt.NDArray[np.float32], bias: npt.NDArray[np.float32]) -> Tensor:
        """Return the head's raw outputs (n, outputs)."""
        return torch.from_numpy(x @ weight + bias)

    def _solve(self, rows: Tensor, truth: Tensor) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        from scipy.optimize import minimize

        shape = rows.shape[1], self.outputs
        size = shape[0] * shape[1]

        def objective(flat: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
            values = torch.from_numpy(flat).requires_grad_()
            weight, bias = values[:size].view(shape), values[size:]
            loss = self.c * self.problem.loss(rows @ weight + bias, truth, 0.0).sum()
            loss = loss + 0.5 * (weight**2).sum() + 0.5 * _RIDGE * (bias**2).sum()
            (gradient,) = torch.autograd.grad(loss, values)
            return float(loss.detach()), gradient.numpy()

        with torch.inference_mode(mode=False), torch.enable_grad():
            found = minimize(
                objective, np.zeros(size + shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": STEPS}
            )
        flat: npt.NDArray[np.float64] = found.x
        return flat[:size].reshape(shape), flat[size:]


def _as_tensor(truth: Encoded) -> Tensor:
    tensor = torch.from_numpy(np.asarray(truth))
    return tensor.double() if tensor.is_floating_point() else tensor
