"""What the whole loop costs in wall-clock time (PT4AL, Table 2): ``python -m model.cost --help``.

Each strategy runs with each seed from nothing: features and losses that another one has made are made again. What
measures a model on test images, and what loads the images, does not count.
"""

import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import TypedDict

from model.device import pick_device
from model.errors import ModelError
from model.lab.arguments import parse
from model.lab.experiment import Experiment, ExperimentConfig
from model.lab.learning_curves import CONTROL
from model.lab.results import Log, Results
from model.lab.simulate import Strategy, checked_source, config_of, loop_of, loop_parser, parse_strategy
from model.learners.registry import OWN

PARTS = ("features", "losses", "queries", "trainings")


class CostRow(TypedDict):
    """Wall-clock seconds of a strategy with one seed.

    features: of the encoder, for all images. losses: the pretext training, and the loss of each image. queries: the
    pool is scored and the images are chosen, in all rounds. trainings: of the main model, after all rounds.
    """

    strategy: str
    seed: int
    rounds: int
    labels: int
    features: float
    losses: float
    queries: float
    trainings: float
    device: str


def measure(
    config: ExperimentConfig,
    strategies: Sequence[Strategy],
    seeds: Sequence[int],
    results: Results[CostRow],
    *,
    device: str,
    log: Log,
) -> None:
    """Time every strategy with every seed, and add to ``results`` the rows that it does not have yet."""
    import model.learners.fitting  # noqa: F401 - what it loads is no cost of the first strategy

    source = checked_source(config, strategies, device, log)
    (results.work / "encoders").mkdir(exist_ok=True)
    known = {(row["strategy"], row["seed"]) for row in results.rows}
    results.begin()
    for seed in seeds:
        for strategy in strategies:
            if (strategy.name, seed) in known:
                continue
            with tempfile.TemporaryDirectory(dir=results.work) as folder:
                (Path(folder) / "encoders").symlink_to((results.work / "encoders").resolve())
                experiment = Experiment(Path(folder) / f"seed-{seed}", source, config, seed, device)
                if strategy.learner_of(config, experiment.problem.name) != OWN:  # to prepare it is no cost of the loop
                    source.encoder(config.encoder, cache=results.work, device=device)
                    experiment.encoder_of_losses()
                row = _timed(experiment, strategy)
            results.add(row)
            log(f"{strategy.name}  seed {seed}  {row['labels']} labels  {_whole(row):.1f} s")


def _timed(experiment: Experiment, strategy: Strategy) -> CostRow:
    seconds = dict.fromkeys(PARTS, 0.0)

    @contextmanager
    def watch(part: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        seconds[part] += time.perf_counter() - started

    with watch("losses"):
        loop = loop_of(experiment, strategy)
    if loop.learner != OWN:
        with watch("features"):
            experiment.pool(loop.learner)
    rounds = 0
    while rounds < experiment.config.rounds and loop.left:
        with watch("queries"):
            loop.ask(rounds)
        with watch("trainings"):
            loop.train(rounds)
        rounds += 1
    row = CostRow(strategy=strategy.name, seed=experiment.seed, rounds=rounds, labels=len(loop.asked), features=0.0,
                  losses=0.0, queries=0.0, trainings=0.0, device=str(pick_device(experiment.device)))  # fmt: skip
    row.update({part: round(value, 2) for part, value in seconds.items()})  # type: ignore[typeddict-item]
    return row


def _whole(row: CostRow) -> float:
    return row["features"] + row["losses"] + row["queries"] + row["trainings"]


def table(rows: Sequence[CostRow]) -> str:
    """Return a text table of the means over the seeds, in seconds, and each whole loop against that of random."""
    control = [_whole(row) for row in rows if row["strategy"] == CONTROL]
    lines = [f"{'strategy':<48} rounds labels {' '.join(f'{part:>10}' for part in PARTS)}      whole  times random"]
    for name in dict.fromkeys(row["strategy"] for row in rows):
        own = [row for row in rows if row["strategy"] == name]
        parts = " ".join(f"{fmean(row[part] for row in own):10.1f}" for part in PARTS)  # type: ignore[literal-required]
        whole = fmean(map(_whole, own))
        times = f"{whole / fmean(control):13.2f}" if control else f"{'-':>13}"
        lines.append(f"{name:<48} {own[0]['rounds']:6d} {own[0]['labels']:6d} {parts} {whole:10.1f} {times}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    parser = loop_parser("python -m model.cost", "Time whole loops of active-learning strategies, part by part.")
    given, seeds = parse(parser, arguments)
    config = config_of(given)
    try:
        strategies = [parse_strategy(name) for name in given.strategies.split(",")]
        with Results[CostRow](given.json, config) as results:
            measure(
                config, strategies, seeds, results, device=given.device, log=lambda line: print(line, file=sys.stderr)
            )
    except ModelError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(table(results.rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
