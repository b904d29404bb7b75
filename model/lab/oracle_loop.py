"""One strategy on one pool, round after round, with an oracle in place of the annotators."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import cast

import numpy as np

from model.data.atomic_files import save_array, write_atomically
from model.evaluation.metrics import cohen_kappa
from model.lab.experiment import QUERY_STREAM, Experiment, pretext_of
from model.lab.learning_curves import RoundRow
from model.learners.base import Model, PoolImages, evaluate
from model.learners.registry import AUTO, LINEAR, OWN
from model.learners.scaling import query_features
from model.learners.trials import choice_of
from model.pretext.registry import pretext_info
from model.querying.batches import split
from model.querying.first_queries import first_query
from model.querying.outputs import BoolArray, FloatArray, IntArray, Outputs
from model.querying.plan import Pool, QuerySettings, plan_round
from model.querying.selection import mask_of


class OracleLoop:
    """Ask, label by the true targets, train on these labels, measure, score.

    It asks with ``plan_round`` and trains with ``fit``, as the backend does. What was asked is saved in the folder of
    the strategy, so that a stopped run continues.
    """

    def __init__(
        self,
        experiment: Experiment,
        name: str,
        settings: QuerySettings,
        pretext: str,
        joint: str,
        init: str | None = None,
        learner: str = OWN,
    ) -> None:
        """learner: OWN, or another one that reads the features of the experiment's encoder."""
        self.experiment, self.name, self.settings, self.task, self.joint = experiment, name, settings, pretext, joint
        self.init, self.learner = init or experiment.config.init, learner
        self.folder = experiment.folder / name.replace("/", "+")
        self.batch_of: IntArray | None = None
        self.weights: Path | None = None
        self.losses = np.full(len(experiment.truth), np.nan, np.float32)
        # Strategies that read neither features nor chance go by the losses.
        named = ((0, settings.first_query), (1, settings.sampler))
        by_losses = any(not settings.needs(number) and name != "random" for number, name in named)
        if settings.order != "none" or learner == OWN or by_losses:
            if learner != OWN and pretext_info(pretext_of(pretext)[0]).on_encoder:
                self.losses = experiment.losses_on_encoder(pretext_of(pretext)[0])
            else:
                self.weights, self.losses = experiment.pretext(pretext)
            self.batch_of = split(self.losses, settings.batches, settings.order)
        self.asked = np.empty(0, np.int64)
        self.holdout = np.empty(0, np.int64)
        self.model, self.refined = self.folder / "model.pt", self.folder / "refined.pt"

    @property
    def pool(self) -> PoolImages:
        """The images of the pool, with what the learner reads of the encoder."""
        return self.experiment.pool(self.learner)

    @property
    def test(self) -> PoolImages:
        """The images of the test set, likewise."""
        return self.experiment.test(self.learner)

    @property
    def labeled(self) -> IntArray:
        """The pool indices of the images asked that have a class; images of another set have none."""
        return np.sort(self.asked[self.experiment.truth[self.asked] >= 0])

    @property
    def gone(self) -> IntArray:
        """The pool indices of the images asked that are not asked again; those of another set may go back."""
        return self.labeled if self.experiment.config.put_back else self.asked

    @property
    def left(self) -> int:
        """The number of images that may be asked yet."""
        return len(self.losses) - len(self.gone) - len(self.holdout)

    def resume(self, done: int) -> int:
        """Load what the rounds before ``done`` asked and return the next round; 0 if files of them are missing."""
        if not all(self._asked_in(number).exists() for number in range(done)):
            return 0
        for number in range(done):
            self._load_round(number)
        if len(self.labeled) and not self.model.exists():
            self.asked, self.holdout = self.asked[:0], self.holdout[:0]
            return 0
        return done

    def round(self, number: int) -> RoundRow:
        """Ask, train on all answers, and measure on the test set, by the problem's metric."""
        asked = self.ask(number)
        measured = self._measure(self.train(number))
        row = RoundRow(
            strategy=self.name,
            seed=self.experiment.seed,
            round=number,
            labels=len(self.asked),
            accuracy=measured,
            asked=self.experiment.histogram(asked),
        )
        row |= cast(RoundRow, {self.experiment.problem.scored: measured})
        if self.experiment.problem.counts_objects:
            drawn = [self.experiment.targets[index] for index in self.labeled]
            row["objects"] = sum(self.experiment.problem.objects(target) for target in drawn)
        if self.experiment.config.mix:
            row["foreign"] = float((self.experiment.truth[asked] < 0).mean()) if len(asked) else 0.0
        return row | self._holdout_figures(number)

    def _asked_in(self, number: int) -> Path:
        return self.folder / f"asked-{number:03d}.npy"

    def _load_round(self, number: int) -> IntArray:
        """Add what a round asked and held out, and return the indices that it asked."""
        asked: IntArray = np.load(self._asked_in(number))
        self.asked = np.concatenate([self.asked, asked])
        holdout = self.folder / f"holdout-{number:03d}.npy"
        if holdout.exists():
            self.holdout = np.concatenate([self.holdout, np.load(holdout)])
        return asked

    def ask(self, number: int) -> IntArray:
        """Choose what a round asks, unless that is done, and return its pool indices; they count as asked from now."""
        if not self._asked_in(number).exists():
            self._ask(number)
        return self._load_round(number)

    def _ask(self, number: int) -> None:
        size, labeled = len(self.losses), self.labeled
        labels = None
        if "labels" in self.experiment.problem.outputs:
            labels = np.full(size, -1, np.int64)
            labels[labeled] = self.experiment.truth[labeled]
        outputs, settings = None, self.settings
        if number > 0 and len(labeled):
            needs = settings.needs(number)
            outputs = Outputs()
            if needs:  # else no model is asked
                model = self._model()
                outputs = model.predict_pool(self.pool, needs=needs)
                settings = replace(settings, decoding=model.decoding)
        features = None
        if outputs is None and "pretext_embeddings" in self.settings.needs(0):
            features = self._first_features()
        free = ~mask_of(np.concatenate([self.gone, self.holdout]), size)
        generator = np.random.default_rng([self.experiment.seed, QUERY_STREAM, number])
        # With an encoder, the first round waits for losses only where it is asked by them.
        waits = self.learner == OWN or first_query(self.settings.first_query).by_losses
        batch_of = self.batch_of if number > 0 or waits else None
        pool = Pool(self.losses, batch_of, free, labels, features, mask_of(self.gone, size))
        plan = plan_round(number, pool, outputs, settings, generator)
        if self.settings.holdout:
            save_array(self.folder / f"holdout-{number:03d}.npy", plan.indices[plan.holdout])
        save_array(self._asked_in(number), plan.indices[~plan.holdout])

    def train(self, number: int) -> Path | None:
        """Fit the model of a round to all labels, and return where it is; None without labels."""
        from model.learners.fitting import fit, refine
        from model.learners.settings import FitSettings

        experiment, config, labeled = self.experiment, self.experiment.config, self.labeled
        if not len(labeled):
            return None
        settings = FitSettings(
            learner=self.learner,
            network=config.network,
            init=self.init,
            previous=self._last_model(number),
            recipe=config.recipe,
            joint=self.joint,
            needs=self.settings.needs(number + 1),
            calibrated=number + 1 < config.rounds and bool(self.settings.needs(number + 1)),
            epochs=config.epochs,
            seed=experiment.seed,
            device=experiment.device,
        )
        of, names = experiment.problem, experiment.class_names
        own = [experiment.targets[index] for index in labeled]
        checkpoint = self.folder / f"checkpoint-{number:03d}.pt"
        fit(
            self.pool, labeled, of.encode(own, names), of, names, settings,
            out=self.model, checkpoint=checkpoint, pretext_weights=self.weights,
        )  # fmt: skip
        best = self.model
        if self.learner == AUTO and self.pool.features is not None and {LINEAR, OWN} <= {*of.learners}:
            # The next round is asked by the linear head, as in a project, where annotators do not wait for this.
            known = choice_of(self._choice(number - 1))
            chosen = refine(
                self.pool, labeled, own, of, names, settings, known, out=self.refined, checkpoint=checkpoint
            )
            best = self.refined if chosen.learner != LINEAR else self.model
            write_atomically(self._choice(number), json.dumps(asdict(chosen)).encode())
        return best

    def _measure(self, trained: Path | None) -> float:
        """Return the quality on the test set; without a model the accuracy of a guess."""
        from model.learners.fitting import load_model

        experiment = self.experiment
        if trained is None:
            return 1 / experiment.classes
        model, targets = load_model(trained, device=experiment.device), experiment.test_targets
        return evaluate(model, self.test, np.arange(len(targets)), targets, experiment.class_names)

    def _last_model(self, number: int) -> Path | None:
        """Return a copy of the model of the round before, for a fit that goes on from it and may be repeated."""
        if self.init != "previous" or not self.model.exists():
            return None
        for path in self.folder.glob("last-model-*.pt"):
            if path != self._copy(number):
                path.unlink()
        if not self._copy(number).exists():
            write_atomically(self._copy(number), self.model.read_bytes())
        return self._copy(number)

    def _copy(self, number: int) -> Path:
        return self.folder / f"last-model-{number:03d}.pt"

    def _choice(self, number: int) -> Path:
        return self.folder / f"choice-{number:03d}.json"

    def _first_features(self) -> FloatArray:
        """Return what the first query reads: the encoder's features, or those of the pretext network."""
        bank = self.pool.features
        if bank is None:
            return self.experiment.pretext_embeddings(self.task)
        return query_features(bank, len(self.losses))

    def _holdout_figures(self, number: int) -> RoundRow:
        """Return what a project would measure of this model on its holdout, and against the model before."""
        holdout = self.holdout[self.experiment.truth[self.holdout] >= 0]
        if not len(holdout) or not len(self.labeled):
            return cast(RoundRow, {})
        probs = self._model().predict_pool(self.pool).probs
        guesses = np.empty(0, np.int64) if probs is None else probs.argmax(axis=1)
        save_array(self.folder / f"guesses-{number:03d}.npy", guesses)
        before = self.folder / f"guesses-{number - 1:03d}.npy"
        unlabeled = ~mask_of(np.concatenate([self.asked, self.holdout]), len(self.losses))
        return holdout_figures(
            guesses, np.load(before) if before.exists() else None, self.experiment.truth, holdout, unlabeled
        )

    def _model(self) -> Model:
        from model.learners.fitting import load_model

        return load_model(self.model, device=self.experiment.device)


def holdout_figures(
    predicted: IntArray, before: IntArray | None, truth: IntArray, holdout: IntArray, unlabeled: BoolArray
) -> RoundRow:
    """Return how many images of the holdout a model has right, and how it differs from the model before.

    predicted, before: (N,) class ids that this model and the one before predict. truth: (N,). holdout: (h,) pool
    indices. unlabeled: (N,) mask of the images on which the agreement of the two is computed.
    """
    right = predicted[holdout] == truth[holdout]
    figures: dict[str, float] = {"holdout_size": len(holdout), "holdout_correct": int(right.sum())}
    if before is not None:
        was_right = before[holdout] == truth[holdout]
        figures |= {"gained": int((right & ~was_right).sum()), "lost": int((was_right & ~right).sum())}
        agreement = cohen_kappa(before[unlabeled], predicted[unlabeled])
        figures |= {} if agreement is None else {"agreement": agreement}
    return cast(RoundRow, figures)
