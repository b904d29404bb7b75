"""Three rounds of each kind of classification on a real Label Studio."""

import csv
import io
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import requests
from PIL import Image
from sklearn.metrics import f1_score
from support.e2e_harness import Backend, LabelingProject, wait_for
from support.labelstudio import LabelStudioServer

from backend.demo.annotator import Annotator
from backend.errors import StudioError
from model.problems import PROBLEMS

pytestmark = pytest.mark.e2e

SIDE, IMAGES = 16, 100  # pixels; images
ATTRIBUTES = ("bright top", "red left", "stripe")
K, HOLDOUT = 10, 5  # images of a round: asked by the sampler, and at random for the holdout
PARAMS = {"rounds": 4, "labels_per_round": K, "holdout_fraction": 0.5, "network": "compact"}
ASKED = K + HOLDOUT
ROUNDS = 3

Drawn = tuple[bytes, tuple[str, ...], int]  # PNG, attributes, stars
Regions = list[dict[str, Any]]


def draw(generator: np.random.Generator) -> Drawn:
    """Draw an image that has each attribute with a probability of its own, in one of three levels of blue."""
    shown = tuple(name for name, share in zip(ATTRIBUTES, (0.5, 0.4, 0.3), strict=True) if generator.random() < share)
    stars = int(generator.integers(1, 4))
    pixels = np.full((SIDE, SIDE, 3), 60.0)
    pixels[..., 2] = 30 + 60 * (stars - 1)
    if "bright top" in shown:
        pixels[:5, :, 1] += 60
    if "red left" in shown:
        pixels[:, :5, 0] += 60
    if "stripe" in shown:
        pixels[9:12, 5:] -= 40
    file = io.BytesIO()
    Image.fromarray((pixels + generator.normal(0, 25, pixels.shape)).clip(0, 255).astype(np.uint8)).save(file, "PNG")
    return file.getvalue(), shown, stars


@pytest.fixture(scope="module")
def drawn() -> dict[str, Drawn]:
    """Return the images by the names of their files."""
    generator = np.random.default_rng(0)
    return {f"drawn-{number:03d}": draw(generator) for number in range(IMAGES)}


class AnsweredProject(LabelingProject):
    """A project whose truth is what its annotator answers: the regions of an annotation by the name of an image."""

    truth: dict[str, Any]

    def result(self, label: Any) -> Regions:
        return list(label)

    def connect(self, **extra_params: Any) -> None:
        self.annotator.connect_backend(self.id, self.backend.url, {**PARAMS, **extra_params})

    def reconnect(self, control: str) -> None:
        """Name another control tag in the entry on the Model page, which calls /setup again.

        Label Studio (1.23.2) lists models by saving each as it was read, so that a change at that moment is lost: it is
        made again.
        """

        def change() -> bool:
            (entry,) = self.annotator.call("GET", "/api/ml/", project=self.id)
            params = json.dumps({**PARAMS, "control": control})
            body = {"project": self.id, "url": entry["url"], "extra_params": params}
            self.annotator.call("PATCH", f"/api/ml/{entry['id']}", body)
            (entry,) = self.annotator.call("GET", "/api/ml/", project=self.id)
            return bool(entry["extra_params"] == params and self.backend.status(self.id)["control"] == control)

        wait_for("the other control tag", change, pause_s=2)

    def label_round(self, number: int) -> list[dict[str, Any]]:
        """Label a round's queue as Label Studio serves it; return the predictions that were shown.

        The random images of the holdout are shown without what the model says, and have no region.
        """
        queue = self.backend.wait_round(self.id, number)["queue"]
        assert queue["size"] == ASKED
        shown: list[dict[str, Any]] = []
        for _ in range(ASKED):
            task = self.annotator.next_task(self.id)
            assert task is not None
            assert task.id in queue["task_ids"]
            shown += [one for one in task.predictions if one["model_version"] == queue["model_version"]]
            self.annotator.annotate(task.id, self.result(self.label_of(task.data)))
        assert len(shown) == ASKED
        return shown

    def label_rounds(self) -> tuple[list[list[dict[str, Any]]], list[dict[str, Any]]]:
        """Label all rounds; return the predictions that were shown in each, and the history."""
        shown = [self.label_round(number) for number in range(ROUNDS)]
        status = self.backend.wait_round(self.id, ROUNDS)
        assert status["error"] is None
        history = status["history"]
        assert [(entry["round"], entry["labels"]) for entry in history] == [
            (number, K * (number + 1)) for number in range(ROUNDS)
        ]
        assert [entry["holdout_size"] for entry in history] == [HOLDOUT * (number + 1) for number in range(ROUNDS)]
        for entry in history:
            low, high = entry["interval"]
            assert 0 <= low <= entry["quality"] <= high <= 1
        return shown, history

    def fetch(self, name: str) -> requests.Response:
        answer = requests.get(f"{self.backend.url}/api/projects/{self.id}/{name}", timeout=30)
        assert answer.ok, answer.text
        return answer

    def predicted(self) -> list[dict[str, str]]:
        """Return the rows of predictions.csv, one an image."""
        rows = list(csv.DictReader(io.StringIO(self.fetch("predictions.csv").text)))
        assert len(rows) == IMAGES
        return rows

    def label_the_rest(self) -> str:
        """Order the predictions of every image that nobody has labeled; return their version once they are written.

        The random images that the live queue asks are left out.
        """
        requests.post(f"{self.backend.url}/api/projects/{self.id}/final", json={"confidence": 0}, timeout=30)
        order = wait_for("the rest to be written", lambda: self._written_order())
        assert order["images"] == IMAGES - ROUNDS * ASKED - HOLDOUT
        return str(order["model_version"])

    def _written_order(self) -> dict[str, Any] | None:
        order = self.backend.get(f"/api/projects/{self.id}/final").get("order")
        return order if order and order["written"] else None

    def stored(self, version: str) -> dict[int, Regions]:
        """Return the regions of the predictions of a version by their task, as Label Studio has them."""
        tasks = self.annotator.call("GET", "/api/tasks/", project=self.id, fields="all", page_size=IMAGES)["tasks"]
        predictions = [one for task in tasks for one in task["predictions"] if one["model_version"] == version]
        return {one["task"]: one["result"] for one in predictions}


