import io

from rich.console import Console

from model.lab.progress_bars import LOG_EVERY_S, ProgressBars


def test_a_log_file_gets_a_line_twice_a_minute_at_most_over_all_steps():
    stream, now = io.StringIO(), [0.0]
    with ProgressBars(Console(file=stream), clock=lambda: now[0]) as bars:
        train = bars.step("train")
        for second in range(1, 62):
            now[0] = float(second)
            train(second / 100)
        score = bars.step("score")
        score(0.1)  # a second after the line before
        now[0] = 2 * LOG_EVERY_S + LOG_EVERY_S
        score(0.5)
    assert stream.getvalue().splitlines() == ["train 30%", "train 60%", "score 50%"]


def test_a_terminal_gets_a_bar_for_each_step():
    stream = io.StringIO()
    with ProgressBars(Console(file=stream, force_terminal=True, width=80)) as bars:
        bars.step("train")(1.0)
        bars.step("score")(0.5)
    shown = stream.getvalue()
    assert "train" in shown
    assert "100%" in shown
    assert "score" in shown
    assert " 50%" in shown
