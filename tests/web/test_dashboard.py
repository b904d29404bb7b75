"""The pages on a real, filled store."""

import gzip
import io
import re
import time

import pytest
from PIL import Image
from support.web_pages import connect_project, serve

from backend.dashboard import assets
from backend.store import Answer, AskRole, Store
from backend.store.rounds import Ask
from backend.store.tasks import Failure, TaskChange

SAME = {"Sec-Fetch-Site": "same-origin"}


def page_of(browser) -> str:
    answer = browser.get("/projects/3")
    assert (answer.status_code, answer.mimetype) == (200, "text/html")
    return answer.text


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def test_the_root_shows_browsers_the_projects_and_others_health(browser, filled: Store) -> None:
    shown = browser.get("/")
    assert shown.mimetype == "text/html"
    assert "/projects/3" in shown.text
    for accept in ("*/*", "application/json", ""):
        answer = browser.get("/", headers={"Accept": accept})
        assert answer.json["status"] == "UP"
    assert browser.get("/health").json["status"] == "UP"


def test_the_list_without_projects_says_how_to_connect_one(browser) -> None:
    text = text_of(browser.get("/").text)
    assert "Connect Model" in text
    assert "http://localhost/" in text


def test_an_empty_project_has_a_page_that_says_what_is_missing(browser, pages) -> None:
    from_setup = {"project": "3.1700000000", "schema": "<View/>", "hostname": "http://studio", "access_token": "t"}
    browser.post("/setup", json=from_setup)
    text = text_of(page_of(browser))
    assert "no tasks yet" in text
    assert "Nothing is measured yet" in text


def test_the_page_says_how_good_and_how_far(browser, filled: Store) -> None:
    text = text_of(page_of(browser))
    assert "Waiting for labels" in text
    assert "Accuracy on random images 80% 49% to 94%" in text  # Wilson, 8 of 10
    assert "Labels 7 of 12 images" in text
    assert "Round 2 of 2" in text
    assert "4 of 5 answered" in text  # the reserve counts as an answer, not as asked
    assert "ahead" not in text


def test_answers_beyond_what_a_round_asks_are_ahead_of_the_next(browser, filled: Store) -> None:
    key = filled.projects.find(3).id
    filled.of(key).tasks.apply([TaskChange(task, "x", None, Answer.LABELED, "cat") for task in (9, 10)])
    text = text_of(page_of(browser))
    assert "5 of 5 answered, 1 more ahead of the next round" in text
    queue = browser.get("/api/projects/3").json["queue"]
    assert (queue["size"], queue["answered"], queue["ahead"]) == (5, 5, 1)


def test_below_ten_random_images_counts_stand_for_a_percentage(browser, filled: Store) -> None:
    key = filled.projects.find(3).id
    filled.of(key).rounds.set(0, holdout_size=2, holdout_quality=2, holdout_squares=2)
    text = text_of(page_of(browser))
    assert "Accuracy on random images 2 of 2 right too few to say" in text
    assert "100.0%" not in text  # nor in the table of rounds; its interval stays
    assert "Accuracy 2 of 2 right" in text_of(browser.get("/").text)
    # 18 are missing, and a round of K = 10 adds a tenth of it
    assert "2 of the 20 random images that an advice needs are labeled; about 18 more rounds." in text
    entry = browser.get("/api/projects/3").json["history"][0]
    assert (entry["holdout_accuracy"], entry["holdout_correct"], entry["holdout_size"]) == (1.0, 2, 2)


def close(store: Store, **changes: object) -> None:
    key = store.projects.find(3).id
    store.of(key).rounds.set(1, state="closed", has_model=True, classes=["cat", "<b>dog</b>"], labels=4, **changes)


def test_when_every_image_is_labeled_the_page_says_so_and_what_is_next(browser, filled: Store) -> None:
    key = filled.projects.find(3).id
    close(filled)
    rest = [TaskChange(task, "x", None, Answer.LABELED, "cat") for task in (3, 9, 10, 11, 12)]
    filled.of(key).tasks.apply(rest)
    text = text_of(page_of(browser))
    assert "Every image is labeled Nothing is left to ask. Use the model, below" in text
    assert "Round 2 the last" in text
    assert browser.get("/api/projects/3").json["advice"] == "finished"
    filled.of(key).tasks.apply([TaskChange(3, "x", None, Answer.SKIPPED, None)])
    assert "Every image is answered" in page_of(browser)


