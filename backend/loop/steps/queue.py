"""The queue in Label Studio: predictions first, then the version, then the superseded ones away."""

import logging
import time

from backend.loop.context import Work
from backend.loop.decide import low_water
from backend.loop.facts import UNCERTAINTY
from backend.store import AskRow, AskState, RoundRow
from backend.studio.client import Prediction
from backend.studio.labels import prediction_result

logger = logging.getLogger(__name__)

CLEAN_PREDICTIONS = 100  # deleted in one go


def post(work: Work) -> None:
    """Write the predictions of the current round's queue, none twice."""
    current = _current(work)
    unsure = work.store.rounds.asks(work.key, current.number, states=[AskState.POSTING])
    if unsure:  # a step before this one ended between sending and noting
        arrived = set(work.studio.predicted_tasks(work.project.studio_id, current.model_version))
        there = [ask.task_id for ask in unsure if ask.task_id in arrived]
        missing = [ask.task_id for ask in unsure if ask.task_id not in arrived]
        work.store.rounds.mark(work.key, current.number, there, AskState.POSTED)
        work.store.rounds.mark(work.key, current.number, missing, AskState.PLANNED)
    planned = work.store.rounds.asks(work.key, current.number, states=[AskState.PLANNED])
    _send(work, current, [ask for ask in planned if ask.role != "reserve"])


def top_up(work: Work) -> None:
    """Post the next of the reserve behind the queue."""
    current = _current(work)
    _send(work, current, work.store.rounds.next_reserve(work.key, current.number, 2 * low_water(current.asked)))


def switch(work: Work) -> None:
    """Have Label Studio serve the current round by uncertainty, and note that it does."""
    current = _current(work)
    work.studio.update_project(work.project.studio_id, sampling=UNCERTAINTY, model_version=current.model_version)
    if current.live_at is None:
        work.store.rounds.go_live(work.key, current.number)
        before = work.store.rounds.get(work.key, current.number - 1)
        if before is not None and before.closed_at is not None:
            work.store.rounds.add_seconds(work.key, before.number, ask=time.time() - before.closed_at)
        logger.info("project %s round %d is live: %d images asked", work.key, current.number, current.asked)
    else:
        logger.warning("project %s: sampling or model version was changed by hand; put back", work.key)


def clean(work: Work) -> None:
    """Delete some of the predictions of superseded rounds: Label Studio needs 10 ms for each, and others wait."""
    for old in work.store.rounds.to_clean(work.key):
        if not work.studio.delete_predictions(work.project.studio_id, old.model_version, most=CLEAN_PREDICTIONS):
            return
        work.store.rounds.set(work.key, old.number, cleaned=True)


def _send(work: Work, current: RoundRow, asks: list[AskRow]) -> None:
    if not asks:
        return
    ids = [ask.task_id for ask in asks]
    work.store.rounds.mark(work.key, current.number, ids, AskState.POSTING)
    work.studio.import_predictions(
        work.project.studio_id,
        [
            Prediction(
                task=ask.task_id,
                score=ask.score,
                model_version=current.model_version,
                result=prediction_result(ask.label, work.spec) if ask.label and work.config.preannotate else [],
            )
            for ask in asks
        ],
    )
    work.store.rounds.mark(work.key, current.number, ids, AskState.POSTED)


def _current(work: Work) -> RoundRow:
    current = work.store.rounds.current(work.key)
    if current is None:
        raise LookupError(f"project {work.key} has no round")
    return current
