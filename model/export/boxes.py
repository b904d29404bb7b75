"""A detector for other programs: an image to its objects, what overlaps and what is unlikely left out."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from model.encoders.maps import map_shapes, maps_program
from model.encoders.tracing import trace
from model.evaluation.calibration import TINY, Sigmoid
from model.export.programs import Exported, about_model, joined, letterbox, written
from model.learners.detector import SMALLEST, DetectorModel
from model.networks.detection import LEAST, OVERLAP, MapDetector
from model.problems.detection import DEFAULT_THRESHOLD

TWICE = "fcos.backbone."  # of the detector's state: the pyramid, which it has under another name too


class Places(nn.Module):
    """A detector before it chooses: every place of its maps with a box, and with the score of each class."""

    def __init__(self, network: MapDetector) -> None:
        super().__init__()
        self.network = network

    def forward(self, *maps: Tensor) -> tuple[Tensor, Tensor]:
        """Return boxes (n, 4) as x0, y0, x1, y1 in pixels of the view, and scores (C, n), of maps (1, C, H, W) each."""
        return self.network.places(maps)


def detector_program(weights: Path, classes: Sequence[str], temperature: float, encoders: Path) -> Exported:
    """Return a detector with its encoder inside: ``image`` to ``boxes``, ``scores`` and ``classes``, surest first.

    ``boxes`` (n, 4) are x0, y0, x1, y1 in pixels of the image, ``classes`` (n,) numbers of the classes from 0, and
    ``scores`` (n,) those of the predictions, whatever the temperature. Only what reaches the threshold is given.
    """
    import onnx as graphs

    model = DetectorModel.load(weights, device="cpu")
    encoder = graphs.load_model_from_string(maps_program(model.encoder, model.side, encoders))
    shapes = map_shapes(encoder)
    names = [f"map{number}" for number in range(len(shapes))]
    examples = tuple(torch.zeros(1, *shape) for shape in shapes)
    network = trace(Places(model.network).eval(), examples, names, ["places", "likely"], {})
    threshold = float(model.decoding.get("threshold", DEFAULT_THRESHOLD))
    chosen = _chosen(model.sigmoid, threshold, model.most, encoder)
    program = joined([letterbox(model.side, encoder), encoder, network, chosen], ["boxes", "scores", "classes"])
    about = about_model(model.problem, model.decoding, classes, model.side, model.encoder, 1.0)
    about["sigmoid"] = json.dumps([model.sigmoid.slope, model.sigmoid.offset])  # which the bare weights lack
    state = model.network.state_dict()
    return Exported(program, {name: state[name] for name in state if not name.startswith(TWICE)}, about)


def _chosen(sigmoid: Sigmoid, threshold: float, most: int, like: Any) -> Any:
    """Return the program of places to objects, as ``model.learners.detector.detect`` and ``Detection.decode`` do."""
    return written(
        f"""
        chosen (float[places, 4] places, float[classes, places] likely, int64[2] content, int64[2] size)
        => (float[n, 4] boxes, float[n] scores, int64[n] classes)
        <
            int64[4] across = {{1, 0, 1, 0}}, int64[1] zero = {{0}}, int64[1] one = {{1}}, int64[1] two = {{2}},
            int64[1] four = {{4}}, int64 second = {{1}}, int64 third = {{2}}, int64[1] most = {{{most}}},
            float edge = {{0}}, float whole = {{1}}, float overlap = {{{OVERLAP}}}, float least = {{{LEAST}}},
            float smallest = {{{SMALLEST}}}, float low = {{{TINY}}}, float high = {{{1 - TINY}}},
            float slope = {{{sigmoid.slope}}}, float offset = {{{sigmoid.offset}}}, float threshold = {{{threshold}}}
        >
        {{
            pixels = Cast <to = 1> (content)
            limit = Gather(pixels, across)
            within = Min(places, limit)
            clipped = Max(within, edge)
            candidates = Unsqueeze(clipped, zero)
            chances = Unsqueeze(likely, zero)
            kept = NonMaxSuppression(candidates, chances, most, overlap, least)
            class = Gather <axis = 1> (kept, second)
            place = Gather <axis = 1> (kept, third)
            cells = Slice(kept, one, four, one)
            score = GatherND(likely, cells)
            number = Shape(score)
            count = Min(number, most)
            sorted, order = TopK(score, count)
            box = Gather(clipped, place)
            sorted_class = Gather(class, order)
            sorted_box = Gather(box, order)
            exact = Div(sorted_box, limit)
            share = Clip(exact, edge, whole)
            start = Slice(share, zero, two, one)
            end = Slice(share, two, four, one)
            extent = Sub(end, start)
            shorter = ReduceMin <keepdims = 0> (extent, one)
            large = Greater(shorter, smallest)
            bounded = Clip(sorted, low, high)
            log = Log(bounded)
            rest = Sub(whole, bounded)
            log_rest = Log(rest)
            logit = Sub(log, log_rest)
            steep = Mul(logit, slope)
            moved = Add(steep, offset)
            chance = Sigmoid(moved)
            sure = GreaterOrEqual(chance, threshold)
            shown = And(large, sure)
            sides = Cast <to = 1> (size)
            scale = Gather(sides, across)
            found = Mul(share, scale)
            boxes = Compress <axis = 0> (found, shown)
            scores = Compress <axis = 0> (chance, shown)
            classes = Compress <axis = 0> (sorted_class, shown)
        }}
        """,
        like,
    )
