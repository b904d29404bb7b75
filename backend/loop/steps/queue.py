"""The queue in Label Studio: predictions first, then the version, then the superseded predictions away."""

import logging
import time
from math import isclose

from backend.errors import StudioError
from backend.items.sizes import items_of
from backend.labeling.base import Item, Labeling
from backend.loop.decide import low_water
from backend.loop.facts import UNCERTAINTY_SAMPLING
from backend.project_files import Files
from backend.store import AskRole, AskRow, AskState, ProjectStore, RoundRow
from backend.studio.project import StudioProject
from backend.studio.types import Json, Prediction

logger = logging.getLogger(__name__)

CLEAN_PREDICTIONS = 100  # deleted in one go
PUT_BACK = "Sampling or model version was changed by hand in this round; it was put back."


def post(store: ProjectStore, studio: StudioProject, files: Files, labeling: Labeling, *, preannotate: bool) -> None:
    """Make Label Studio's predictions of the current round those of its asks: none missing, none twice, no others.

    What Label Studio has is looked up first: a step before this one may have ended between sending and noting,
    predictions may have been deleted by hand, and a round that was planned anew may have left its own under the same
    version.
    """
    current = _current(store)
    sent = store.rounds.asks(current.number, states=[AskState.POSTING, AskState.POSTED])
    scores = {ask.task_id: ask.score for ask in sent}
    stored, wrong = set(), []
    for prediction in studio.predictions.stored(current.model_version):
        score = prediction.score
        if prediction.task in stored or score is None or not isclose(score, scores.get(prediction.task, -1.0)):
            wrong.append(prediction.id)
        else:
            stored.add(prediction.task)
    unconfirmed = [ask.task_id for ask in sent if ask.state == AskState.POSTING]
    store.rounds.mark(current.number, [task for task in unconfirmed if task in stored], AskState.POSTED)
    store.rounds.mark(current.number, [task for task in unconfirmed if task not in stored], AskState.PLANNED)
    planned = store.rounds.asks(current.number, states=[AskState.PLANNED])
    queue = [ask for ask in planned if ask.role != AskRole.RESERVE]
    _send(store, studio, files, current, queue, labeling if preannotate else None)
    studio.predictions.delete(wrong)


def check_posted(store: ProjectStore, studio: StudioProject) -> None:
    """Have the queue posted again if Label Studio has fewer of its predictions than were sent."""
    current = store.rounds.current()
    if current is None or current.live_at is None:
        return
    posted = store.rounds.asks(current.number, states=[AskState.POSTED])
    if studio.predictions.versions().get(current.model_version, 0) < len(posted):
        store.rounds.mark_unconfirmed(current.number)


def drop(store: ProjectStore) -> None:
    """Forget a round of which every task was deleted; it is planned anew."""
    current = _current(store)
    logger.info("round %d is dropped: none of its tasks is left", current.number)
    store.rounds.drop(current.number)


def forget(store: ProjectStore, files: Files) -> None:
    """Forget all rounds, of which every task was deleted, and what their models say of other images."""
    logger.info("all rounds are forgotten: none of their tasks is left")
    files.drop_outputs()
    store.rounds.forget()
    store.set(training_requested=False, put_back=None)


def top_up(store: ProjectStore, studio: StudioProject, files: Files, labeling: Labeling, *, preannotate: bool) -> None:
    """Post the next of the reserve behind the queue."""
    current = _current(store)
    recent = store.tasks.counts(time.time()).recent
    reserve = store.rounds.next_reserve(current.number, 2 * low_water(current.asked, recent))
    _send(store, studio, files, current, reserve, labeling if preannotate else None)


def switch(store: ProjectStore, studio: StudioProject) -> None:
    """Have Label Studio serve the current round by uncertainty, and note that it does."""
    current = _current(store)
    try:
        studio.update(sampling=UNCERTAINTY_SAMPLING, model_version=current.model_version)
    except StudioError:
        # A version is refused when no prediction has it: somebody may have deleted them.
        store.rounds.mark_unconfirmed(current.number)
        raise
    if current.live_at is None:
        _note_live(store, current)
    else:
        logger.warning("%s", PUT_BACK)
        store.set(put_back=PUT_BACK)


def _note_live(store: ProjectStore, current: RoundRow) -> None:
    store.rounds.go_live(current.number)
    store.set(put_back=None)
    before = store.rounds.get(current.number - 1)
    if before is not None and before.closed_at is not None:
        store.rounds.add_seconds(before.number, ask=time.time() - before.closed_at)
    logger.info("live: %d images asked", current.asked)


def clean(store: ProjectStore, studio: StudioProject) -> None:
    """Delete some of the predictions of superseded rounds: Label Studio needs 10 ms for each, and others wait."""
    for old in store.rounds.to_clean():
        if not studio.predictions.delete_version(old.model_version, most=CLEAN_PREDICTIONS):
            return
        store.rounds.set(old.number, cleaned=True)


def _send(
    store: ProjectStore,
    studio: StudioProject,
    files: Files,
    current: RoundRow,
    asks: list[AskRow],
    labeling: Labeling | None,
) -> None:
    """Write the predictions of these asks; ``labeling`` None: without pre-annotations."""
    if not asks:
        return
    ids = [ask.task_id for ask in asks]
    store.rounds.mark(current.number, ids, AskState.POSTING)
    items = items_of(store, files, labeling, ids) if labeling is not None else {}
    studio.predictions.write(
        [
            Prediction(
                ask.task_id,
                ask.score,
                current.model_version,
                _preannotation(ask, labeling, items.get(ask.task_id, Item())),
            )
            for ask in asks
        ]
    )
    store.rounds.mark(current.number, ids, AskState.POSTED)


def _preannotation(ask: AskRow, labeling: Labeling | None, item: Item) -> list[dict[str, Json]]:
    """Return the regions of a pre-annotation; none where the class has left the configuration.

    None for the holdout either: people lean towards what they are shown, and the model would be measured by its own
    predictions.
    """
    if labeling is None or ask.role == AskRole.HOLDOUT or ask.prediction is None:
        return []
    return labeling.result(ask.prediction, item)


def _current(store: ProjectStore) -> RoundRow:
    current = store.rounds.current()
    if current is None:
        raise LookupError(f"project {store.project_id} has no round")
    return current
