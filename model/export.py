"""A trained model as files for other programs: ONNX that needs nothing of ours, and bare weights."""

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
from model.encoders.encoder import load_feature_network
from model.encoders.network import FeatureNetwork
from model.encoders.registry import encoder_info
from model.errors import BadInput, ModelError
from model.learners.finetune import FinetunedModel
from model.learners.fitting import load_model
from model.learners.learner import Learner
from model.learners.linear import LinearModel
from model.learners.registry import FINETUNE, LEARNERS, LINEAR, OWN
from model.networks.main import MainNetwork
from model.problems.base import VectorProblem
from model.training.loop import read_weights

LARGEST = 20_000  # pixels: the longest side of an image that the exported model takes
EXPORTED = frozenset({LINEAR, FINETUNE, OWN})  # learners whose models can be written


class Standalone(nn.Module):
    """A model with its preprocessing: one image of any size, (H, W, 3) uint8 RGB -> (C,) calibrated probabilities.

    They are posteriors where the classes exclude each other, and else the probability of each class for itself.
    """

    def __init__(self, network: MainNetwork, problem: VectorProblem, side: int, temperature: float) -> None:
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


class ImageFeatures(nn.Module):
    """An encoder with its preprocessing: one image of any size, (H, W, 3) uint8 RGB -> features (1, D).

    With a last block, what it is given (1, C, H, W) comes second.
    """

    def __init__(self, network: FeatureNetwork, side: int, block: nn.Module | None = None) -> None:
        super().__init__()
        self.network, self.side, self.block = network, side, block

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return features, and activations."""
        pixels = image.permute(2, 0, 1).unsqueeze(0).float()
        pixels = functional.interpolate(pixels, (self.side, self.side), mode="bicubic", antialias=True)
        pixels = pixels.round().clamp(0, 255)
        if self.block is None:
            return (self.network.embedded(pixels),)
        return self.network.with_activations(pixels, self.block)


class EncoderHeads(nn.Module):
    """What a model has on its encoder: features (1, D), and activations for a tuned block -> calibrated probabilities.

    Returns (C,).
    """

    def __init__(self, model: LinearModel, temperature: float) -> None:
        super().__init__()
        self.problem, self.temperature = model.problem, model.temperature * temperature
        self.heads = [(torch.from_numpy(scaling.mean), weight, bias) for scaling, weight, bias in model.heads]
        self.tuned = model.tuned if isinstance(model, FinetunedModel) else None

    def forward(self, features: Tensor, activations: Tensor | None = None) -> Tensor:
        """Return the probabilities (C,)."""
        parts = []
        for mean, weight, bias in self.heads:  # as model.learners.scaling scales
            rows = features[:, : len(mean)]
            rows = rows.sign() * rows.abs().sqrt() - mean
            parts.append(rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-8) @ weight + bias)
        raw = torch.stack(parts).mean(dim=0)
        if self.tuned is not None and activations is not None:
            raw = (raw + self.tuned(activations)) / 2
        (name,) = self.problem.base_outputs
        return self.problem.outputs_of(raw / self.temperature)[name].squeeze(0)


def export(
    weights: Path,
    classes: Sequence[str],
    temperature: float,
    *,
    onnx: Path,
    safetensors: Path,
    encoders: Path = Path("encoders"),
) -> None:
    """Write the model of ``weights`` as ONNX and as safetensors, each whole or not at all.

    Problem, label names, side, network, temperature and decoding stand in the metadata of both: ``classes`` as a JSON
    list, ``decoding`` as a JSON object. Its ``thresholds`` (C,), where there are any, are of the probabilities at the
    exported temperature. encoders: the folder of ``open_encoder``; a model on an encoder is exported with it inside.
    Raises BadInput where the classes are not those of the model. Models of learners that are not EXPORTED are left out.
    """
    content = read_weights(weights)
    if content is None:
        raise ModelError(f"the weights in {weights} are damaged")
    if content.get("learner", OWN) not in EXPORTED:
        return
    if content["classes"] != len(classes) or temperature <= 0:
        raise BadInput(f"a model of {content['classes']} classes, {len(classes)} names and temperature {temperature}")
    if LEARNERS[content.get("learner", OWN)].encoder:
        _export_on_encoder(weights, classes, temperature, encoders, onnx=onnx, safetensors=safetensors)
        return
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


def _export_on_encoder(
    weights: Path, classes: Sequence[str], temperature: float, encoders: Path, *, onnx: Path, safetensors: Path
) -> None:
    import onnx as graphs

    model = load_model(weights, device="cpu")
    if not isinstance(model, LinearModel):
        raise ModelError(f"{weights} holds no model on an encoder")
    about = {
        "problem": model.problem.name,
        "decoding": json.dumps(model.problem.at_temperature(model.decoding, temperature)),
        "classes": json.dumps(list(classes), ensure_ascii=False),
        "side": str(model.side),
        "network": model.encoder,
        "temperature": repr(temperature),
    }
    state = {
        f"heads.{number}.{name}": tensor
        for number, (scaling, weight, bias) in enumerate(model.heads)
        for name, tensor in (("mean", torch.from_numpy(scaling.mean)), ("weight", weight), ("bias", bias))
    }
    tuned = model.tuned if isinstance(model, FinetunedModel) else None
    state |= {f"tuned.{name}": tensor for name, tensor in (tuned.state_dict() if tuned is not None else {}).items()}
    write_atomically(safetensors, _safetensors(state, about))
    # The encoder's part is the same after every round, and takes most of the time.
    names = ["features", *([] if tuned is None else ["activations"])]
    kind = "image" if tuned is None else "image-activations"
    template = encoders / f"{model.encoder.replace(':', '-').replace('/', '-')}-{model.side}-{kind}.onnx"
    if not template.exists():
        network = load_feature_network(encoder_info(model.encoder), encoders, model.side)
        top = None if tuned is None else network.top(model.side)
        module = ImageFeatures(network, model.side, None if top is None else top.block)
        shapes = (_image_shape(),)
        write_atomically(template, _program(module.eval(), (_image(model.side),), shapes, ["image"], names))
    given = graphs.load_model_from_string(template.read_bytes())
    widths = [[axis.dim_value for axis in output.type.tensor_type.shape.dim] for output in given.graph.output]
    examples = tuple(torch.zeros(width) for width in widths)
    on_top = EncoderHeads(model, temperature).eval()
    heads = graphs.load_model_from_string(_program(on_top, examples, None, names, ["probabilities"]))
    heads = graphs.compose.add_prefix(heads, "head/", rename_inputs=False, rename_outputs=False)
    whole = graphs.compose.merge_models(given, heads, [(name, name) for name in names])
    write_atomically(onnx, _described(whole, about))


def _safetensors(state: dict[str, Tensor], about: dict[str, str]) -> bytes:
    return save({name: tensor.contiguous() for name, tensor in state.items()}, {"format": "pt", **about})


def _onnx(module: Standalone, about: dict[str, str]) -> bytes:
    import onnx as graphs

    program = _program(module, (_image(module.side),), (_image_shape(),), ["image"], ["probabilities"])
    return _described(graphs.load_model_from_string(program), about)


def _image(side: int) -> Tensor:
    return torch.zeros((side + 3, side + 2, 3), dtype=torch.uint8)


def _image_shape() -> dict[int, Any]:
    return {axis: torch.export.Dim(name, min=2, max=LARGEST) for axis, name in enumerate(("height", "width"))}


def _program(
    module: nn.Module,
    examples: tuple[Tensor, ...],
    shapes: tuple[dict[int, Any], ...] | None,
    given: list[str],
    found: list[str],
) -> bytes:
    """Return a module as a serialized ONNX model. shapes: the axes of its inputs that may vary."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch's own exporter about itself
        program: Any = torch.onnx.export(
            module,
            examples,
            dynamo=True,
            dynamic_shapes=shapes,
            input_names=given,
            output_names=found,
            verbose=False,
        )
    if program is None:
        raise ModelError("PyTorch gave no ONNX program")
    serialized: bytes = program.model_proto.SerializeToString()
    return serialized


def _described(proto: Any, about: dict[str, str]) -> bytes:
    for name, value in about.items():
        proto.metadata_props.add(key=name, value=value)
    serialized: bytes = proto.SerializeToString()
    return serialized
