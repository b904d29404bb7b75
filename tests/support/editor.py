"""Label Studio's image editor in a real browser: a picture to label, and a mouse that draws on it."""

import io
import time

import numpy as np
from PIL import Image

from scripts.chromium import Chromium

WIDTH, HEIGHT = 160, 120  # of the picture, in pixels
CANVAS = """() => {
  const r = document.querySelector(".konvajs-content canvas")?.getBoundingClientRect();
  return r && r.width > 50 ? [r.left, r.top, r.width, r.height] : null;
}"""


def picture() -> bytes:
    """Return a PNG of noise."""
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3))
    Image.fromarray(noise.astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def drag(browser: Chromium, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Draw over the image from one place to another, each as shares of its width and height."""
    left, top, width, height = browser.wait("the image", CANVAS)
    (x, y), (to_x, to_y) = ((left + share[0] * width, top + share[1] * height) for share in (start, end))
    mouse = {"button": "left", "clickCount": 1, "buttons": 1}
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    browser.call("Input.dispatchMouseEvent", type="mousePressed", x=x, y=y, **mouse)
    for step in range(1, 11):
        place = {"x": x + (to_x - x) * step / 10, "y": y + (to_y - y) * step / 10}
        browser.call("Input.dispatchMouseEvent", type="mouseMoved", button="left", buttons=1, **place)
        time.sleep(0.03)  # the editor takes the moves of a frame together
    browser.call("Input.dispatchMouseEvent", type="mouseReleased", x=to_x, y=to_y, **mouse)