def test_after_the_last_batch_rounds_and_their_advice_go_on(browser, filled: Store) -> None:
    close(
        filled,
        agreement=0.9,
        holdout_size=10,
        holdout_quality=8,
        holdout_squares=8,
        holdout_change=0,
        holdout_change_squares=2,
    )
    key = filled.projects.find(3).id
    filled.projects.set(key, extra_params={"rounds": 1})  # the second round asks what is left
    text = text_of(page_of(browser))
    assert "All batches are asked The 4 images without a label follow, chosen in the same way" in text
    assert "Another round (" in text
    status = browser.get("/api/projects/3").json
    assert status["stage"] == "finished"
    assert status["advice"] in ("continue", "unknown")


def test_the_page_says_what_the_numbers_mean(browser, filled: Store) -> None:
    text = text_of(page_of(browser))
    assert "Trained on 2 of the 7 labels, the model is right on 80% of 10 random images" in text
    assert "10 random images say little" in text
    # The hardest images come first: half a round proves nothing.
    assert "shows when the first round that a model chose is answered" in text
    assert "Answered but not trained on: 1 skipped." in text


def test_a_finished_round_tells_whether_the_queue_is_harder_than_random(browser, filled: Store) -> None:
    filled.of(filled.projects.find(3).id).rounds.set(1, state="closed")
    text = text_of(page_of(browser))
    # asked and answered with a guess: 5 wrong, 6 right, the reserve 8 wrong; random: 7 right
    assert "Too early to tell whether asked images are harder than random ones" in text
    assert "wrong on 67% of 3 images that it chose and on 0% of 1 random one" in text
    assert "a difference of +67 points" in text


def test_the_queue_shows_what_waits_with_guess_confidence_and_link(browser, filled: Store) -> None:
    html = page_of(browser)
    queue = html[html.index('id="queue"') : html.index('id="figure-losses"')]
    assert re.findall(r'id="task-(\d+)"', queue) == ["9", "10"]
    assert 'href="http://studio/projects/3/data?task=9"' in queue
    assert "/projects/3/images/8.png?small=" in queue
    assert "51%" in queue
    assert "80%" in queue
    # Random images stand among the chosen ones, which is why these are not in the order of their confidence.
    assert [">random<" in item for item in queue.split("<li>")[1:]] == [False, True]


def test_the_rounds_table_holds_the_numbers(browser, filled: Store) -> None:
    html = page_of(browser)
    cells = re.findall(r"<td>(.*?)</td>", html[html.index('id="rounds"') : html.index("</table>")])
    assert [text_of(cell) for cell in cells] == ["2", "80.0%", "49% to 94%", "10", "-", "-", "-", "12 s", "2 s"]


def test_tables_say_what_figures_draw(browser, filled: Store) -> None:
    text = text_of(page_of(browser))
    assert "cat taken for &lt;b&gt;dog&lt;/b&gt;: 1" in text
    assert "round 2 &lt;b&gt;dog&lt;/b&gt; 3" in text


