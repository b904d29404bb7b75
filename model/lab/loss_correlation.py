"""PT4AL's first hypothesis, that pretext loss tells the main task's loss: ``python -m model.h1 --help``.

Per seed a main model is trained from scratch on a random part of the pool. Spearman's rho of its loss and a pretext
task's is taken over the rest of the pool, on which only the pretext network was trained (that is where the loss orders
images), and over test images, which neither has seen (section 3.1, Fig. 2).
"""

import argparse
import io
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np

from model.data.atomic_files import write_atomically
from model.errors import BadInput, ModelError
from model.evaluation.metrics import spearman
from model.lab.arguments import check, parse, positive, study_parser
from model.lab.experiment import QUERY_STREAM, Experiment, ExperimentConfig, pool_of, pretext_of
from model.lab.results import Log, Results
from model.lab.sources import load_source
from model.names import PRETEXT_TASKS
from model.problems import problem
from model.querying.outputs import FloatArray, IntArray

LABELED = 0.2  # share of the pool that the main model is trained on by itself


class Row(TypedDict):
    """One task on one seed.

    rho: over the ``images`` of the pool that the main model has not seen. rho_test: over the test set. Both None where
    the task refuses the images, with the reason in ``error``. accuracy: of the main model on the test set. seconds: of
    the pretext training and extraction.
    """

    task: str
    seed: int
    labels: int
    images: int
    rho: float | None
    rho_test: float | None
    accuracy: float
    seconds: float
    error: str | None


def measure(
    setting: ExperimentConfig,
    tasks: Sequence[str],
    seeds: Sequence[int],
    results: Results[Row],
    *,
    device: str,
    log: Log,
) -> None:
    """Measure every task with every seed, adding to ``results`` what it does not have yet."""
    for task in tasks:
        pretext_of(task)
    check(setting, {setting.init}, device)
    known = {(row["task"], row["seed"]) for row in results.rows}
    to_do = {seed: missing for seed in seeds if (missing := [task for task in tasks if (task, seed) not in known])}
    if not to_do:
        return
    source = load_source(setting.data, setting.mix, log)
    for seed, missing in to_do.items():
        truth = pool_of(source, setting, seed)[1]
        if len(truth) <= setting.k:
            raise BadInput(f"with {setting.k} labels of {len(truth)} images there is nothing left to measure on")
        results.begin()
        experiment = Experiment(results.work / f"seed-{seed}", source, setting, seed, device)
        log(f"seed {seed}  {experiment}")
        main_task = _main_losses(experiment)
        for task in missing:
            row = _measure(experiment, main_task, task)
            results.add(row)
            log(f"{task}  seed {seed}  rho {_number(row['rho'])}  on test images {_number(row['rho_test'])}")


@dataclass(frozen=True)
class _MainLosses:
    """Cross-entropy of a main model: of the unseen images of the pool, by pool index, and of the test set."""

    labels: int
    unseen: IntArray
    pool: FloatArray
    test: FloatArray
    accuracy: float


def _main_losses(experiment: Experiment) -> _MainLosses:
    from model.learners.own_network import FitSettings, Learner, fit

    setting, model = experiment.setting, experiment.folder / "main.pt"
    shuffled = np.random.default_rng([experiment.seed, QUERY_STREAM]).permutation(len(experiment.truth))
    labeled, unseen = np.sort(shuffled[: setting.k]), np.sort(shuffled[setting.k :])
    if not model.exists():
        fit(
            experiment.bank,
            labeled,
            experiment.truth[labeled],
            problem("single_label"),
            experiment.class_names,
            FitSettings(
                network=setting.network,
                init=setting.init,
                recipe=setting.recipe,
                epochs=setting.epochs,
                seed=experiment.seed,
                device=experiment.device,
            ),
            out=model,
            checkpoint=experiment.folder / "main-checkpoint.pt",
        )
    learner = Learner.load(model, device=experiment.device)
    pool, test = learner.predict(experiment.bank, unseen).probs, learner.predict(experiment.test_bank).probs
    if pool is None or test is None:
        raise ModelError("the main model gave no posteriors")
    reached = float((test.argmax(axis=1) == experiment.test_truth).mean())
    losses = cross_entropy(pool, experiment.truth[unseen]), cross_entropy(test, experiment.test_truth)
    return _MainLosses(len(labeled), unseen, *losses, reached)


