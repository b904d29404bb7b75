"""The feature maps of an encoder, for problems that ask where something is: the quickest engine of the device."""

import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from model.encoders.encoder import CHUNK, Images, load_feature_network, open_session, prepared_path, traced
from model.encoders.registry import EncoderInfo, encoder_info
from model.errors import BadInput
from model.querying.outputs import FloatArray, as_features

if TYPE_CHECKING:
    from model.encoders.network import FeatureNetwork

KIND = "-maps"  # of the prepared networks, among those of ``open_session``
STAGES = 3  # of the network whose maps are read, the coarsest: of most networks those at strides 8, 16 and 32

Shape = tuple[int, int, int]


class MapEncoder:
    """A pretrained network that turns views into feature maps.

    name, side: of the network, and of its images in pixels. shapes: of the maps of an image, (C, H, W) each, coarse
    last. engine: see ``Encoder``.
    """

    def __init__(
        self,
        info: EncoderInfo,
        side: int,
        shapes: Sequence[Shape],
        engine: str,
        run: Callable[[Images], list[FloatArray]],
    ) -> None:
        """Use ``open_maps``."""
        self.name, self.side, self.shapes, self.engine = info.name, side, tuple(shapes), engine
        self._run = run

    def maps(self, images: Images) -> list[FloatArray]:
        """Return the feature maps of uint8 RGB images, (n, side, side, 3) -> (n, C, H, W) float16 each, coarse last."""
        expected = (self.side, self.side, 3)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != expected:
            raise BadInput(f"'{self.name}' takes uint8 images of (n, {expected}), found {images.dtype} {images.shape}")
        maps = [np.empty((len(images), *shape), np.float16) for shape in self.shapes]
        chunk = CHUNK[self.engine]
        for start in range(0, len(images), chunk):
            found = self._run(np.ascontiguousarray(images[start : start + chunk]))
            for whole, part in zip(maps, found, strict=True):
                whole[start : start + chunk] = as_features(part)
        return maps


@cache
def open_maps(name: str, side: int, folder: Path, device: str = "cpu", threads: int | None = None) -> MapEncoder:
    """Return the encoder of that name for the feature maps of images of ``side`` pixels; see ``open_encoder``.

    Raises WeightsMissing, or BadInput for a network that has no maps, or takes no images of that side.
    """
    info = encoder_info(name)
    if device != "cpu":
        from model.device import pick_device

        if pick_device(device).type == "cuda":
            return _on_gpu(info, side, folder, device)
    return _on_processor(info, side, folder, threads)


def _on_gpu(info: EncoderInfo, side: int, folder: Path, device: str) -> MapEncoder:
    import torch

    module = load_feature_network(info, folder, side)
    shapes = _shapes(module, side)
    module = module.to(device if ":" in device else "cuda", torch.float16, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def run(images: Images) -> list[FloatArray]:
        maps = module.maps(torch.from_numpy(images).to(module.mean.device))[-STAGES:]
        return [stage.cpu().numpy() for stage in maps]

    return MapEncoder(info, side, shapes, "torch", run)


def _on_processor(info: EncoderInfo, side: int, folder: Path, threads: int | None) -> MapEncoder:
    session = _session(info, side, folder, threads)
    shapes = [tuple(shape) for shape in json.loads(session.get_modelmeta().custom_metadata_map["shapes"])]

    def run(images: Images) -> list[FloatArray]:
        maps: list[FloatArray] = session.run(None, {"images": images})
        return maps

    return MapEncoder(info, side, shapes, "onnxruntime", run)


def maps_program(name: str, side: int, folder: Path) -> bytes:
    """Return the network that ``open_maps`` runs on a processor, as an ONNX program.

    From ``images`` (n, side, side, 3) uint8 it gives ``map0`` and so on, (n, C, H, W) float32 each, coarse last.
    """
    info = encoder_info(name)
    _session(info, side, folder, threads=1)  # is made where it is not there, or damaged
    return prepared_path(info, side, folder, KIND).read_bytes()


def map_shapes(program: Any) -> list[Shape]:
    """Return the shapes of the maps that an ONNX model of ``maps_program`` gives of an image, (C, H, W) each."""
    about = {entry.key: entry.value for entry in program.metadata_props}
    return [(int(c), int(h), int(w)) for c, h, w in json.loads(about["shapes"])]


def _session(info: EncoderInfo, side: int, folder: Path, threads: int | None) -> Any:
    return open_session(info, side, folder, threads, lambda module: _onnx(module, side), kind=KIND)


def _onnx(module: "FeatureNetwork", side: int) -> bytes:
    from torch import Tensor, nn

    class Maps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = module

        def forward(self, images: Tensor) -> tuple[Tensor, ...]:
            return tuple(self.network.maps(images)[-STAGES:])

    shapes = _shapes(module, side)
    names = [f"map{number}" for number in range(len(shapes))]
    return traced(Maps().eval(), side, names, {"shapes": json.dumps(shapes)})


def _shapes(module: "FeatureNetwork", side: int) -> list[Shape]:
    import torch

    with torch.inference_mode():
        maps = module.maps(torch.zeros((1, side, side, 3), dtype=torch.uint8))[-STAGES:]
    return [(stage.shape[1], stage.shape[2], stage.shape[3]) for stage in maps]