def test_hostile_names_and_reasons_are_escaped(browser, filled: Store) -> None:
    html = page_of(browser)
    assert "<b>dog" not in html
    assert "&lt;b&gt;dog&lt;/b&gt;" in html
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert(&#39;broken&#39;)&lt;/script&gt;" in html


def test_the_page_says_what_another_round_would_add(browser, filled: Store) -> None:
    assert "Another" not in text_of(page_of(browser))
    key = filled.projects.find(3).id
    filled.of(key).rounds.set(
        1,
        **{"state": "closed", "has_model": True, "classes": ["cat", "<b>dog</b>"], "labels": 4, "agreement": 0.99},
        **{
            "holdout_size": 400,
            "holdout_quality": 390,
            "holdout_squares": 390,
            "holdout_change": 0,
            "holdout_change_squares": 2,
        },
    )
    filled.projects.set(key, extra_params={"rounds": 5, "labels_per_round": 1})
    assert re.search(
        r"Another round \(1 answer\) would add about \d\.\d points \(.*?\)\. You can stop\.", text_of(page_of(browser))
    )
    status = browser.get("/api/projects/3").json
    assert status["advice"] == "stop"
    assert status["outlook"]["interval"][0] < status["outlook"]["gain"] < status["outlook"]["interval"][1]
    assert status["query"]["verdict"] == "unknown"
    assert status["query"]["asked"] == {"wrong": 2, "images": 3}  # 5 and the reserve 8; 6 was right


def test_a_project_is_called_by_its_title(browser, filled: Store) -> None:
    assert "<h1>Project 3</h1>" in page_of(browser)
    filled.projects.set(filled.projects.find(3).id, title="Birds & <bees>")
    assert "<h1>Birds &amp; &lt;bees&gt;</h1>" in page_of(browser)
    assert "Birds &amp; &lt;bees&gt;" in browser.get("/").text


def test_errors_and_notices_are_said(browser, filled: Store) -> None:
    key = filled.projects.find(3).id
    filled.projects.set(key, error="the token is refused: <enter> another", notice="the order was changed by hand")
    html = page_of(browser)
    assert "The token is refused: &lt;enter&gt; another" in html
    assert "The order was changed by hand" in html
    assert "Something needs you" in html


def test_running_work_shows_progress_and_time_left(browser, filled: Store, monkeypatch) -> None:
    key = filled.projects.find(3).id
    token = filled.of(key).jobs.start("retrain")
    filled.of(key).jobs.take("retrain", token, "w")
    now = time.time()
    for elapsed, progress in ((-15, 0.05), (0, 0.25)):
        monkeypatch.setattr("backend.store.jobs.time.time", lambda at=now + elapsed: at)
        filled.of(key).jobs.beat("retrain", token, progress)
    html = page_of(browser)
    assert "Training a model" in html
    assert '<progress max="1" value="0.25"' in html
    assert "25%, less than a minute left" in text_of(html)


def test_a_step_that_waits_says_for_what(browser, filled: Store) -> None:
    key, other = filled.projects.find(3).id, connect_project(filled, 4).id
    filled.of(key).jobs.start("retrain")
    assert "Waiting for a free worker" in text_of(page_of(browser))
    filled.of(other).jobs.take("pretext", filled.of(other).jobs.start("pretext"), "w")
    text = text_of(page_of(browser))
    assert "Waiting for another project" in text
    assert "0%" not in text_of(page_of(browser).split('id="status"')[1].split("Accuracy")[0])
    assert browser.get("/api/projects/3").json["waiting"] is True
    assert "Waiting for another project" in browser.get("/").text


def test_the_bar_beside_the_first_queue_says_that_it_is_about_losses(browser, filled: Store) -> None:
    key = filled.projects.find(3).id
    filled.of(key).rounds.forget()
    serve(filled, key, 0, [Ask(1, 0.1, AskRole.QUERY)])
    token = filled.of(key).jobs.start("record")
    filled.of(key).jobs.take("record", token, "w")
    filled.of(key).jobs.beat("record", token, 0.51)
    text = text_of(page_of(browser))
    assert "Labeling can begin" in text
    assert "51% of the losses written" in text


def test_a_new_project_shows_only_what_has_content(browser, pages) -> None:
    from_setup = {"project": "3.1700000000", "schema": "<View/>", "hostname": "http://studio", "access_token": "t"}
    browser.post("/setup", json=from_setup)
    hidden = re.findall(r'id="([\w-]+)"[^>]*data-hides hidden', page_of(browser))
    figures = {f"figure-{name}" for name in ("curve", "losses", "balance", "confusion", "reliability", "map")}
    assert set(hidden) == figures | {"use-model-card", "queue-card", "rounds-card", "broken-card"}


def test_a_page_with_everything_hides_nothing(browser, filled: Store) -> None:
    assert "data-hides hidden" not in page_of(browser)


def test_no_secret_is_shown(browser, filled: Store) -> None:
    secret = filled.projects.webhook_secret(filled.projects.find(3))
    for path in ("/", "/projects/3", "/metrics"):
        text = browser.get(path).text
        assert "s3cret-t0ken" not in text
        assert secret not in text


@pytest.mark.parametrize(
    "path",
    [
        "/projects/4",
        "/projects/4/figures/curve.json",
        "/projects/4/images/0.png",
        "/projects/3/figures/pie.json",
        "/projects/3/images/12.png",
        "/dashboard/plotly-0.js",
    ],
)
def test_what_is_not_there_is_404(browser, filled: Store, path: str) -> None:
    page = browser.get(path)
    assert (page.status_code, page.mimetype) == (404, "text/html")
    assert page.headers["Content-Security-Policy"]
    script = browser.get(path, headers={"Accept": "application/json"})
    assert script.status_code == 404
    assert script.json["error"]


def test_images_are_those_of_the_bank_and_may_be_kept(browser, filled: Store) -> None:
    answer = browser.get("/projects/3/images/7.png")
    image = Image.open(io.BytesIO(answer.data))
    assert (image.format, image.size, image.getpixel((0, 0))) == ("PNG", (8, 8), (140, 140, 140))
    assert answer.cache_control.max_age is None
    source = re.search(r'src="([^"]*/images/8\.png[^"]*)"', page_of(browser)).group(1)
    kept = browser.get(source.replace("&amp;", "&"))
    assert kept.cache_control.immutable
    assert kept.cache_control.private


def test_unchanged_pages_are_not_sent_again(browser, filled: Store) -> None:
    first = browser.get("/projects/3")
    again = browser.get("/projects/3", headers={"If-None-Match": first.headers["ETag"]})
    assert again.status_code == 304
    assert again.headers["Content-Security-Policy"]
    filled.projects.set(filled.projects.find(3).id, notice="new")
    assert browser.get("/projects/3", headers={"If-None-Match": first.headers["ETag"]}).status_code == 200


@pytest.mark.parametrize("path", ["/", "/projects/3", "/projects/3/figures/map.json", "/dashboard/static/live.js"])
def test_pages_allow_nothing_from_elsewhere(browser, filled: Store, path: str) -> None:
    with browser.get(path) as answer:
        policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


def test_pages_load_nothing_from_elsewhere_and_have_no_inline_code(browser, filled: Store) -> None:
    html = page_of(browser)
    loaded = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="([^"]+)"', html)
    assert loaded
    assert all(address.startswith("/") and not address.startswith("//") for address in loaded)
    assert not re.search(r"<script(?![^>]*src=)", html)
    assert not re.search(r"\son\w+=|\sstyle=", html)
    for address in {address.replace("&amp;", "&") for address in loaded}:
        with browser.get(address) as answer:
            assert answer.status_code == 200, address


