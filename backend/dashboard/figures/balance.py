"""What the asked images turned out to be."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from backend.dashboard.figures.base import Figure, figure, heat_map, names, plain
from backend.dashboard.project_page import ProjectPage
from backend.dashboard.text import NOTHING
from backend.store import AskRole
from backend.store.dashboard_queries import AskedTarget
from model.problems import Problem

MAX_CLASSES = 40  # rows; the rarest classes of more are summed up
RANDOM = "random"
OTHERS = "all others"


@dataclass
class Column:
    """What the answered images of one round, or all random ones, turned out to be.

    images: answered ones. classes: number of images with a class, which may be more together than ``images``; None
    stands for images without any class.
    """

    images: int = 0
    classes: dict[str | None, int] = field(default_factory=lambda: defaultdict(int))

    @property
    def rows(self) -> list[tuple[str, int]]:
        """Each class as text, and its images, by name."""
        named = sorted((name, images) for name, images in self.classes.items() if name is not None)
        return named + [(NOTHING, images) for name, images in self.classes.items() if name is None]


def draw(page: ProjectPage) -> Figure | str:
    """Draw the share of images with each class in each round's answers, the random images of the holdout first."""
    columns = asked_classes(page)
    if not columns:
        return "Classes appear with the first answers."
    rows = _rows(columns, page.model.classes if page.model else None)
    shares = [
        [round(100 * value / column.images, 2) for value, column in zip(row.cells, columns.values(), strict=True)]
        for row in rows
    ]
    trace = heat_map(
        [name if name == RANDOM else f"round {int(name) + 1}" for name in columns],
        names([row.name for row in rows]),
        shares,
        [row.cells for row in rows],
        customdata=[
            [[value, column.images, plain(row.name)] for value, column in zip(row.cells, columns.values(), strict=True)]
            for row in rows
        ],
        hovertemplate="%{customdata[2]}, %{x}<br>%{customdata[0]} of %{customdata[1]} (%{z:.1f}%)<extra></extra>",
    )
    return figure(
        [trace],
        xaxis={"type": "category", "automargin": True, "side": "top"},
        yaxis={"type": "category", "automargin": True, "autorange": "reversed"},
    )


def asked_classes(page: ProjectPage) -> dict[str, Column]:
    """Return the columns of a project, kept with the page's version, without the targets that they are made of."""
    return page.keep("asked classes", page.version, lambda: class_table(page.asked_targets(), page.problem))


def class_table(rows: Iterable[AskedTarget], problem: Problem) -> dict[str, Column]:
    """Return a column by round (its number as text, or "random" for all of the holdout, which comes first).

    Targets of another form, from before the labeling interface was changed, are left out.
    """
    columns: dict[str, Column] = {}
    for row in rows:
        classes = problem.classes_of(row.target)
        if not problem.fits(row.target, classes):
            continue
        column = columns.setdefault(RANDOM if row.role == AskRole.HOLDOUT else str(row.round), Column())
        column.images += row.images
        for name in classes or (None,):
            column.classes[name] += row.images
    return dict(sorted(columns.items(), key=lambda item: -1 if item[0] == RANDOM else int(item[0])))


@dataclass(frozen=True)
class _Row:
    name: str
    cells: list[int]  # images by column


def _rows(columns: Mapping[str, Column], known: Sequence[str] | None) -> list[_Row]:
    """Return a row a class, in the order of the labeling interface, or by name; the most frequent of many."""
    sums: dict[str | None, int] = defaultdict(int)
    for column in columns.values():
        for name, images in column.classes.items():
            sums[name] += images
    named = {name for name in sums if name is not None}
    order: list[str | None] = [*(known or []), *sorted(named - set(known or []))]
    order += [None] if None in sums else []
    kept = order
    if len(order) > MAX_CLASSES:
        frequent = set(sorted(sums, key=lambda name: -sums[name])[: MAX_CLASSES - 1])
        kept = [name for name in order if name in frequent]
    rows = [
        _Row(NOTHING if name is None else name, [column.classes.get(name, 0) for column in columns.values()])
        for name in kept
    ]
    if len(kept) < len(order):
        rest = [name for name in order if name not in set(kept)]
        rows.append(_Row(OTHERS, [sum(column.classes.get(name, 0) for name in rest) for column in columns.values()]))
    return rows
