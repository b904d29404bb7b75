"""The texts of the pages: what happens now, how long it takes, and how values are written."""

import json
from collections import Counter

from backend.status.status import NO_TASKS, Status
from backend.store import JobRow
from model.data.masks import is_mask
from model.problems.base import Target

STAGES = {
    "syncing": "Fetching images",
    "pretext": "Learning from unlabeled images",
    "recording": "Labeling can begin",
    "labeling": "Waiting for labels",
    "training": "Training a model",
    "finished": "All batches are asked",
    "failed": "Something needs you",
}
PUZZLES = {"rotation": "which way an image is turned", "jigsaw": "how the pieces of an image belong together"}
NOTHING = "nothing"  # where no class is named
BOX, TIMES = 5, "\N{MULTIPLICATION SIGN}"  # values of a box, of which the first is its class
NO_IMAGES = "Waiting for images"
MIN_SHARE, MIN_ELAPSED_S = 0.02, 3.0  # below these a forecast of the time left is a guess


def percent(share: float, digits: int = 0) -> str:
    """Return a share as percent."""
    return f"{100 * share:.{digits}f}%"


def percent_of(share: float) -> str:
    """Return a share in percent as a number that a form takes: 0.9 is "90", 0.975 is "97.5"."""
    return f"{100 * share:.10g}"


def count(number: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def of_target(target: Target) -> str:
    """Return a target or a prediction as text: a class, classes in a row or ``nothing``, anything else as JSON.

    Of masks, the classes are told, of boxes the number of each class.
    """
    if isinstance(target, str):
        return target
    if is_mask(target):
        target = target["classes"]
    if isinstance(target, list | tuple) and all(isinstance(name, str) for name in target):
        return ", ".join(target) or NOTHING
    if isinstance(target, list | tuple) and all(isinstance(box, list | tuple) and len(box) >= BOX for box in target):
        counts = Counter(str(box[0]) for box in target)
        return ", ".join(f"{number} {TIMES} {name}" for name, number in counts.items())
    return json.dumps(target, ensure_ascii=False)


def sentence(text: str) -> str:
    """Return a text that begins with a capital letter."""
    return text[:1].upper() + text[1:]


def stage_title(status: Status) -> str:
    """Return the name of the stage."""
    if status.stage == "finished" and status.done:
        return "Every image is labeled" if status.tasks.labeled >= status.tasks.ok else "Every image is answered"
    return NO_IMAGES if status.error == NO_TASKS else STAGES[status.stage]


def what_is_wrong(status: Status) -> str | None:
    """Return the error, unless it only says what the project waits for."""
    return None if status.error == NO_TASKS else status.error


def what_happens(status: Status) -> str:
    """Return in a sentence or two what is going on."""
    tasks = status.tasks
    live = status.live
    stage = status.stage
    if status.error == NO_TASKS:
        return NO_TASKS
    if stage == "syncing":
        return f"{tasks.ok:,} of {count(tasks.tasks, 'image')} {'is' if tasks.ok == 1 else 'are'} here."
    if stage == "pretext":
        puzzle = PUZZLES.get(status.config.pretext, f"the {status.config.pretext} task")
        return (
            f"A first network learns without labels, from a puzzle: {puzzle}. How hard it finds each image decides "
            "which are asked first; the first queue follows."
        )
    if stage == "recording":
        left = count(tasks.unrecorded, "task")
        return f"The first queue is served. Beside it, the losses of {left} are still written to Label Studio."
    if stage == "training":
        return "The next model learns from all labels. Annotators go on meanwhile with the next-best images."
    if stage == "finished" and status.done:
        return "Nothing is left to ask. Use the model, below; images that you import from now on are asked as well."
    if stage == "finished":
        left = count(tasks.available, "image")
        return (
            f"The {left} without a label follow, chosen in the same way, for as long as you go on. "
            "Or have the model label them, below."
        )
    if stage == "failed":
        return "Work stands still. It is tried again by itself now and then, and at once when you press the button."
    asked = live.asked if live else 0
    return f"{status.answered:,} of {asked:,} answers of this round are there; then the model is trained again."


def time_left(job: JobRow | None, now: float) -> str | None:
    """Return how long a job still takes, from its pace since its first report; None while nobody can know.

    The time before that does not count: the job may have waited for a worker, or gone on from a checkpoint.
    """
    if job is None or job.paced_at is None or job.paced_from is None:
        return None
    seconds, share = job.heartbeat_at - job.paced_at, job.progress - job.paced_from
    if share < MIN_SHARE or seconds < MIN_ELAPSED_S:
        return None
    seconds = max(seconds * (1 - job.progress) / share - (now - job.heartbeat_at), 0.0)
    if seconds < 60:
        return "less than a minute left"
    if seconds < 5400:
        return f"about {count(round(seconds / 60), 'minute')} left"
    return f"about {seconds / 3600:.1f} hours left"
