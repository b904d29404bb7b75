"""The refine job: choose the learner by the labels, and put a better model in the place of the linear head.

The linear head has answered first: nobody waits for this job, and it makes way for trainings that somebody waits for.
"""

import logging
from collections.abc import Callable
from dataclasses import asdict

from backend.config import ProjectConfig
from backend.errors import Superseded
from backend.labeling.base import Labeling
from backend.loop.facts import CHOSEN, last_choice
from backend.loop.heartbeat import Progress
from backend.loop.steps.outputs import save_outputs
from backend.loop.steps.retrain import Training, labels_of, note_result
from backend.project_files import Files
from backend.store import ProjectStore
from model.learners.registry import LINEAR

logger = logging.getLogger(__name__)


def refine(
    store: ProjectStore,
    files: Files,
    config: ProjectConfig,
    labeling: Labeling,
    device: str,
    expired: Callable[[], bool],
    progress: Progress,
) -> None:
    """Compare the learners where that is due, and train the chosen one on all labels.

    expired: asked now and then; where it is True, the job ends and is started again after those that wait.
    """
    from model.learners.fitting import load_model
    from model.learners.fitting import refine as fit_chosen

    row = store.rounds.newest_model()
    if row is None or row.learner is None or CHOSEN in row.learner:
        return

    def beat(share: float) -> None:
        progress(share)
        if expired():
            raise Superseded("makes way for what annotators wait for")

    training = Training.open(store, files, config, labeling, device)
    labels, out = labels_of(training), files.refined(row.number)
    choice = fit_chosen(
        training.pool, labels.train, labels.learned, training.problem, labeling.classes, training.settings,
        last_choice(store.rounds.all()),
        out=out, checkpoint=files.checkpoint(f"round-{row.number:03d}-refined"), progress=beat,
    )  # fmt: skip
    learner = {**row.learner, CHOSEN: asdict(choice)}
    if choice.learner != LINEAR:
        model = load_model(out, device=device)
        outputs = model.predict_pool(training.pool)
        out.replace(files.model(row.number))
        save_outputs(files, row.number, outputs)
        note_result(training, row, labels, outputs, model.decoding)
        learner = {"learner": choice.learner, CHOSEN: asdict(choice)}
    store.rounds.set(row.number, learner=learner, exported=row.exported and choice.learner == LINEAR)
    logger.info("learner: %s, %s", choice.learner, dict(choice.quality))
