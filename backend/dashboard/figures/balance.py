"""What the asked images turned out to be."""

from collections import defaultdict

from backend.dashboard.figures.base import Figure, figure, heat_map, names, plain
from backend.dashboard.project_page import ProjectView
from backend.store import AskRole
from backend.store.dashboard_queries import AskedTarget
from model.problems.base import Target

MAX_CLASSES = 40  # rows; the rarest classes of more are summed up
RANDOM = "random"
OTHERS = "all others"


def draw(view: ProjectView) -> Figure | str:
    """Draw the share of each class in each round's answers, the random images of the holdout first."""
    counts = class_table(view.asked)
    if not counts:
        return "Classes appear with the first answers."
    columns = list(counts)
    classes = _classes(counts, view.model.classes if view.model else None)
    cells = [[_cell(counts[column], name, classes) for column in columns] for name in classes]
    images = _images(view.asked)
    totals = [images[column] for column in columns]
    shares = [[100 * value / total for value, total in zip(row, totals, strict=True)] for row in cells]
    trace = heat_map(
        [column if column == RANDOM else f"round {int(column) + 1}" for column in columns],
        names(classes),
        [[round(share, 2) for share in row] for row in shares],
        cells,
        customdata=[
            [[value, total, plain(name)] for value, total in zip(row, totals, strict=True)]
            for row, name in zip(cells, classes, strict=True)
        ],
        hovertemplate="%{customdata[2]}, %{x}<br>%{customdata[0]} of %{customdata[1]} (%{z:.1f}%)<extra></extra>",
    )
    return figure(
        [trace],
        xaxis={"type": "category", "automargin": True, "side": "top"},
        yaxis={"type": "category", "automargin": True, "autorange": "reversed"},
    )


def class_table(rows: list[AskedTarget]) -> dict[str, dict[str, int]]:
    """Sum up images by round (its number as text, or "random" for all of the holdout, which comes first) and class."""
    counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for row in rows:
        for name in target_classes(row.target):
            counts[_column(row)][name] += row.images
    return dict(sorted(counts.items(), key=lambda item: -1 if item[0] == RANDOM else int(item[0])))


def target_classes(target: Target) -> tuple[str, ...]:
    """Return the classes that a target names: one, several or none."""
    return (target,) if isinstance(target, str) else tuple(target)


def _column(row: AskedTarget) -> str:
    return RANDOM if row.role == AskRole.HOLDOUT else str(row.round)


def _images(rows: list[AskedTarget]) -> dict[str, int]:
    """Count the answered images by column; an image may have several classes, or none."""
    images: dict[str, int] = defaultdict(int)
    for row in rows:
        images[_column(row)] += row.images
    return images


def _classes(counts: dict[str, dict[str, int]], known: list[str] | None) -> list[str]:
    """Give the classes in the order of the labeling interface, or by name; the most frequent of many."""
    sums: dict[str, int] = defaultdict(int)
    for column in counts.values():
        for name, images in column.items():
            sums[name] += images
    order = [*(known or []), *sorted(set(sums) - set(known or []))]
    if len(order) <= MAX_CLASSES:
        return order
    kept = set(sorted(sums, key=lambda name: -sums[name])[: MAX_CLASSES - 1])
    return [*(name for name in order if name in kept), OTHERS]


def _cell(column: dict[str, int], name: str, classes: list[str]) -> int:
    if name == OTHERS and classes[-1] == OTHERS and len(classes) == MAX_CLASSES:
        return sum(images for other, images in column.items() if other not in classes[:-1])
    return column.get(name, 0)
