"""Measure PT4AL's first hypothesis, that pretext loss and main-task loss correlate: ``python -m model.h1 --help``.

For each seed a main model is trained from scratch on a random part of the pool. Spearman's rho of its loss and the loss
of a pretext task is computed over the rest of the pool, on which only the pretext network was trained (these are the
images that the loss orders), and over test images, which neither network has seen (section 3, Fig. 2).
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
from model.pretext.registry import PRETEXT_TASKS
from model.problems import problem
from model.problems.base import as_vector
from model.querying.outputs import FloatArray, IntArray

LABELED = 0.2  # share of the pool that the main model is trained on by default


class TaskCorrelation(TypedDict):
    """Spearman's rho of one pretext task and the main task, with one seed.

    rho: over the ``images`` of the pool that the main model has not seen. rho_test: over the test set. Both are None if
    the task refuses the images; ``error`` then has the reason. accuracy: of the main model on the test set. seconds: of
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
    config: ExperimentConfig,
    tasks: Sequence[str],
    seeds: Sequence[int],
    results: Results[TaskCorrelation],
    *,
    device: str,
    log: Log,
) -> None:
    """Measure every task with every seed, and add to ``results`` the rows that it does not have yet."""
    for task in tasks:
        pretext_of(task)
    check(config, {config.init}, device)
    known = {(row["task"], row["seed"]) for row in results.rows}
    to_do = {seed: missing for seed in seeds if (missing := [task for task in tasks if (task, seed) not in known])}
    if not to_do:
        return
    source = load_source(config.data, config.mix, log, config.side)
    if source.images.problem != "single_label":
        raise BadInput(f"'{config.data}' has not one class an image: this study needs the loss of its main task")
    for seed, missing in to_do.items():
        truth = pool_of(source, config, seed)[1]
        if len(truth) <= config.k:
            raise BadInput(f"with {config.k} labels of {len(truth)} images there is nothing left to measure on")
        results.begin()
        experiment = Experiment(results.work / f"seed-{seed}", source, config, seed, device)
        log(f"seed {seed}  {experiment}")
        main_task = _main_losses(experiment)
        for task in missing:
            row = _measure(experiment, main_task, task)
            results.add(row)
            log(f"{task}  seed {seed}  rho {_number(row['rho'])}  on test images {_number(row['rho_test'])}")


@dataclass(frozen=True)
class _MainLosses:
    """Cross-entropy of a main model on the images of the pool that it was not trained on, and on the test set.

    unseen: (n,) pool indices. pool: (n,). test: (T,).
    """

    labels: int
    unseen: IntArray
    pool: FloatArray
    test: FloatArray
    accuracy: float


def _main_losses(experiment: Experiment) -> _MainLosses:
    from model.learners.own_network import FitSettings, Learner, fit_network

    config, model = experiment.config, experiment.folder / "main.pt"
    shuffled = np.random.default_rng([experiment.seed, QUERY_STREAM]).permutation(len(experiment.truth))
    labeled, unseen = np.sort(shuffled[: config.k]), np.sort(shuffled[config.k :])
    if not model.exists():
        fit_network(
            experiment.bank,
            labeled,
            experiment.truth[labeled],
            as_vector(problem("single_label")),
            experiment.class_names,
            FitSettings(
                network=config.network,
                init=config.init,
                recipe=config.recipe,
                epochs=config.epochs,
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
    accuracy = float((test.argmax(axis=1) == experiment.test_truth).mean())
    losses = cross_entropy(pool, experiment.truth[unseen]), cross_entropy(test, experiment.test_truth)
    return _MainLosses(len(labeled), unseen, *losses, accuracy)


def _measure(experiment: Experiment, main_task: _MainLosses, task: str) -> TaskCorrelation:
    from model.pretext.run import extract_losses

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
    return TaskCorrelation(
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
    path: Path, pretext: FloatArray, main_loss: FloatArray, experiment: Experiment, main_task: _MainLosses
) -> None:
    """Save what the report draws: pretext loss, main-task loss and class of the unseen images."""
    buffer = io.BytesIO()
    np.savez(buffer, pretext=pretext, main=main_loss, label=experiment.truth[main_task.unseen])
    write_atomically(path, buffer.getvalue())


def cross_entropy(probs: FloatArray, truth: IntArray) -> FloatArray:
    """Return the loss of each image, (n, C), (n,) -> (n,); finite also where a posterior was rounded to zero."""
    posterior = probs[np.arange(len(probs)), truth].astype(np.float64)
    losses: FloatArray = -np.log(np.maximum(posterior, np.finfo(np.float32).tiny))
    return losses


def table(rows: Sequence[TaskCorrelation]) -> str:
    """Return a text table: mean and standard deviation over the seeds of every task."""
    lines = [f"{'task':<14} seeds  rho (pool)     sd  rho (test)     sd"]
    for task in dict.fromkeys(row["task"] for row in rows):
        of_task = [row for row in rows if row["task"] == task]
        pool = [row["rho"] for row in of_task if row["rho"] is not None]
        test = [row["rho_test"] for row in of_task if row["rho_test"] is not None]
        refused = next((row["error"] for row in of_task if row["error"]), None)
        figures = f"refused: {refused}" if refused else f"{_mean_sd(pool)}  {_mean_sd(test)}"
        lines.append(f"{task:<14} {len(of_task):5d}  {figures}")
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
        config = _config(given)
        with Results[TaskCorrelation](given.json, config) as results:
            measure(config, tasks, seeds, results, device=given.device, log=lambda line: print(line, file=sys.stderr))
    except ModelError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(table(results.rows))
    return 0


def _config(given: argparse.Namespace) -> ExperimentConfig:
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
        side=given.side,
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