def test_plotly_is_served_compressed_and_may_be_kept(browser) -> None:
    answer = browser.get(f"/dashboard/plotly-{assets.plotly_version()}.js")
    assert answer.headers["Content-Encoding"] == "gzip"
    assert answer.cache_control.immutable
    assert b"plotly.js v" in gzip.decompress(answer.data)[:200]


def test_retry_takes_images_out_of_quarantine(browser, filled: Store) -> None:
    key = filled.projects.find(3).id
    filled.of(key).tasks.images_failed({12: Failure("timed out", None, quarantined=True)})
    token = filled.of(key).jobs.start("retrain")
    filled.of(key).jobs.fail("retrain", token, "no memory")
    assert len(filled.of(key).tasks.broken()) == 2
    answer = browser.post("/projects/3/retry", headers=SAME)
    assert (answer.status_code, answer.location) == (303, "/projects/3")
    assert [task for task, _ in filled.of(key).tasks.broken()] == [99]  # it has no image at all
    assert filled.of(key).jobs.all()[0].failures == 0


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, 303),
        ({"Origin": "http://localhost"}, 303),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "http://evil"}, 403),
        ({"Origin": "null"}, 403),
        ({}, 403),
    ],
)
def test_the_button_works_from_our_own_page_only(browser, filled: Store, headers: dict[str, str], code: int) -> None:
    assert browser.post("/projects/3/retry", headers=headers).status_code == code


def test_a_disconnected_project_says_so(browser, filled: Store) -> None:
    filled.projects.set(filled.projects.find(3).id, active=False)
    assert "does not list this backend" in page_of(browser)
    assert "Disconnected" in browser.get("/").text
