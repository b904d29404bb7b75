"""An encoder ready to embed: the quickest engine of the device, with a network that is prepared once and kept."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from model.data.atomic_files import write_atomically
from model.encoders.registry import EncoderInfo, encoder_info
from model.encoders.tracing import trace
from model.encoders.weights import bare_network, load_network, weights_path
from model.errors import BadInput
from model.querying.outputs import FloatArray, as_features

if TYPE_CHECKING:
    from model.encoders.network import FeatureNetwork, Top

PREPARED = 2  # of the prepared networks: the first had no activations
CHUNK = {"onnxruntime": 16, "torch": 256}  # images of a minibatch: larger ones are slower on a processor
BYTES = (127.0,) * 3, (128.0,) * 3  # mean and deviation of the pixels that the lite networks take

Images = npt.NDArray[np.uint8]
Run = Callable[[Images, bool], tuple[FloatArray, FloatArray | None]]  # features, and activations where they are wanted


class Encoder:
    """A pretrained network that turns images into features.

    name, side: of the network, and of its images in pixels. dim: number of features. last: how many of them, the first
    ones, are those of the last layer; the others are means of the stages. activations: numbers an image that the last
    block is given; 0 where it cannot be separated. engine: what computes them: onnxruntime on a processor, which folds
    the batch norms into the convolutions and is 1.3 to 1.5 times as fast as PyTorch there, and PyTorch in half
    precision on a GPU.
    """

    def __init__(
        self, info: EncoderInfo, side: int, dim: int, last: int, activations: int, engine: str, run: Run
    ) -> None:
        """Use ``open_encoder``."""
        self.info, self.name, self.side, self.dim, self.last, self.engine = info, info.name, side, dim, last, engine
        self.activations, self._run = activations, run

    def embed(self, images: Images) -> FloatArray:
        """Return the features of uint8 RGB images, (n, side, side, 3) -> (n, dim) float16."""
        return self._embed(images, False)[0]

    def activate(self, images: Images) -> tuple[FloatArray, FloatArray]:
        """Return the features (n, dim) and, of the same pass, what the last block is given, (n, activations) float16.

        Each row of these is a map (C, H, W).
        """
        if not self.activations:
            raise BadInput(no_last_block(self.name))
        return self._embed(images, True)

    def _embed(self, images: Images, both: bool) -> tuple[FloatArray, FloatArray]:
        expected = (self.side, self.side, 3)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != expected:
            raise BadInput(f"'{self.name}' takes uint8 images of (n, {expected}), found {images.dtype} {images.shape}")
        features = np.empty((len(images), self.dim), np.float16)
        activations = np.empty((len(images), self.activations if both else 0), np.float16)
        chunk = CHUNK[self.engine]
        for start in range(0, len(images), chunk):
            part = slice(start, start + chunk)
            found, given = self._run(np.ascontiguousarray(images[part]), both)
            features[part] = as_features(found)
            if given is not None:
                activations[part] = as_features(given.reshape(len(given), -1))
        return features, activations


def width_of(top: "Top | None") -> int:
    """Return how many numbers an image a last block is given; 0 without one."""
    return 0 if top is None else prod(top.shape)


def open_top(info: EncoderInfo, side: int, folder: Path) -> "Top":
    """Return the last block of an encoder, folded, to be trained; raise BadInput where it cannot be separated."""
    return _folded(info, load_feature_network(info, folder, side), side)


def bare_top(info: EncoderInfo, side: int) -> "Top":
    """Return the same with random weights, for those that are loaded into it."""
    from model.encoders.network import FeatureNetwork

    return _folded(info, FeatureNetwork(bare_network(info), *BYTES), side)


def _folded(info: EncoderInfo, network: "FeatureNetwork", side: int) -> "Top":
    top = network.top(side)
    if top is None:
        raise BadInput(no_last_block(info.name))
    return top.folded()


def no_last_block(name: str) -> str:
    """Return a sentence that the last block of an encoder cannot be trained."""
    return (
        f"the last block of '{name}' cannot be separated from the network, so it cannot be trained: "
        'set "learner": "linear", or another "encoder"'
    )


@cache
def open_encoder(name: str, side: int, folder: Path, device: str = "cpu", threads: int | None = None) -> Encoder:
    """Return the encoder of that name for images of ``side`` pixels; it stays open in this process.

    folder: where weights are looked for, and prepared networks kept. device: see ``model.device``; cpu needs no torch
    once the network is prepared. threads: of onnxruntime; None for all cores.
    Raises WeightsMissing, or BadInput for images smaller than the network can take.
    """
    info = encoder_info(name)
    if device != "cpu":
        from model.device import pick_device

        if pick_device(device).type == "cuda":
            return _on_gpu(info, side, folder, device)
    return _on_processor(info, side, folder, threads)


def load_feature_network(info: EncoderInfo, folder: Path, side: int) -> "FeatureNetwork":
    """Return the PyTorch module of an encoder; raise WeightsMissing, or BadInput for images that are too small."""
    from model.encoders.network import FeatureNetwork

    network: Any = load_network(info, folder)
    mean, std = BYTES
    if info.package is None:
        config = network.pretrained_cfg
        mean, std = (tuple(255.0 * value for value in config[name]) for name in ("mean", "std"))
    module = FeatureNetwork(network, mean, std).eval()
    try:
        module.widths(side)
    except Exception as error:  # a side that is not a multiple of the patches, or smaller than one
        raise BadInput(f"'{info.name}' cannot take images of {side} pixels: {' '.join(str(error).split())}") from error
    return module


def _on_gpu(info: EncoderInfo, side: int, folder: Path, device: str) -> Encoder:
    import torch

    module = load_feature_network(info, folder, side)
    dim, last = module.widths(side)
    top = module.top(side)
    module = module.to(device if ":" in device else "cuda", torch.float16, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def run(images: Images, both: bool) -> tuple[FloatArray, FloatArray | None]:
        pixels = torch.from_numpy(images).to(module.mean.device)
        if not both or top is None:
            return module(pixels).cpu().numpy(), None
        features, activations = module.with_activations(pixels.permute(0, 3, 1, 2), top.block)
        return features.cpu().numpy(), activations.contiguous().cpu().numpy()

    return Encoder(info, side, dim, last, width_of(top), "torch", run)


def _on_processor(info: EncoderInfo, side: int, folder: Path, threads: int | None) -> Encoder:
    session = open_session(info, side, folder, threads, lambda module: _onnx(module, side), kind=f"-{PREPARED}")
    about = session.get_modelmeta().custom_metadata_map

    def run(images: Images, both: bool) -> tuple[FloatArray, FloatArray | None]:
        features, *more = session.run(["features", "activations"] if both else ["features"], {"images": images})
        return features, more[0] if more else None

    dim, last, activations = (int(about[name]) for name in ("dim", "last", "activations"))
    return Encoder(info, side, dim, last, activations, "onnxruntime", run)


def open_session(
    info: EncoderInfo,
    side: int,
    folder: Path,
    threads: int | None,
    prepare: Callable[["FeatureNetwork"], bytes],
    kind: str = "",
) -> Any:
    """Return an onnxruntime session of an encoder's network, which is prepared once and kept in ``folder``.

    prepare: makes the ONNX program of the network. kind: tells its file from those of other programs.
    """
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    # Weights that are not there yet are fetched first: what is prepared is named by them.
    module = None if weights_path(info, folder).exists() else load_feature_network(info, folder, side)
    prepared = prepared_path(info, side, folder, kind)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(prepared, options, providers=["CPUExecutionProvider"])
    except (state.NoSuchFile, state.InvalidProtobuf, state.InvalidGraph, state.Fail):  # not there yet, or damaged
        write_atomically(prepared, prepare(module or load_feature_network(info, folder, side)))
        return onnxruntime.InferenceSession(prepared, options, providers=["CPUExecutionProvider"])


def prepared_path(info: EncoderInfo, side: int, folder: Path, kind: str) -> Path:
    """Return the file of the program that ``open_session`` prepares; the weights have to be there."""
    digest = hashlib.sha256(weights_path(info, folder).read_bytes()).hexdigest()[:8]
    return folder / f"{info.network}-{side}{kind}-{digest}.onnx"


def _onnx(module: "FeatureNetwork", side: int) -> bytes:
    from model.encoders.network import WithActivations

    dim, last = module.widths(side)
    top = module.top(side)
    about = {"dim": dim, "last": last, "activations": width_of(top)}
    if top is None:
        return traced(module, side, ["features"], about)
    return traced(WithActivations(module, top.block), side, ["features", "activations"], about)


def traced(module: Any, side: int, outputs: Sequence[str], about: Mapping[str, object]) -> bytes:
    """Return a module from uint8 images (n, side, side, 3) to outputs (n, ...) as an ONNX program; about: metadata."""
    import torch

    example = torch.zeros((2, side, side, 3), dtype=torch.uint8)
    axes = {name: {0: "n"} for name in ("images", *outputs)}
    proto = trace(module, (example,), ["images"], outputs, axes)
    for name, value in about.items():
        proto.metadata_props.add(key=name, value=str(value))
    serialized: bytes = proto.SerializeToString()
    return serialized
