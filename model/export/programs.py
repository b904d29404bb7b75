"""ONNX programs made of parts: traced networks, and the geometry around them as text."""

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from model.data.letterbox import PADDING
from model.errors import ModelError
from model.problems import Problem
from model.problems.base import Decoding

LARGEST = 20_000  # pixels: the longest side of an image that the exported model takes


@dataclass(frozen=True)
class Exported:
    """A model for other programs. program: an ONNX model. state: bare weights. about: the metadata of both."""

    program: Any
    state: dict[str, Tensor]
    about: dict[str, str]


def about_model(
    problem: Problem, decoding: Decoding, classes: Sequence[str], side: int, network: str, temperature: float
) -> dict[str, str]:
    """Return the metadata of a model. decoding: of outputs at that temperature."""
    return {
        "problem": problem.name,
        "decoding": json.dumps(decoding),
        "classes": json.dumps(list(classes), ensure_ascii=False),
        "side": str(side),
        "network": network,
        "temperature": repr(temperature),
    }


def described(program: Any, about: dict[str, str]) -> bytes:
    """Return an ONNX model, serialized with its metadata."""
    del program.metadata_props[:]
    for name, value in about.items():
        program.metadata_props.add(key=name, value=value)
    serialized: bytes = program.SerializeToString()
    return serialized


def image_example(side: int) -> Tensor:
    """Return an image (H, W, 3) to export a program of images of any size by."""
    return torch.zeros((side + 3, side + 2, 3), dtype=torch.uint8)


def image_shape() -> dict[int, Any]:
    """Return the axes of an image that may vary."""
    return {axis: torch.export.Dim(name, min=2, max=LARGEST) for axis, name in enumerate(("height", "width"))}


def exported_program(
    module: nn.Module,
    examples: tuple[Tensor, ...],
    shapes: tuple[dict[int, Any], ...] | None,
    given: list[str],
    found: list[str],
) -> Any:
    """Return a module as an ONNX model. shapes: the axes of its inputs that may vary."""
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
    return program.model_proto


def written(text: str, like: Any) -> Any:
    """Return an ONNX model that is written as text, for the same versions as another one."""
    from onnx import parser

    (opset,) = [one.version for one in like.opset_import if not one.domain]
    return parser.parse_model(f'<ir_version: {like.ir_version}, opset_import: ["" : {opset}]> {text}')


def joined(parts: Sequence[Any], found: Sequence[str]) -> Any:
    """Return parts as one ONNX model: each takes what those before it give under the names of its inputs.

    found: the outputs that are kept.
    """
    from onnx import compose

    whole = parts[0]
    for number, part in enumerate(parts[1:], start=1):
        own = compose.add_prefix(part, f"{number}/", rename_inputs=False, rename_outputs=False)
        later = {*found, *(one.name for other in parts[number + 1 :] for one in other.graph.input)}
        given = [one.name for one in own.graph.input]
        kept = [one.name for graph in (whole.graph, own.graph) for one in graph.output if one.name in later]
        whole = compose.merge_models(whole, own, [(name, name) for name in given], outputs=kept)
    return whole


def letterbox(side: int, like: Any) -> Any:
    """Return the program of an image to its view, as ``model.data.letterbox`` has it: ``image`` to ``images``.

    ``images`` is (1, side, side, 3) uint8, ``size`` (2,) the height and width of the image, and ``content`` (2,) those
    that it has in the view. Images are scaled as Pillow does for ``model.data.decoding``, first across and then down,
    with whole numbers in between, so that nearly all pixels are the same. What is shrunk to a sixth and less differs a
    little, because ``decoding`` takes means first.
    """
    return written(
        f"""
        letterbox (uint8[height, width, 3] image)
        => (uint8[1, {side}, {side}, 3] images, int64[2] size, int64[2] content)
        <
            int64[1] zero = {{0}}, int64[1] one = {{1}}, int64[1] two = {{2}}, int64[2] planes = {{1, 3}},
            int64[2] square = {{{side}, {side}}}, int64[6] nothing = {{0, 0, 0, 0, 0, 0}},
            float half = {{0.5}}, float black = {{0}}, float white = {{255}}, float grey = {{{PADDING}}}
        >
        {{
            shape = Shape(image)
            size = Slice(shape, zero, two)
            {content_of("content", side)}
            numbers = Cast <to = 1> (image)
            channels = Transpose <perm = [2, 0, 1]> (numbers)
            given = Unsqueeze(channels, zero)
            height = Slice(size, zero, one)
            width = Slice(content, one, two)
            narrow = Concat <axis = 0> (planes, height, width)
            {_scaled("narrowed", "given", "narrow")}
            wanted = Concat <axis = 0> (planes, content)
            {_scaled("bounded", "narrowed", "wanted")}
            outside = Sub(square, content)
            edges = Concat <axis = 0> (nothing, outside)
            padded = Pad(bounded, edges, grey)
            bytes = Cast <to = 2> (padded)
            images = Transpose <perm = [0, 2, 3, 1]> (bytes)
        }}
        """,
        like,
    )


def _scaled(name: str, given: str, size: str) -> str:
    """Return the lines that scale pixels (1, 3, H, W) to a size as Pillow does in one direction."""
    return f"""
            {name}_exact = Resize <
                mode = "cubic", antialias = 1, cubic_coeff_a = -0.5, exclude_outside = 1,
                coordinate_transformation_mode = "half_pixel"
            > ({given}, , , {size})
            {name}_above = Add({name}_exact, half)
            {name}_whole = Floor({name}_above)
            {name} = Clip({name}_whole, black, white)
    """


def content_of(name: str, side: int) -> str:
    """Return the lines that compute ``Letterbox.content`` of ``size`` under a name, (2,) height and width."""
    return f"""
            {name}_side = Constant <value = double[1] {{{side}}}> ()
            {name}_least = Constant <value = double[1] {{1}}> ()
            {name}_size = Cast <to = 11> (size)
            {name}_longer = ReduceMax <keepdims = 1> ({name}_size)
            {name}_scale = Div({name}_side, {name}_longer)
            {name}_exact = Mul({name}_size, {name}_scale)
            {name}_whole = Round({name}_exact)
            {name}_bounded = Max({name}_whole, {name}_least)
            {name} = Cast <to = 7> ({name}_bounded)
    """
