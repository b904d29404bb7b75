"""The active-learning loop with an oracle in place of the annotators: ``python -m model.simulate --help``.

Finished rounds are in the JSON file; the work folder beside it has what a stopped run continues from.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from model.encoders.registry import AUTO as ENCODER_AUTO
from model.encoders.registry import NONE as NO_ENCODER
from model.errors import BadInput, ModelError, UnknownName
from model.lab.arguments import check, parse, positive, share, study_parser
from model.lab.experiment import IMBALANCES, Experiment, ExperimentConfig, check_pretext, pretext_of
from model.lab.learning_curves import CONTROL, RoundRow, summarize, table
from model.lab.oracle_loop import OracleLoop
from model.lab.results import Log, Results
from model.lab.sources import Source, load_source
from model.learners.registry import AUTO, LEARNER_NAMES, OF_ENCODER, OWN
from model.networks.registry import INITS
from model.problems import problem
from model.querying.plan import QuerySettings
from model.querying.samplers import sampler
from model.training.registry import JOINTS

BASE_OUTPUTS = problem(QuerySettings.problem).base_outputs
FORM = "pretext/batch_order/first_query/sampler"


@dataclass(frozen=True)
class Strategy:
    """A strategy, written ``pretext/batch_order/first_query/sampler``; an empty part means its default.

    The pretext task may be ``task@recipe``, the sampler ``sampler@object``: its gain is per object. A fifth part is the
    joint training of the main model, a sixth the start of its weights, a seventh the learner (None: those of the
    configuration). A learner of ``auto`` is a network of our own where the strategy or the configuration has something
    that only that can follow, as in the product.
    """

    name: str
    pretext: str = "rotation"
    order: str = QuerySettings.order
    first_query: str = "auto"
    sampler: str = "auto"
    joint: str = "none"
    init: str | None = None
    learner: str | None = None

    def query_settings(self, config: ExperimentConfig, classes: int, of: str = QuerySettings.problem) -> QuerySettings:
        """Return the query settings of this strategy for a problem; raise UnknownName for a part in no registry."""
        pretext_of(self.pretext)
        if self.joint not in JOINTS:
            raise UnknownName("joint training", self.joint, JOINTS)
        if self.init is not None and self.init not in INITS:
            raise UnknownName("init", self.init, INITS)
        learner = self.learner_of(config, of)
        best = "typical" if learner == OWN else "max_herding"
        return QuerySettings(
            batches=config.batches or config.rounds,
            k=config.k,
            holdout=round(config.holdout * config.k),
            first_query=best if self.first_query == "auto" else self.first_query,
            sampler=self.sampler_of(of),
            gain_per=self.sampler.partition("@")[2] or QuerySettings.gain_per,
            order=self.order,
            classes=classes,
            problem=of,
        )

    def sampler_of(self, of: str = QuerySettings.problem) -> str:
        """Return the sampler: as named, else the default of the problem."""
        name = self.sampler.partition("@")[0]
        return (problem(of).sampler or QuerySettings.sampler) if name == "auto" else name

    def learner_of(self, config: ExperimentConfig, of: str = QuerySettings.problem) -> str:
        """Return the learner: OWN, or another one that reads features; raise BadInput for what does not go together.

        of: the problem. Where OWN does not fit it, nothing calls for OWN.
        """
        learner = self.learner or config.learner
        if learner not in LEARNER_NAMES:
            raise UnknownName("learner", learner, LEARNER_NAMES)
        if OWN not in problem(of).learners:
            return learner
        needs = sampler(self.sampler_of(of)).needs
        calls = {
            f"encoder '{NO_ENCODER}'": config.encoder == NO_ENCODER,
            f"network '{config.network}'": config.network != ExperimentConfig.network,
            f"init '{self.init or config.init}'": (self.init or config.init) != ExperimentConfig.init,
            f"recipe '{config.recipe}'": config.recipe != ExperimentConfig.recipe,
            f"{config.epochs} epochs": config.epochs is not None,
            f"joint training '{self.joint}'": self.joint != Strategy.joint,
            f"sampler '{self.sampler}'": not needs <= {*OF_ENCODER, *BASE_OUTPUTS},
        }
        for_own = [what for what, given in calls.items() if given]
        if learner not in (AUTO, OWN) and for_own:
            raise BadInput(f"strategy '{self.name}': learner '{learner}' does not go with {for_own[0]}")
        return OWN if for_own else learner


def parse_strategy(name: str) -> Strategy:
    """Return the strategy of that name: its parts, ``default``, or ``random`` (from the whole pool in every round)."""
    if name == "default":
        return Strategy(name)
    if name == CONTROL:
        return Strategy(name, order="none", first_query="random", sampler="random")
    parts = name.split("/")
    if not 4 <= len(parts) <= 7:
        raise BadInput(f"strategy '{name}': write {FORM}, with /joint, /joint/init or /joint/init/learner behind it if "
                       "you like, default or random")  # fmt: skip
    given = zip(("pretext", "order", "first_query", "sampler", "joint", "init", "learner"), parts, strict=False)
    return Strategy(name, **{field: part for field, part in given if part})


def simulate(
    config: ExperimentConfig,
    strategies: Sequence[Strategy],
    seeds: Sequence[int],
    results: Results[RoundRow],
    *,
    device: str,
    log: Log,
    stop_after: int | None = None,
) -> None:
    """Run every strategy with every seed, and add to ``results`` the rows that it does not have yet.

    Names and images are checked before the first training. stop_after: number of rounds to run of those of the
    configuration; another call without it continues from there.
    """
    rounds = min(config.rounds, stop_after or config.rounds)
    source = checked_source(config, strategies, device, log)
    if any(strategy.learner_of(config, source.images.problem) != OWN for strategy in strategies):
        source.encoder(config.encoder, cache=results.work, device=device)
    missing = [
        seed for seed in seeds if any(_done(results.rows, strategy.name, seed) < rounds for strategy in strategies)
    ]
    if missing:
        check_pretext(source, config, missing[0], {strategy.pretext for strategy in strategies})
        results.begin()
    for seed in missing:
        experiment = Experiment(results.work / f"seed-{seed}", source, config, seed, device)
        log(f"seed {seed}  {experiment}")
        for strategy in strategies:
            _run(experiment, strategy, rounds, results, log)


def checked_source(config: ExperimentConfig, strategies: Sequence[Strategy], device: str, log: Log) -> Source:
    """Load the images; raise BadInput or UnknownName for strategies that cannot be run on them as configured."""
    check(config, {strategy.init or config.init for strategy in strategies}, device)
    source = load_source(config.data, config.mix, log, config.side)
    if source.images.problem != QuerySettings.problem and (config.holdout or config.imbalance != "none"):
        raise BadInput(f"'{config.data}' has not one class an image: leave out --holdout and --imbalance")
    for strategy in strategies:
        strategy.query_settings(config, len(source.images.classes), source.images.problem)
    return source


def loop_of(experiment: Experiment, strategy: Strategy) -> OracleLoop:
    """Return the loop of a strategy on a pool, which has the pretext losses that it goes by."""
    config, of = experiment.config, experiment.problem.name
    settings = strategy.query_settings(config, experiment.classes, of)
    return OracleLoop(experiment, strategy.name, settings, strategy.pretext, strategy.joint, strategy.init,
                      strategy.learner_of(config, of))  # fmt: skip


def _run(experiment: Experiment, strategy: Strategy, rounds: int, results: Results[RoundRow], log: Log) -> None:
    """Continue one strategy and seed after its last measured round, up to ``rounds`` or until the pool is exhausted."""
    seed = experiment.seed
    done = _done(results.rows, strategy.name, seed)
    if done >= rounds:
        return
    loop = loop_of(experiment, strategy)
    for number in range(loop.resume(done), rounds):
        if not loop.left:
            break
        row = loop.round(number)
        if number >= done:
            results.add(row)
        log(f"{strategy.name}  seed {seed}  round {number}  {row['labels']} labels  accuracy {_accuracy_text(row)}")
    if not loop.left:
        log(f"{strategy.name}  seed {seed}  the pool is exhausted: all its images are asked, {len(loop.asked)} labels")


def _accuracy_text(row: RoundRow) -> str:
    foreign = row.get("foreign")
    return f"{100 * row['accuracy']:.2f} %" + (f"  foreign {100 * foreign:.1f} %" if foreign is not None else "")


def _done(rows: Sequence[RoundRow], strategy: str, seed: int) -> int:
    """Return how many rounds of a strategy and seed are measured without a gap from the first one on."""
    rounds = {row["round"] for row in rows if row["strategy"] == strategy and row["seed"] == seed}
    return next(number for number in range(len(rounds) + 1) if number not in rounds)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    given, seeds = parse(_parser(), arguments)
    config = config_of(given)
    try:
        strategies = [parse_strategy(name) for name in given.strategies.split(",")]
        with Results[RoundRow](given.json, config) as results:
            simulate(
                config,
                strategies,
                seeds,
                results,
                device=given.device,
                log=lambda line: print(line, file=sys.stderr),
                stop_after=given.stop_after,
            )
    except ModelError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(table(summarize(results.rows)))
    return 0


def config_of(given: argparse.Namespace) -> ExperimentConfig:
    """Return the configuration of what ``loop_parser`` has read."""
    return ExperimentConfig(**{name: getattr(given, name) for name in ExperimentConfig.__dataclass_fields__})


def _parser() -> argparse.ArgumentParser:
    parser = loop_parser(
        "python -m model.simulate", "Run active-learning strategies with an oracle and compare them with random."
    )
    add = parser.add_argument
    add("--stop-after", type=positive, help="rounds to run of these; a later call without it continues (default: all)")
    return parser


def loop_parser(prog: str, description: str) -> argparse.ArgumentParser:
    """Return a parser with the arguments of every study that runs the loop."""
    parser = study_parser(prog, description)
    add = parser.add_argument
    add("--pool", type=positive, help="images in the pool, drawn anew for each seed (default: all)")
    add("--rounds", type=positive, required=True)
    add("--batches", type=positive, help="batches of the pool (default: as many as rounds; a project has 10)")
    add("--k", type=positive, required=True, help="images asked per round")
    add(
        "--strategies",
        required=True,
        help="comma list of pretext/batch_order/first_query/sampler[/joint[/init[/learner]]], default, random",
    )
    add("--holdout", type=share, default=0.0, help="images on top at random to measure with, as a share of k")
    add(
        "--imbalance",
        nargs="?",
        const="ramp",
        default="none",
        choices=IMBALANCES,
        help="of the classes: ramp (PT4AL's, 1:10; also without a name) or long_tail (1:50)",
    )
    add("--mix", help="NAME or NAME:N: put (N of) another set's images into the pool, which nobody can label")
    add("--put-back", action="store_true", help="those that were asked go back to the pool, as in DALBT")
    add("--encoder", default=ENCODER_AUTO, help="auto, none, a name of model/encoders, or timm:<name>")
    add("--learner", default=AUTO, choices=LEARNER_NAMES, help="where a strategy names none")
    add("--init", default="pretext", help="pretext, scratch or pretrained, where a strategy names none")
    return parser


if __name__ == "__main__":
    sys.exit(main())