def _measure(experiment: Experiment, main_task: _MainLosses, task: str) -> Row:
    from model.pretext import extract_losses

    started = time.monotonic()
    rho: float | None = None
    rho_test: float | None = None
    refused: str | None = None
    try:
        weights, pool = experiment.pretext(task)
        test = extract_losses(experiment.test_bank, weights, device=experiment.device, seed=experiment.seed)
        rho, rho_test = spearman(pool[main_task.unseen], main_task.pool), spearman(test, main_task.test)
        _save_losses(
            experiment.folder / f"h1-{task}.npz", pool[main_task.unseen], main_task.pool, experiment, main_task
        )
    except BadInput as error:
        refused = str(error)
    return Row(
        task=task,
        seed=experiment.seed,
        labels=main_task.labels,
        images=len(main_task.unseen),
        rho=rho,
        rho_test=rho_test,
        accuracy=main_task.accuracy,
        seconds=round(time.monotonic() - started, 2),
        error=refused,
    )


def _save_losses(
    path: Path, pretext: FloatArray, main_loss: FloatArray, experiment: Experiment, about: _MainLosses
) -> None:
    """Keep what the report draws: pretext loss, main loss and class of the unseen images."""
    buffer = io.BytesIO()
    np.savez(buffer, pretext=pretext, main=main_loss, label=experiment.truth[about.unseen])
    write_atomically(path, buffer.getvalue())


def cross_entropy(probs: FloatArray, truth: IntArray) -> FloatArray:
    """Return the loss of each image, (n, C), (n,) -> (n,), finite where a posterior has rounded to zero."""
    own = probs[np.arange(len(probs)), truth].astype(np.float64)
    losses: FloatArray = -np.log(np.maximum(own, np.finfo(np.float32).tiny))
    return losses


def table(rows: Sequence[Row]) -> str:
    """Return mean and standard deviation over the seeds of every task, as text."""
    lines = [f"{'task':<14} seeds  rho (pool)     sd  rho (test)     sd"]
    for task in dict.fromkeys(row["task"] for row in rows):
        own = [row for row in rows if row["task"] == task]
        pool = [row["rho"] for row in own if row["rho"] is not None]
        test = [row["rho_test"] for row in own if row["rho_test"] is not None]
        refused = next((row["error"] for row in own if row["error"]), None)
        figures = f"refused: {refused}" if refused else f"{_mean_sd(pool)}  {_mean_sd(test)}"
        lines.append(f"{task:<14} {len(own):5d}  {figures}")
    return "\n".join(lines)


def _mean_sd(values: Sequence[float]) -> str:
    if not values:
        return "         -      -"
    sd = f"{np.std(values, ddof=1):6.3f}" if len(values) > 1 else "     -"
    return f"{np.mean(values):+10.3f} {sd}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    given, seeds = parse(_parser(), arguments)
    tasks = list(PRETEXT_TASKS) if given.tasks == "all" else given.tasks.split(",")
    try:
        setting = _setting(given)
        with Results[Row](given.json, setting) as results:
            measure(setting, tasks, seeds, results, device=given.device, log=lambda line: print(line, file=sys.stderr))
    except ModelError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(table(results.rows))
    return 0


def _setting(given: argparse.Namespace) -> ExperimentConfig:
    return ExperimentConfig(
        data=given.data,
        rounds=1,
        k=max(round(LABELED * given.pool), 1) if given.labels is None else given.labels,
        pool=given.pool,
        test=given.test,
        network=given.network,
        init="scratch",
        recipe=given.recipe,
        epochs=given.epochs,
        pretext_epochs=given.pretext_epochs,
    )


def _parser() -> argparse.ArgumentParser:
    parser = study_parser("python -m model.h1", "Spearman's rho of pretext and main-task loss, for every pretext task.")
    add = parser.add_argument
    add("--pool", type=positive, required=True, help="images in the pool, drawn anew for each seed")
    add("--labels", type=positive, help="of them the main model is trained on (default: a fifth)")
    tasks = f"comma list of {', '.join(PRETEXT_TASKS)}, or all; task@recipe: by that recipe and its network"
    add("--tasks", default="all", help=tasks)
    return parser


if __name__ == "__main__":
    sys.exit(main())
