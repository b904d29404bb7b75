"""What the demo labels: scikit-learn's digits, or a folder of one's own images."""

import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import quoteattr

from backend.errors import ConfigError

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp"})  # what Label Studio takes as an image
PLACEHOLDERS = ("A", "B")  # the choices for images whose classes are unknown
DIGIT_SIDE = 16  # pixels: what the network takes images of 8 to 21 pixels at, so that it sees what they are
SHOWN_AT = 240  # pixels at which annotators see a digit; Label Studio would blow it up to 750
NUMBER = re.compile(r"-(\d{6})-")


@dataclass(frozen=True)
class DemoImages:
    """Images by their numbers, and what they show where that is known."""

    count: int
    classes: Sequence[str]
    read: Callable[[int], tuple[str, bytes]]
    """Return an image's file name and contents."""
    truth: Sequence[str] | None
    shown_at: int | None = None  # pixels, the widest that annotators see an image; None leaves it to Label Studio

    @property
    def label_config(self) -> str:
        """The labeling interface: one image, one choice."""
        choices = "".join(f"<Choice value={quoteattr(name)}{_hotkey(name)}/>" for name in self.classes)
        width = f' maxWidth="{self.shown_at}px"' if self.shown_at else ""
        return (
            f'<View><Image name="image" value="$image"{width}/>'
            f'<Choices name="class" toName="image" choice="single" showInLine="true">{choices}</Choices></View>'
        )

    def files(self, start: int, stop: int) -> Iterator[tuple[str, bytes]]:
        """Yield names and contents; a name carries its number, by which ``label_of`` finds the truth."""
        for number in range(start, min(stop, self.count)):
            name, content = self.read(number)
            yield f"{number:06d}-{name}", content

    def label_of(self, data: Mapping[str, object]) -> str:
        """Return what the image of a task shows.

        Raises:
            ConfigError: it is none of ours, or nobody knows.
        """
        # Label Studio puts a few characters and a dash before the name.
        number = NUMBER.search(str(data.get("image", "")).rpartition("/")[2])
        if self.truth is None or number is None:
            raise ConfigError(f"the demo does not know what {data.get('image')} shows")
        return self.truth[int(number[1])]


def digits() -> DemoImages:
    """Return scikit-learn's 1,797 handwritten digits, 8x8 pixels, smoothly enlarged, as PNG files."""
    from PIL import Image
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = (bunch.images * (255 / 16)).astype("uint8")  # (1797, 8, 8)

    def read(number: int) -> tuple[str, bytes]:
        file = io.BytesIO()
        size = (DIGIT_SIDE, DIGIT_SIDE)
        Image.fromarray(pixels[number]).resize(size, Image.Resampling.BICUBIC).save(file, "PNG")
        return "digit.png", file.getvalue()

    truth = [str(label) for label in bunch.target]
    return DemoImages(len(truth), [str(digit) for digit in range(10)], read, truth, SHOWN_AT)


def _hotkey(name: str) -> str:
    """Return the key of a class that is a digit: by itself, Label Studio counts from 1 and would put 5 on the key 6."""
    return f' hotkey="{name}"' if len(name) == 1 and name.isascii() and name.isdecimal() else ""


def folder_images(folder: Path) -> DemoImages:
    """Return the images of a folder; its subfolders, if images lie in two or more, are their classes.

    Raises:
        ConfigError: there is no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise ConfigError(f"DATA: {folder} is not a folder")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not paths:
        raise ConfigError(f"DATA: no images ({', '.join(sorted(SUFFIXES))}) in {folder}")
    tops = [path.relative_to(folder).parts[0] if path.parent != folder else "" for path in paths]
    classes = sorted(set(tops))
    known = len(classes) > 1 and "" not in classes

    def read(number: int) -> tuple[str, bytes]:
        path = paths[number]
        return re.sub(r"[^\w.]+", "_", path.stem) + path.suffix.lower(), path.read_bytes()

    return DemoImages(len(paths), classes if known else PLACEHOLDERS, read, tops if known else None)