@pytest.fixture
def make(
    label_studio: LabelStudioServer, backend: Backend, drawn: dict[str, Drawn], request: pytest.FixtureRequest
) -> Callable[..., AnsweredProject]:
    """Make a project with the drawn images, whose annotator gives ``answer(attributes, stars)``."""

    def project(config: str, answer: Callable[[tuple[str, ...], int], Regions]) -> AnsweredProject:
        truth: dict[str, Any] = {name: answer(shown, stars) for name, (_, shown, stars) in drawn.items()}
        annotator = Annotator(label_studio.url, label_studio.email, label_studio.password)
        made = AnsweredProject(annotator, backend, truth, request.node.name[:50], config)
        annotator.upload_images(made.id, [(f"{name}.png", png) for name, (png, _, _) in drawn.items()])
        return made

    return project


def view(*tags: str) -> str:
    return f'<View><Image name="image" value="$image"/>{"".join(tags)}</View>'


def control(kind: str, values: Sequence[str] = (), name: str = "answer", extra: str = "") -> str:
    inner = "".join(f'<Choice value="{value}"/>' for value in values)
    return f'<{kind} name="{name}" toName="image" {extra}>{inner}</{kind}>'


def region(kind: str, value: Any, name: str = "answer") -> dict[str, Any]:
    return {"from_name": name, "to_name": "image", "type": kind, "value": {kind: value}}


def values_of(shown: list[dict[str, Any]], kind: str, name: str = "answer") -> Iterator[Any]:
    """Yield the values of predictions' regions, all of which are of this control tag."""
    for prediction in shown:
        for part in prediction["result"]:
            assert (part["from_name"], part["to_name"], part["type"]) == (name, "image", kind)
            yield part["value"][kind]


def open_pages(project: AnsweredProject) -> None:
    """See that the pages and the figures of the project's problem open."""
    problem = PROBLEMS[project.backend.status(project.id)["problem"]]
    for page in ("", "/final", *(f"/figures/{name}.json" for name in problem.figures)):
        answer = requests.get(f"{project.backend.url}/projects/{project.id}{page}", timeout=30)
        assert answer.status_code == 200, f"{page}: {answer.text[:500]}"


def mean_f1(predictions: Sequence[Sequence[str]], targets: Sequence[Sequence[str]]) -> float:
    """Return the mean F1 of the sets by scikit-learn; of two empty sets it is 1."""
    rows = [[[name in names for name in ATTRIBUTES] for names in sets] for sets in (targets, predictions)]
    return float(f1_score(*(np.array(row, int) for row in rows), average="samples", zero_division=1))


