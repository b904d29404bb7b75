"""The table of the README, kept between two marks."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import Measure, cells, read

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"


def update(results: Path, parts: Sequence[str], page: Path = README) -> None:
    """Put the table of the results where the marks are; a README without them stays as it is."""
    text = page.read_text()
    if BEGIN not in text or END not in text:
        return
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    page.write_text(f"{before}{BEGIN}\n{markdown(read(results, parts))}\n{END}{after}")


def markdown(measured: Sequence[tuple[Measure, str]]) -> str:
    """Return the table in Markdown; the machine of each row is a column where there are several."""
    machines = {machine for _, machine in measured}
    several = len(machines) > 1
    rows = ["| what | reference | ours | ratio | budget |", "| --- | ---: | ---: | ---: | ---: |"]
    if several:
        rows = [f"{rows[0]} measured on |", f"{rows[1]} --- |"]
    for (_, machine), (what, reference, ours, ratio, budget, met, _) in zip(
        measured, cells([measure for measure, _ in measured]), strict=True
    ):
        missed = ", missed" if met == "NO" else ""
        about = f" {machine} |" if several else ""
        rows.append(f"| {what} | {reference} | {ours} | {ratio} | {budget}{missed} |{about}")
    on = "" if several else f" on {', '.join(machines)}"
    return "\n".join([*rows, "", f"Measured by `make bench`{on}, no GPU."])
