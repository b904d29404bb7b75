"""The table of the README, kept between two marks."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import Measure, cells, machine

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"


def update(measures: Sequence[Measure], path: Path = README) -> None:
    """Put the table where the marks are; a README without them stays as it is."""
    text = path.read_text()
    if BEGIN not in text or END not in text:
        return
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    path.write_text(f"{before}{BEGIN}\n{markdown(measures)}\n{END}{after}")


def markdown(measures: Sequence[Measure]) -> str:
    """Return the table in Markdown, and what it was measured on."""
    about = machine()
    rows = ["| what | reference | ours | ratio | budget |", "| --- | ---: | ---: | ---: | ---: |"]
    for what, reference, ours, ratio, budget, met, _ in cells(measures):
        missed = ", missed" if met == "NO" else ""
        rows.append(f"| {what} | {reference} | {ours} | {ratio} | {budget}{missed} |")
    return "\n".join([*rows, "", f"Measured by `make bench` on {about['cores']} cores ({about['processor']}), no GPU."])
