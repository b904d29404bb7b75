"""A trained model as files for other programs: ONNX that needs nothing of ours, and bare weights."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save

from model.data.atomic_files import write_atomically
from model.errors import BadInput, ModelError
from model.export.boxes import detector_program
from model.export.masks import decoder_program
from model.export.programs import Exported, described
from model.export.vectors import on_encoder_program, own_network_program
from model.learners.registry import DECODER, DETECTOR, FINETUNE, LINEAR, OWN
from model.training.loop import read_weights

# By the learner that has fitted the model: weights, names of the classes, temperature and the folder of encoders to
# what is written.
PROGRAMS: Mapping[str, Callable[[Path, Sequence[str], float, Path], Exported]] = {
    OWN: own_network_program,
    LINEAR: on_encoder_program,
    FINETUNE: on_encoder_program,
    DECODER: decoder_program,
    DETECTOR: detector_program,
}


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

    The ONNX program takes one image of any size, (H, W, 3) uint8 RGB, as ``image``. What it gives depends on what is
    predicted: ``probabilities`` (C,); ``mask`` (H, W) of class ids; or ``boxes``, ``scores`` and ``classes`` of the
    objects. Problem, label names, side, network, temperature and decoding stand in the metadata of both: ``classes`` as
    a JSON list, ``decoding`` as a JSON object. Its ``thresholds`` (C,), where there are any, are of the probabilities
    at the exported temperature. encoders: the folder of ``open_encoder``; a model on an encoder is exported with it
    inside. Raises BadInput where the classes are not those of the model.
    """
    content: dict[str, Any] | None = read_weights(weights)
    if content is None:
        raise ModelError(f"the weights in {weights} are damaged")
    if content["classes"] != len(classes) or temperature <= 0:
        raise BadInput(f"a model of {content['classes']} classes, {len(classes)} names and temperature {temperature}")
    found = PROGRAMS[content.get("learner", OWN)](weights, classes, temperature, encoders)
    state = {name: tensor.contiguous() for name, tensor in found.state.items()}
    write_atomically(safetensors, save(state, {"format": "pt", **found.about}))
    write_atomically(onnx, described(found.program, found.about))