def test_multiple_choices(make: Callable[..., AnsweredProject], drawn: dict[str, Drawn]) -> None:
    def answer(shown: tuple[str, ...], stars: int) -> Regions:
        return [region("choices", list(shown))] if shown else []

    project = make(view(control("Choices", ATTRIBUTES, extra='choice="multiple"')), answer)
    with pytest.raises(StudioError, match=r"sampler: 'bald' needs one posterior .* choose one of .*random"):
        project.connect(sampler="bald")
    project.connect()
    shown, history = project.label_rounds()
    status = project.backend.status(project.id)
    assert (status["problem"], status["metric"], status["control"]) == ("multi_label", "f1", "answer")

    # The first queue has no model; the predictions of later ones are lists of choices, some with several.
    assert not list(values_of(shown[0], "choices"))
    choices = list(values_of([*shown[1], *shown[2]], "choices"))
    assert choices
    assert all(set(names) <= set(ATTRIBUTES) for names in choices)
    assert max(map(len, choices)) > 1

    # The newest model is better than the best answer that is the same for all images, on the holdout and on the rest.
    rows = project.predicted()
    rest = [row for row in rows if not row["label"]]
    assert len(rest) == IMAGES - ROUNDS * ASKED
    targets = [drawn[Path(row["image"]).stem[-len("drawn-000") :]][1] for row in rest]
    fixed = [names for size in range(4) for names in itertools.combinations(ATTRIBUTES, size)]
    trivial = max(mean_f1([names] * len(rest), targets) for names in fixed)
    reached = mean_f1([json.loads(row["prediction"]) for row in rest], targets)
    print(f"F1 by round {[entry['quality'] for entry in history]}, on the rest {reached:.3f}, trivial {trivial:.3f}")
    assert reached > trivial + 0.1
    assert history[-1]["quality"] > trivial

    # The labels of the annotator stand beside the predictions, in the order of the configuration.
    for row in rows:
        if row["label"]:
            assert tuple(json.loads(row["label"])) == drawn[Path(row["image"]).stem[-len("drawn-000") :]][1]

    # "Label the rest" writes what predictions.json holds.
    exported = {task["id"]: task["predictions"][0]["result"] for task in project.fetch("predictions.json").json()}
    version = project.label_the_rest()
    unlabeled = {int(row["task"]) for row in rest}
    written = project.stored(version)
    assert set(written) < unlabeled
    assert len(written) == len(unlabeled) - HOLDOUT
    without_ids = {task: [{k: v for k, v in part.items() if k != "id"} for part in written[task]] for task in written}
    assert without_ids == {task: exported[task] for task in written}

    check_onnx(project, drawn, rows)
    open_pages(project)


def check_onnx(project: AnsweredProject, drawn: dict[str, Drawn], rows: list[dict[str, str]]) -> None:
    """See that the exported model predicts as the backend does."""
    url = f"{project.backend.url}/api/projects/{project.id}/model.onnx"

    def newest() -> bytes | None:
        answer = requests.get(url, timeout=30)
        name = answer.headers.get("Content-Disposition", "")
        return answer.content if f"round-{ROUNDS}.onnx" in name else None

    session = onnxruntime.InferenceSession(wait_for("the newest model's file", newest))
    about = session.get_modelmeta().custom_metadata_map
    assert about["problem"] == "multi_label"
    assert json.loads(about["classes"]) == list(ATTRIBUTES)
    thresholds = np.array(json.loads(about["decoding"]).get("thresholds", 0.5))  # none are chosen from few labels
    same = 0
    for row in rows:
        png = drawn[Path(row["image"]).stem[-len("drawn-000") :]][0]
        (probabilities,) = session.run(None, {"image": np.array(Image.open(io.BytesIO(png)).convert("RGB"))})
        same += [ATTRIBUTES[i] for i in np.flatnonzero(probabilities >= thresholds)] == json.loads(row["prediction"])
    assert same >= IMAGES - 2  # a probability may lie on its threshold


TREE = (
    '<Choice value="warm"><Choice value="red"/></Choice>'
    '<Choice value="cold"><Choice value="striped"/><Choice value="plain"/></Choice>'
)


