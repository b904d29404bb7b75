"""Take the screenshots of the README: ``python scripts/screenshots.py [folder]``, docs/images by default.

It starts a Label Studio and this backend as the tests do, labels a project of digits through Label Studio's next-task
endpoint, and takes pictures of the pages. Needs a Chromium and what ``make setup`` installs.
"""

import io
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from support.e2e_harness import CONFIG, Backend, LabelingProject  # noqa: E402
from support.labelstudio import LabelStudioServer, free_port, start_label_studio  # noqa: E402

from backend.demo.annotator import Annotator  # noqa: E402
from scripts.chromium import Chromium, started  # noqa: E402

IMAGES, ROUNDS, K = 600, 5, 20
PARAMS = {"rounds": ROUNDS, "labels_per_round": K, "holdout_fraction": 0.5}
MAX_BYTES = 200_000


def main(folder: Path) -> None:
    """Write all screenshots to ``folder``."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        server = start_label_studio(free_port(), work / "label-studio")
        backend = Backend(work / "data", free_port(), LABEL_STUDIO_URL=server.url)
        try:
            backend.start()
            project = _labeled_project(server, backend, work)
            with started(work / "chromium", width=1280, height=900) as browser:
                _dashboard(browser, backend, project, folder)
                _label_studio(browser, server, project, folder)
        finally:
            backend.end()
            server.stop()


def _labeled_project(server: LabelStudioServer, backend: Backend, folder: Path) -> LabelingProject:
    digits = load_digits()
    truth, paths = {}, []
    for number, pixels in enumerate(digits.images[:IMAGES]):
        path = folder / f"digit-{number:04d}.png"
        Image.fromarray((pixels * (255 / 16)).astype(np.uint8)).resize((64, 64), Image.Resampling.BICUBIC).save(path)
        truth[path.stem] = str(digits.target[number])
        paths.append(path)
    annotator = Annotator(server.url, server.email, server.password)
    project = LabelingProject(annotator, backend, truth, "Handwritten digits", CONFIG)
    annotator.upload_images(project.id, paths)
    annotator.connect_backend(project.id, backend.url, {**PARAMS, "image_size": 16})
    for number in range(ROUNDS - 1):
        backend.wait_round(project.id, number, 600)
        while backend.status(project.id)["round"] == number:
            project.label_next()
    for _ in range(K // 4):
        project.label_next()
    backend.wait(project.id, "quiet", lambda s: s["stage"] == "labeling", 600)
    return project


def _dashboard(browser: Chromium, backend: Backend, project: LabelingProject, folder: Path) -> None:
    page = f"{backend.url}/projects/{project.id}"
    browser.open(page)
    browser.resize(1280, 4600)  # figures are drawn when they come into view
    browser.wait("every figure", "() => document.querySelectorAll('.js-plotly-plot').length === 6")
    browser.see("Model of round", patience_s=120)
    browser.wait("thumbnails", "() => [...document.images].every((image) => image.complete)")
    browser.resize(1280, 900)
    _save(browser, folder / "dashboard.png")
    browser.prefer("dark")
    browser.run("() => document.querySelector('#figure-confusion').scrollIntoView({ block: 'center' })")
    _save(browser, folder / "dashboard-dark.png")
    browser.prefer("light")
    browser.open(f"{page}/final?percent=90")
    browser.see("of these predictions will be wrong")
    _save(browser, folder / "label-the-rest.png", height=780)
    browser.resize(390, 844, scale=2, mobile=True)
    browser.open(page)
    _save(browser, folder / "phone.png")
    browser.resize(1280, 800)


def _label_studio(browser: Chromium, server: LabelStudioServer, project: LabelingProject, folder: Path) -> None:
    browser.open(f"{server.url}/user/login/")
    browser.fill("input[name=email]", server.email)
    browser.fill("input[name=password]", server.password)
    browser.press("Enter")
    browser.wait("the login", "() => !location.pathname.startsWith('/user')")
    browser.open(f"{server.url}/projects/{project.id}/data")
    browser.click("[class*=tabs] *", "PT4AL queue")
    thumbnails = (
        "() => [...document.querySelectorAll('[class*=table-row] img')].filter((i) => i.naturalWidth).length > 5"
    )
    browser.wait("thumbnails", thumbnails)
    _save(browser, folder / "data-manager.png")


def _save(browser: Chromium, path: Path, *, height: int | None = None) -> None:
    """Write a screenshot with as many colours as fit its size."""
    browser.screenshot(path)
    image = Image.open(io.BytesIO(path.read_bytes())).convert("RGB")
    if height is not None:
        image = image.crop((0, 0, image.width, min(height, image.height)))
    for colours in (256, 128, 64):
        image.quantize(colours, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(path, optimize=True)
        if path.stat().st_size < MAX_BYTES:
            break
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images")
