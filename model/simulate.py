"""The active-learning loop with an oracle instead of annotators: ``python -m model.simulate --help``.

It asks by ``query.plan_round`` and trains by ``learner.fit``, the code that the backend runs. What is finished stands
in the JSON file, what a stopped run goes on from in the work folder beside it.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from model.batches import split
from model.curves import CONTROL, Row, summarize, table
from model.data import load_images
from model.errors import BadInput, ModelError, UnknownName
from model.metrics import cohen_kappa
from model.names import PRETEXT_TASKS
from model.outputs import BoolArray, IntArray
from model.query import Pool, QuerySettings, plan_round
from model.results import Results, Say
from model.world import QUERY_STREAM, Setting, World, save_array

if TYPE_CHECKING:
    from model.learner import Learner


@dataclass(frozen=True)
class Strategy:
    """What is compared, written ``pretext/batch_order/first_query/sampler``; an empty part is the default here."""

    name: str
    pretext: str = "rotation"
    order: str = QuerySettings.order
    first_query: str = QuerySettings.first_query
    sampler: str = QuerySettings.sampler

    def settings(self, setting: Setting, classes: int) -> QuerySettings:
        """Return how this strategy asks; raise UnknownName for a part that is in no registry."""
        if self.pretext not in PRETEXT_TASKS:
            raise UnknownName("pretext task", self.pretext, PRETEXT_TASKS)
        return QuerySettings(
            batches=setting.rounds,
            k=setting.k,
            holdout=round(setting.holdout * setting.k),
            first_query=self.first_query,
            sampler=self.sampler,
            order=self.order,
            classes=classes,
        )


def parse_strategy(name: str) -> Strategy:
    """Return the strategy of that name: four parts, ``default``, or ``random`` (the whole pool in every round)."""
    if name == "default":
        return Strategy(name)
    if name == CONTROL:
        return Strategy(name, order="none", first_query="random", sampler="random")
    parts = name.split("/")
    if len(parts) != 4:
        raise BadInput(f"strategy '{name}': write pretext/batch_order/first_query/sampler, default or random")
    given = zip(("pretext", "order", "first_query", "sampler"), parts, strict=True)
    return Strategy(name, **{field: part for field, part in given if part})


def simulate(
    setting: Setting,
    strategies: Sequence[Strategy],
    seeds: Sequence[int],
    results: Results[Row],
    *,
    device: str,
    say: Say,
) -> None:
    """Run every strategy with every seed, adding to ``results`` what it does not have yet."""
    images = load_images(setting.data)
    for strategy in strategies:  # a wrong name is found before hours of work, not after them
        strategy.settings(setting, len(images.classes))
    for seed in seeds:
        if all(_done(results.rows, strategy.name, seed) >= setting.rounds for strategy in strategies):
            continue
        world = World(results.work / f"seed-{seed}", images, setting, seed, device)
        for strategy in strategies:
            _run(world, strategy, results, say)


def _run(world: World, strategy: Strategy, results: Results[Row], say: Say) -> None:
    """Go on with one strategy and seed after the last round that is measured."""
    setting, seed = world.setting, world.seed
    done = _done(results.rows, strategy.name, seed)
    if done >= setting.rounds:
        return
    loop = _Loop(world, strategy)
    for number in range(loop.resume(done), setting.rounds):
        labels, share, known = loop.round(number)
        if number >= done:
            found = Row(strategy=strategy.name, seed=seed, round=number, labels=labels, accuracy=share)
            results.add(found | known)
        say(f"{strategy.name}  seed {seed}  round {number}  {labels} labels  accuracy {100 * share:.2f} %")


def _done(rows: Sequence[Row], strategy: str, seed: int) -> int:
    """Return how many rounds of a strategy and seed, from the first on, are measured."""
    rounds = {row["round"] for row in rows if row["strategy"] == strategy and row["seed"] == seed}
    return next(number for number in range(len(rounds) + 1) if number not in rounds)


class _Loop:
    """One strategy on one seed: ask, label by the truth, train from these labels, measure, score."""

    def __init__(self, world: World, strategy: Strategy) -> None:
        self.world = world
        self.folder = world.folder / strategy.name.replace("/", "+")
        self.settings = strategy.settings(world.setting, world.classes)
        self.weights, self.losses = world.pretext(strategy.pretext)
        self.batch_of = split(self.losses, world.setting.rounds, strategy.order)
        self.labels = np.full(len(self.losses), -1, np.int64)
        self.holdout = np.empty(0, np.int64)
        self.model = self.folder / "model.pt"

    def resume(self, done: int) -> int:
        """Take up the labels of the rounds before ``done`` and return the next round; 0 where they are lost."""
        asked = [self.folder / f"asked-{number:03d}.npy" for number in range(done)]
        if not self.model.exists() or not all(path.exists() for path in asked):
            return 0
        for number in range(done):
            self._label(number)
        return done

    def round(self, number: int) -> tuple[int, float, Row]:
        """Ask, label and train; return the number of labels, the model's accuracy on the test set, and ``_known``."""
        if not (self.folder / f"asked-{number:03d}.npy").exists():
            self._ask(number)
        self._label(number)
        self._train(number)
        learner = self._learner()
        share = learner.evaluate(self.world.test_bank, np.arange(len(self.world.test_truth)), self.world.test_truth)
        return int((self.labels >= 0).sum()), share, self._known(number, learner)

    def _known(self, number: int, learner: "Learner") -> Row:
        """Return what a project would know of this model: from its holdout, and from the model before."""
        if not len(self.holdout):
            return cast(Row, {})
        probs = learner.predict(self.world.bank).probs
        guesses = np.empty(0, np.int64) if probs is None else probs.argmax(axis=1)
        save_array(self.folder / f"guesses-{number:03d}.npy", guesses)
        before = self.folder / f"guesses-{number - 1:03d}.npy"
        unlabeled = self.labels < 0
        unlabeled[self.holdout] = False
        return known_of(
            guesses, np.load(before) if before.exists() else None, self.world.truth, self.holdout, unlabeled
        )

    def _label(self, number: int) -> None:
        asked = np.load(self.folder / f"asked-{number:03d}.npy")
        self.labels[asked] = self.world.truth[asked]
        held = self.folder / f"holdout-{number:03d}.npy"
        if held.exists():
            self.holdout = np.concatenate([self.holdout, np.load(held)])

    def _ask(self, number: int) -> None:
        free = self.labels < 0
        free[self.holdout] = False
        pool = Pool(self.losses, self.batch_of, free, self.labels)
        generator = np.random.default_rng([self.world.seed, QUERY_STREAM, number])
        outputs = None
        if number > 0:
            needs = self.settings.needs(number)
            outputs = self._learner().predict(self.world.bank, embeddings="embeddings" in needs)
        plan = plan_round(number, pool, outputs, self.settings, generator)
        if self.settings.holdout:
            save_array(self.folder / f"holdout-{number:03d}.npy", plan.indices[plan.holdout])
        save_array(self.folder / f"asked-{number:03d}.npy", plan.indices[~plan.holdout])

    def _train(self, number: int) -> None:
        from model.learner import fit

        setting, labeled = self.world.setting, np.flatnonzero(self.labels >= 0)
        checkpoint = self.folder / f"checkpoint-{number:03d}.pt"
        fit(
            self.world.bank,
            labeled,
            self.labels[labeled],
            classes=self.world.classes,
            out=self.model,
            checkpoint=checkpoint,
            network=setting.network,
            init=setting.init,
            pretext_weights=self.weights,
            recipe=setting.recipe,
            epochs=setting.epochs,
            seed=self.world.seed,
            device=self.world.device,
        )
        checkpoint.unlink(missing_ok=True)

    def _learner(self) -> "Learner":
        from model.learner import Learner

        return Learner.load(self.model, device=self.world.device)