def path_of(shown: tuple[str, ...]) -> list[str]:
    """Return the path of an image in the taxonomy."""
    return ["warm", "red"] if "red left" in shown else ["cold", "striped" if "stripe" in shown else "plain"]


def test_taxonomy_of_one_path(make: Callable[..., AnsweredProject], drawn: dict[str, Drawn]) -> None:
    config = view(f'<Taxonomy name="answer" toName="image" maxUsages="1">{TREE}</Taxonomy>')
    project = make(config, lambda shown, stars: [region("taxonomy", [path_of(shown)])])
    project.connect()
    shown, history = project.label_rounds()
    status = project.backend.status(project.id)
    assert (status["problem"], status["metric"]) == ("single_label", "accuracy")
    assert all(entry["holdout_accuracy"] == entry["quality"] for entry in history)

    paths = [["warm"], ["warm", "red"], ["cold"], ["cold", "striped"], ["cold", "plain"]]
    predicted = list(values_of([*shown[1], *shown[2]], "taxonomy"))
    assert len(predicted) == 2 * K
    assert all(len(value) == 1 and value[0] in paths for value in predicted)

    rows = project.predicted()
    rest = [row for row in rows if not row["label"]]
    truth = [" / ".join(path_of(drawn[Path(row["image"]).stem[-len("drawn-000") :]][1])) for row in rest]
    right = np.mean([row["prediction"] == name for row, name in zip(rest, truth, strict=True)])
    trivial = max(truth.count(name) for name in truth) / len(truth)
    print(
        f"accuracy by round {[entry['quality'] for entry in history]}, on the rest {right:.3f}, trivial {trivial:.3f}"
    )
    assert right > trivial + 0.1

    written = project.stored(project.label_the_rest())
    by_task = {int(row["task"]): row["prediction"].split(" / ") for row in rest}
    assert len(written) == len(rest) - HOLDOUT
    assert {task: result[0]["value"]["taxonomy"] for task, result in written.items()} == {
        task: [by_task[task]] for task in written
    }
    open_pages(project)


def test_two_control_tags(make: Callable[..., AnsweredProject]) -> None:
    animals = ("cat", "dog")
    config = view(control("Choices", animals, "animal"), control("Rating", name="quality", extra='maxRating="3"'))

    def answer(shown: tuple[str, ...], stars: int) -> Regions:
        animal = "cat" if "red left" in shown else "dog"
        return [region("choices", [animal], "animal"), region("rating", stars, "quality")]

    project = make(config, answer)
    project.connect()
    assert not list(values_of(project.label_round(0), "choices", "animal"))
    before = project.backend.wait_round(project.id, 1)
    assert (before["problem"], before["control"]) == ("single_label", "animal")
    assert "leaves aside 'quality'" in before["notice"]
    of_animals = project.stored("pt4al-r001")
    assert {part["value"]["choices"][0] for result in of_animals.values() for part in result} <= set(animals)

    def labels() -> dict[str, str]:
        rows = csv.DictReader(io.StringIO(project.fetch("losses.csv").text))
        return {row["task"]: row["label"] for row in rows if row["label"]}

    animals_of = labels()
    assert len(animals_of) == ASKED
    assert set(animals_of.values()) == set(animals)

    # The other control tag: every answer is read anew, and the round that was measured stays as it is.
    project.reconnect("quality")
    wait_for("the ratings", lambda: len(labels()) == ASKED and set(labels().values()) <= {"1", "2", "3"})
    assert set(labels()) == set(animals_of)
    status = project.backend.status(project.id)
    assert (status["control"], status["error"], status["history"]) == ("quality", None, before["history"])
    project.label_round(1)
    after = project.backend.wait_round(project.id, 2)
    assert [entry["labels"] for entry in after["history"]] == [K, 2 * K]
    assert after["history"][0] == before["history"][0]
    assert after["pool"]["labeled"] == 2 * ASKED
    stars = list(values_of(project.label_round(2), "rating", "quality"))
    assert len(stars) == K
    assert set(stars) <= {1, 2, 3}
    assert len(project.backend.wait_round(project.id, 3)["history"]) == ROUNDS

    # And back: no answer of the first control tag is lost.
    project.reconnect("animal")
    wait_for("the animals", lambda: len(labels()) == ROUNDS * ASKED and set(labels().values()) == set(animals))
    assert animals_of.items() <= labels().items()
    open_pages(project)
