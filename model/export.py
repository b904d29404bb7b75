"""A trained model as files for other programs: ONNX that needs nothing of ours, and bare weights."""

import io
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional

from model.data.atomic_files import write_atomically
from model.errors import BadInput, ModelError
from model.learners.learner import Learner
from model.networks.main import MainNetwork
from model.problems import Problem
from model.training.loop import read_weights

LARGEST = 20_000  # pixels: the longest side of an image that the exported model takes


class Standalone(nn.Module):
    """A model with its preprocessing: one image of any size, (H, W, 3) uint8 RGB -> (C,) calibrated probabilities.

    They are posteriors where the classes exclude each other, and else the probability of each class for itself.
    """

    def __init__(self, network: MainNetwork, problem: Problem, side: int, temperature: float) -> None:
        super().__init__()
        self.network, self.problem, self.side, self.temperature = network, problem, side, temperature

    def forward(self, image: Tensor) -> Tensor:
        """Return the probabilities (C,)."""
        # What model.data.decoding.decode does with Pillow, and Learner.predict after it.
        pixels = image.permute(2, 0, 1).unsqueeze(0).float()
        pixels = functional.interpolate(pixels, (self.side, self.side), mode="bicubic", antialias=True)
        logits = self.network(pixels.round().clamp(0, 255) / 255)
        (name,) = self.problem.base_outputs
        return self.problem.outputs_of(logits / self.temperature)[name].squeeze(0)


def export(weights: Path, classes: Sequence[str], temperature: float, *, onnx: Path, safetensors: Path) -> None:
    """Write the model of ``weights`` as ONNX and as safetensors, each whole or not at all.

    Problem, label names, side, network, temperature and decoding stand in the metadata of both: ``classes`` as a JSON
    list, ``decoding`` as a JSON object. Its ``thresholds`` (C,), where there are any, are of the probabilities at the
    exported temperature.
    Raises BadInput where the classes are not those of the model.
    """
    content = read_weights(weights)
    if content is None:
        raise ModelError(f"the weights in {weights} are damaged")
    if content["classes"] != len(classes) or temperature <= 0:
        raise BadInput(f"a model of {content['classes']} classes, {len(classes)} names and temperature {temperature}")
    learner = Learner.load(weights, device="cpu")
    decoding = learner.problem.at_temperature(learner.decoding, temperature)
    about = {
        "problem": learner.problem.name,
        "decoding": json.dumps(decoding),
        "classes": json.dumps(list(classes), ensure_ascii=False),
        "side": str(content["side"]),
        "network": str(content["network"]),
        "temperature": repr(temperature),
    }
    write_atomically(safetensors, _safetensors(content["module"], about))
    module = Standalone(learner.network, learner.problem, content["side"], temperature).eval()
    write_atomically(onnx, _onnx(module, about))


def _safetensors(state: dict[str, Tensor], about: dict[str, str]) -> bytes:
    return save({name: tensor.contiguous() for name, tensor in state.items()}, {"format": "pt", **about})


def _onnx(module: Standalone, about: dict[str, str]) -> bytes:
    image = torch.zeros((module.side + 3, module.side + 2, 3), dtype=torch.uint8)
    side = {axis: torch.export.Dim(name, min=2, max=LARGEST) for axis, name in enumerate(("height", "width"))}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch's own exporter about itself
        program: Any = torch.onnx.export(
            module,
            (image,),
            dynamo=True,
            dynamic_shapes=(side,),
            input_names=["image"],
            output_names=["probabilities"],
            verbose=False,
        )
    if program is None:
        raise ModelError("PyTorch gave no ONNX program")
    proto = program.model_proto
    for name, value in about.items():
        proto.metadata_props.add(key=name, value=value)
    buffer = io.BytesIO(proto.SerializeToString())
    return buffer.getvalue()
