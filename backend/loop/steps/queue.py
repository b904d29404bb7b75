"""The queue in Label Studio: predictions first, then the version, then the superseded ones away."""

import logging
import time
from math import isclose
from typing import Any

from backend.errors import StudioError
from backend.labeling.choices import prediction_result
from backend.loop.context import Work
from backend.loop.decide import low_water
from backend.loop.facts import UNCERTAINTY
from backend.store import AskRole, AskRow, AskState, RoundRow
from backend.studio.types import Prediction

logger = logging.getLogger(__name__)

CLEAN_PREDICTIONS = 100  # deleted in one go
PUT_BACK = "Sampling or model version was changed by hand in this round; it was put back."


def post(work: Work) -> None:
    """Make Label Studio's predictions of the current round those of its asks: none missing, none twice, no others.

    What is there is looked up first: a step before this one may have ended between sending and noting, predictions may
    have been deleted by hand, and a round that was planned anew may have left its own under the same version.
    """
    current = _current(work)
    sent = work.project_store.rounds.asks(current.number, states=[AskState.POSTING, AskState.POSTED])
    scores = {ask.task_id: ask.score for ask in sent}
    there, wrong = set(), []
    for one in work.studio.predictions.stored(current.model_version):
        if one.task in there or one.score is None or not isclose(one.score, scores.get(one.task, -1.0)):
            wrong.append(one.id)
        else:
            there.add(one.task)
    unsure = [ask.task_id for ask in sent if ask.state == AskState.POSTING]
    arrived = [task_id for task_id in unsure if task_id in there]
    missing = [task_id for task_id in unsure if task_id not in there]
    work.project_store.rounds.mark(current.number, arrived, AskState.POSTED)
    work.project_store.rounds.mark(current.number, missing, AskState.PLANNED)
    planned = work.project_store.rounds.asks(current.number, states=[AskState.PLANNED])
    _send(work, current, [ask for ask in planned if ask.role != AskRole.RESERVE])
    work.studio.predictions.delete(wrong)


def check_posted(work: Work) -> None:
    """Have the queue posted again if Label Studio has fewer of its predictions than were sent."""
    current = work.project_store.rounds.current()
    if current is None or current.live_at is None:
        return
    posted = work.project_store.rounds.asks(current.number, states=[AskState.POSTED])
    if work.studio.predictions.versions().get(current.model_version, 0) < len(posted):
        work.project_store.rounds.mark_unconfirmed(current.number)


def drop(work: Work) -> None:
    """Forget a planned round of which every task was deleted; the next one is planned anew."""
    work.project_store.rounds.drop(_current(work).number)


def top_up(work: Work) -> None:
    """Post the next of the reserve behind the queue."""
    current = _current(work)
    recent = work.project_store.tasks.counts(time.time()).recent
    most = 2 * low_water(current.asked, recent)
    _send(work, current, work.project_store.rounds.next_reserve(current.number, most))


def switch(work: Work) -> None:
    """Have Label Studio serve the current round by uncertainty, and note that it does."""
    current = _current(work)
    try:
        work.studio.update(sampling=UNCERTAINTY, model_version=current.model_version)
    except StudioError:
        # A version is refused when no prediction has it: somebody may have deleted them.
        work.project_store.rounds.mark_unconfirmed(current.number)
        raise
    if current.live_at is None:
        _note_live(work, current)
    else:
        logger.warning("%s", PUT_BACK)
        work.store.projects.set(work.key, put_back=PUT_BACK)


def _note_live(work: Work, current: RoundRow) -> None:
    work.project_store.rounds.go_live(current.number)
    work.store.projects.set(work.key, put_back=None)
    before = work.project_store.rounds.get(current.number - 1)
    if before is not None and before.closed_at is not None:
        work.project_store.rounds.add_seconds(before.number, ask=time.time() - before.closed_at)
    logger.info("live: %d images asked", current.asked)


def clean(work: Work) -> None:
    """Delete some of the predictions of superseded rounds: Label Studio needs 10 ms for each, and others wait."""
    for old in work.project_store.rounds.to_clean():
        if not work.studio.predictions.delete_version(old.model_version, most=CLEAN_PREDICTIONS):
            return
        work.project_store.rounds.set(old.number, cleaned=True)


def _send(work: Work, current: RoundRow, asks: list[AskRow]) -> None:
    if not asks:
        return
    ids = [ask.task_id for ask in asks]
    work.project_store.rounds.mark(current.number, ids, AskState.POSTING)
    work.studio.predictions.write(
        [
            Prediction(
                task=ask.task_id,
                score=ask.score,
                model_version=current.model_version,
                result=_guess(work, ask),
            )
            for ask in asks
        ],
    )
    work.project_store.rounds.mark(current.number, ids, AskState.POSTED)


def _guess(work: Work, ask: AskRow) -> list[dict[str, Any]]:
    """Give the pre-annotation; none where it is switched off or the class has left the configuration.

    Nor for the holdout: people lean towards what they are shown, and the model would be measured by its own guesses.
    """
    if not work.config.preannotate or ask.role == AskRole.HOLDOUT or ask.prediction not in work.spec.classes:
        return []
    return prediction_result(ask.prediction, work.spec)


def _current(work: Work) -> RoundRow:
    current = work.project_store.rounds.current()
    if current is None:
        raise LookupError(f"project {work.key} has no round")
    return current