def known_of(
    guesses: IntArray, before: IntArray | None, truth: IntArray, holdout: IntArray, unlabeled: BoolArray
) -> Row:
    """Return what a holdout, and the model before, say about a model.

    guesses, before: (N,) class ids that this model and the last one give. truth: (N,). holdout: (h,) pool indices.
    unlabeled: (N,) images on which the two are compared.
    """
    right = guesses[holdout] == truth[holdout]
    known: dict[str, float] = {"holdout_size": len(holdout), "holdout_correct": int(right.sum())}
    if before is not None:
        was_right = before[holdout] == truth[holdout]
        known |= {"gained": int((right & ~was_right).sum()), "lost": int((was_right & ~right).sum())}
        agreement = cohen_kappa(before[unlabeled], guesses[unlabeled])
        known |= {} if agreement is None else {"agreement": agreement}
    return cast(Row, known)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    given = _parser().parse_args(arguments)
    if given.threads:
        import torch

        torch.set_num_threads(given.threads)
    setting = Setting(**{name: getattr(given, name) for name in Setting.__dataclass_fields__})
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    try:
        strategies = [parse_strategy(name) for name in given.strategies.split(",")]
        results = Results[Row](given.json, setting)
        simulate(
            setting, strategies, seeds, results, device=given.device, say=lambda line: print(line, file=sys.stderr)
        )
    except ModelError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(table(summarize(results.rows)))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m model.simulate",
        description="Run active-learning strategies with an oracle and compare them with random.",
        epilog="A run that was stopped goes on where it was when it is started again with the same arguments.",
    )
    add = parser.add_argument
    add("--data", required=True, help="digits, a set under PT4AL_DATA, or a folder with a subfolder per class")
    add("--pool", type=int, help="images in the pool, drawn anew for each seed (default: all)")
    add("--test", type=int, help="test images, the same for all seeds (default: all)")
    add("--rounds", type=int, required=True)
    add("--k", type=int, required=True, help="images asked per round")
    add("--seeds", type=int, required=True, help="number of seeds")
    add("--first-seed", type=int, default=0)
    add("--strategies", required=True, help="comma list of pretext/batch_order/first_query/sampler, default, random")
    add("--json", type=Path, required=True, help="file of the results, written after each round")
    add("--holdout", type=float, default=0.0, help="images on top at random to measure with, as a share of k")
    add("--imbalance", action="store_true", help="the paper's 1:10 ramp over the classes of the pool")
    add("--network", default="auto")
    add("--init", default="pretext", help="pretext, scratch or pretrained")
    add("--recipe", default="auto")
    add("--epochs", type=int, help="epochs of the main model (default: the recipe's)")
    add("--pretext-epochs", type=int, help="epochs of the pretext network (default: the recipe's)")
    add("--device", default="auto")
    add("--threads", type=int, help="CPU threads (default: all)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
