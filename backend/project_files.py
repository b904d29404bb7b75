"""Where a project keeps what is too large for the store."""

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

FULL_BYTES = 1 << 20  # of free room, below which a disk may take no note any more
LEFTOVER_AGE_S = 3600.0  # what is written now is younger


@dataclass(frozen=True)
class Files:
    """Where a project keeps what is too large for the store."""

    folder: Path

    @classmethod
    def of(cls, data_dir: Path, project_id: int) -> Self:
        """Return the files of the project with our id ``project_id``; its folder is made."""
        folder = data_dir / "projects" / str(project_id)
        folder.mkdir(parents=True, exist_ok=True)
        return cls(folder)

    def delete(self) -> None:
        """Delete all of them, as of a project that is not in the store any more: another one may get its id."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def bank(self, side: int) -> Path:
        """Return the folder of the image bank of that side (pixels)."""
        return self.folder / f"bank-{side}"

    def features(self, key: str) -> Path:
        """Return the folder of the features for a features key."""
        return self.folder / f"features-{key}"

    def activations(self, key: str) -> Path:
        """Return the folder of what the last block of the encoder is given, for a features key."""
        return self.folder / f"activations-{key}"

    def drop_features(self, but: str | None = None) -> None:
        """Delete what all encoders have made, but for those of a key; what was damaged stays to be looked at."""
        kept = {self.features(but or ""), self.activations(but or "")}
        for folder in (*self.folder.glob("features-*"), *self.folder.glob("activations-*")):
            if folder not in kept and not folder.name.endswith("-damaged"):
                shutil.rmtree(folder)

    def drop_activations(self) -> None:
        """Delete what the last block is given, which no learner may read any more."""
        for folder in self.folder.glob("activations-*"):
            shutil.rmtree(folder)

    @property
    def encoders(self) -> Path:
        """The folder of the encoders, which all projects share."""
        return self.folder.parents[1] / "encoders"

    def views(self, side: int) -> Path:
        """Return the folder of the images of that side (pixels) with their aspect kept."""
        return self.folder / f"views-{side}"

    @property
    def maps(self) -> Path:
        """The folder of the feature maps of the views."""
        return self.folder / "maps"

    def drop_views(self, but: int | None = None) -> None:
        """Delete the views of all sides, but for those of one, and all maps if none is kept.

        What was damaged stays to be looked at.
        """
        for folder in self.folder.glob("views-*[0-9]"):
            if but is None or folder != self.views(but):
                shutil.rmtree(folder)
        if but is None:
            shutil.rmtree(self.maps, ignore_errors=True)

    def pretext(self, key: str) -> Path:
        """Return the weights of the pretext model for a pretext key."""
        return self.folder / f"pretext-{key}.pt"

    def pretext_training(self, key: str) -> Path:
        """Return the note of how the pretext model for a pretext key was trained."""
        return self.folder / f"pretext-{key}.json"

    def pretext_embeddings(self, key: str) -> Path:
        """Return the features (N, D) of the pretext model for a pretext key, if the first query wanted them."""
        return self.folder / f"pretext-{key}-embeddings.npy"

    def ways_up(self, key: str) -> Path:
        """Return the folder where a pretext head on the encoder keeps features while it is fitted and scores."""
        return self.folder / f"ways-up-{key}"

    @property
    def shards(self) -> Path:
        """The folder of what workers make of images until the job that wanted it has written it."""
        return self.folder / "shards"

    def drop_old_shards(self, now: float) -> None:
        """Delete shards that no job has wanted for an hour."""
        for path in self.shards.glob("*"):
            with suppress(FileNotFoundError):
                if now - path.stat().st_mtime > LEFTOVER_AGE_S:
                    path.unlink()

    def shard(self, key: str) -> Path:
        """Return the images of a shard, once they are made."""
        return self.shards / f"{key}.npz"

    def shard_order(self, key: str) -> Path:
        """Return what has to be made of which images."""
        return self.shards / f"{key}.json"

    def twins(self) -> Path:
        """Return the note of how many images are equal or look alike."""
        return self.folder / "twins.json"

    def drop_banks(self) -> None:
        """Delete all image banks that are in use or were; one that was damaged stays to be looked at."""
        for folder in self.folder.glob("bank-*[0-9]"):
            shutil.rmtree(folder)

    def drop_pretext(self, key: str) -> None:
        """Delete the pretext model for a pretext key, its features, and what an unfinished training of it has left."""
        self.pretext(key).unlink(missing_ok=True)
        self.pretext_training(key).unlink(missing_ok=True)
        for left in self.folder.glob(f"checkpoint-pretext-{key}.*"):
            left.unlink(missing_ok=True)
        shutil.rmtree(self.ways_up(key), ignore_errors=True)
        self.pretext_embeddings(key).unlink(missing_ok=True)

    def drop_other_pretext(self, key: str) -> None:
        """Delete what pretext models of former configurations have left, but for that of ``key``."""
        for path in [*self.folder.glob("pretext-*"), *self.folder.glob("checkpoint-pretext-*")]:
            if key not in path.name:
                path.unlink(missing_ok=True)

    def checkpoint(self, name: str) -> Path:
        """Return the training checkpoint of a job."""
        return self.folder / f"checkpoint-{name}.pt"

    def model(self, number: int) -> Path:
        """Return the weights of the model trained after round ``number``."""
        return self.folder / f"round-{number:03d}.pt"

    def refined(self, number: int) -> Path:
        """Return where a better model than the linear head is written before it takes the head's place."""
        return self.folder / f"round-{number:03d}-refined.pt"

    def trained(self, number: int) -> Path:
        """Return the note of what the weights of a round were trained on, which exists only while they are finished."""
        return self.folder / f"round-{number:03d}.trained"

    def output(self, number: int, name: str) -> Path:
        """Return an output of the model trained after round ``number``, a field of ``querying.outputs.Outputs``."""
        return self.folder / f"round-{number:03d}-{name}.npy"

    def onnx(self, number: int) -> Path:
        """Return that model for other programs, with its preprocessing and label names."""
        return self.folder / f"round-{number:03d}.onnx"

    def safetensors(self, number: int) -> Path:
        """Return that model's bare weights for other programs."""
        return self.folder / f"round-{number:03d}.safetensors"

    def probs(self, number: int) -> Path:
        """Return the posteriors (N, C), float32 by pool index, of the model trained after round ``number``."""
        return self.output(number, "probs")

    def drop_outputs(self) -> None:
        """Delete all posteriors and features, and have no model taken for one of the present pool indices."""
        for pattern in ("round-*.npy", "round-*.trained", "pretext-*-embeddings.npy"):
            for path in self.folder.glob(pattern):
                path.unlink(missing_ok=True)

    def embeddings(self, number: int) -> Path:
        """Return the features (N, D) of the model trained after round ``number``, if a sampler wanted them."""
        return self.output(number, "embeddings")


def full_disk(data_dir: Path) -> str | None:
    """Return a sentence that the disk of the data folder is full; None if it is not. Nothing could be stored there."""
    try:
        disk = os.statvfs(data_dir)
    except OSError:
        return None
    free = disk.f_bfree if os.geteuid() == 0 else disk.f_bavail  # the rest is kept for root
    return no_room(data_dir) if disk.f_blocks and free * disk.f_frsize < FULL_BYTES else None


def no_room(where: object) -> str:
    """Return a sentence that something did not fit on its disk."""
    return f"the disk is full ({where}): make room, and the work goes on by itself"


def drop_leftovers(data_dir: Path, now: float) -> int:
    """Delete what killed processes have left of files that they were writing; return how many there were."""
    gone = 0
    for path in (data_dir / "projects").glob("**/*.tmp"):
        with suppress(FileNotFoundError):  # its writer lives, and has just given it its name
            if now - path.stat().st_mtime > LEFTOVER_AGE_S:
                path.unlink()
                gone += 1
    return gone
