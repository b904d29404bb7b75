"""Models whose prediction is one vector an image, for other programs: calibrated probabilities."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.data.atomic_files import write_atomically
from model.encoders.encoder import load_feature_network
from model.encoders.network import FeatureNetwork
from model.encoders.registry import encoder_info
from model.errors import ModelError
from model.export.programs import Exported, about_model, exported_program, image_example, image_shape, joined
from model.learners.finetune import FinetunedModel
from model.learners.fitting import load_model
from model.learners.learner import Learner
from model.learners.linear import LinearModel
from model.networks.main import MainNetwork
from model.problems.base import VectorProblem
from model.training.loop import read_weights


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


def own_network_program(weights: Path, classes: Sequence[str], temperature: float, encoders: Path) -> Exported:
    """Return a network of our own; see ``model.export.export``."""
    content = read_weights(weights) or {}
    learner = Learner.load(weights, device="cpu")
    of, side = learner.problem, int(content["side"])
    decoding = of.at_temperature(learner.decoding, temperature)
    module = Standalone(learner.network, of, side, temperature).eval()
    program = exported_program(module, (image_example(side),), (image_shape(),), ["image"], ["probabilities"])
    about = about_model(of, decoding, classes, side, str(content["network"]), temperature)
    return Exported(program, content["module"], about)


def on_encoder_program(weights: Path, classes: Sequence[str], temperature: float, encoders: Path) -> Exported:
    """Return a model on an encoder, with the encoder inside; see ``model.export.export``."""
    import onnx as graphs

    model = load_model(weights, device="cpu")
    if not isinstance(model, LinearModel):
        raise ModelError(f"{weights} holds no model on an encoder")
    state = {
        f"heads.{number}.{name}": tensor
        for number, (scaling, weight, bias) in enumerate(model.heads)
        for name, tensor in (("mean", torch.from_numpy(scaling.mean)), ("weight", weight), ("bias", bias))
    }
    tuned = model.tuned if isinstance(model, FinetunedModel) else None
    state |= {f"tuned.{name}": tensor for name, tensor in (tuned.state_dict() if tuned is not None else {}).items()}
    # The encoder's part is the same after every round, and takes most of the time.
    names = ["features", *([] if tuned is None else ["activations"])]
    kind = "image" if tuned is None else "image-activations"
    template = encoders / f"{model.encoder.replace(':', '-').replace('/', '-')}-{model.side}-{kind}.onnx"
    if not template.exists():
        network = load_feature_network(encoder_info(model.encoder), encoders, model.side)
        top = None if tuned is None else network.top(model.side)
        module = ImageFeatures(network, model.side, None if top is None else top.block)
        made = exported_program(module.eval(), (image_example(model.side),), (image_shape(),), ["image"], names)
        write_atomically(template, made.SerializeToString())
    given = graphs.load_model_from_string(template.read_bytes())
    widths = [[axis.dim_value for axis in output.type.tensor_type.shape.dim] for output in given.graph.output]
    examples = tuple(torch.zeros(width) for width in widths)
    heads = exported_program(EncoderHeads(model, temperature).eval(), examples, None, names, ["probabilities"])
    decoding = model.problem.at_temperature(model.decoding, temperature)
    about = about_model(model.problem, decoding, classes, model.side, model.encoder, temperature)
    return Exported(joined([given, heads], ["probabilities"]), state, about)
