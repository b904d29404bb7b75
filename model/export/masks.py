"""A decoder for other programs: an image to the class of each of its pixels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from model.encoders.maps import Shape, map_shapes, maps_program
from model.encoders.tracing import trace
from model.errors import ModelError
from model.export.programs import Exported, about_model, content_of, joined, letterbox, written
from model.networks.decoder import Decoder
from model.problems import problem
from model.problems.segmentation import GRID, VIEW
from model.training.loop import read_weights


class Posteriors(nn.Module):
    """A decoder whose last step gives the posteriors (1, C + 1, H, W). seen: (C + 1,) the classes that it may give."""

    def __init__(self, decoder: Decoder, seen: Tensor) -> None:
        super().__init__()
        self.decoder = decoder
        self.register_buffer("never", torch.where(seen, 0.0, -torch.inf).view(1, -1, 1, 1))

    def forward(self, *maps: Tensor) -> Tensor:
        """Return the posteriors of feature maps (1, C, H, W) each, finest first."""
        posteriors: Tensor = (self.decoder(maps) + self.never).softmax(dim=1)
        return posteriors


def decoder_program(weights: Path, classes: Sequence[str], temperature: float, encoders: Path) -> Exported:
    """Return a decoder with its encoder inside: ``image`` to ``mask`` (H, W) uint8, 0 for the background.

    ``mask`` is that of ``Segmentation.decode``, enlarged to the image as Label Studio and pages are given it. A
    temperature does not change it.
    """
    import onnx as graphs

    content = read_weights(weights)
    if content is None:
        raise ModelError(f"{weights} holds no decoder")
    decoder = Decoder(content["widths"], len(classes) + 1)
    decoder.load_state_dict(content["network"])
    encoder = graphs.load_model_from_string(maps_program(content["encoder"], VIEW, encoders))
    shapes = map_shapes(encoder)
    cell = VIEW // shapes[-1][1]
    names = [f"cut{number}" for number in range(len(shapes))]
    examples = tuple(torch.zeros(1, *shape) for shape in shapes)
    axes = {name: {2: f"{name}_height", 3: f"{name}_width"} for name in names}
    axes["posteriors"] = {2: "height", 3: "width"}
    network = trace(Posteriors(decoder, content["seen"]).eval(), examples, names, ["posteriors"], axes)
    cut, enlarged = _cut(shapes, cell, encoder), _enlarged(len(classes) + 1, encoder)
    program = joined([letterbox(VIEW, encoder), encoder, cut, network, enlarged], ["mask"])
    of = problem(content["problem"])
    about = about_model(of, {}, classes, VIEW, content["encoder"], temperature)
    return Exported(program, decoder.state_dict(), about)


def _cut(shapes: Sequence[Shape], cell: int, like: Any) -> Any:
    """Return the program that leaves out what lies outside of the image, in whole cells of the coarsest map.

    ``extent`` (2,) is the height and width of what is left, in pixels of the view.
    """
    given = ", ".join(f"float[1, {c}, {h}, {w}] map{at}" for at, (c, h, w) in enumerate(shapes))
    found = ", ".join(f"float[1, {c}, height{at}, width{at}] cut{at}" for at, (c, _, _) in enumerate(shapes))
    lines = "".join(
        f"""
            whole{at} = Constant <value = int64[2] {{{h}, {w}}}> ()
            scaled{at} = Mul(extent, whole{at})
            end{at} = Div(scaled{at}, view)
            cut{at} = Slice(map{at}, begin, end{at}, axes)
        """
        for at, (_, h, w) in enumerate(shapes)
    )
    return written(
        f"""
        cut (int64[2] content, {given}) => ({found}, int64[2] extent)
        <
            int64[1] view = {{{VIEW}}}, int64[1] cell = {{{cell}}}, int64[1] less = {{{cell - 1}}},
            int64[2] begin = {{0, 0}}, int64[2] axes = {{2, 3}}
        >
        {{
            above = Add(content, less)
            cells = Div(above, cell)
            extent = Mul(cells, cell)
            {lines}
        }}
        """,
        like,
    )


def _enlarged(outputs: int, like: Any) -> Any:
    """Return the program of posteriors to a mask of the image's own size.

    As the decoder's predictions are made: the class of each pixel of the grid, then ``model.data.masks.enlarged``. The
    classes are compared one by one: all of them at the size of a photo would take gigabytes.
    """
    steps = "".join(
        f"""
            class{number} = Constant <value = int64[1] {{{number}}}> ()
            byte{number} = Constant <value = uint8[1] {{{number}}}> ()
            of{number} = Equal(chosen, class{number})
            small{number} = Cast <to = 1> (of{number})
            own{number} = Resize <mode = "linear"> (small{number}, , , wanted)
            better{number} = Greater(own{number}, share{number})
            best{number + 1} = Where(better{number}, byte{number}, best{number})
            share{number + 1} = Max(own{number}, share{number})
        """
        for number in range(outputs)
    )
    return written(
        f"""
        enlarged (float[1, {outputs}, h, w] posteriors, int64[2] extent, int64[2] size) => (uint8[height, width] mask)
        <
            int64[1] view = {{{VIEW}}}, int64[1] grid = {{{GRID}}}, int64[2] first = {{1, {outputs}}},
            int64[2] one = {{1, 1}}, int64[2] begin = {{0, 0}}, int64[2] axes = {{2, 3}}, int64[2] outer = {{0, 1}},
            uint8[1] best0 = {{0}}, float[1] share0 = {{0}}
        >
        {{
            scaled = Mul(extent, grid)
            whole = Div(scaled, view)
            sizes = Concat <axis = 0> (first, whole)
            likely = Resize <mode = "linear"> (posteriors, , , sizes)
            {content_of("content", GRID)}
            inside = Slice(likely, begin, content, axes)
            chosen = ArgMax <axis = 1, keepdims = 1> (inside)
            wanted = Concat <axis = 0> (one, size)
            {steps}
            mask = Squeeze(best{outputs}, outer)
        }}
        """,
        like,
    )
