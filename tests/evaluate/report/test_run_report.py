"""The report: self-contained, safe, and correct in what it shows."""

import base64
import hashlib
import io
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from unittest.mock import Mock

import pytest
from PIL import Image

from epalm.errors import UsageError
from epalm.evaluate.report.embedded_media import MAX_SIDE
from epalm.evaluate.report.gallery import choose, gallery_cards, over_confident
from epalm.evaluate.report.report_files import _lead
from epalm.evaluate.report.resource_use import Cost, Costs
from epalm.evaluate.report.run_report import ReportData, write_report
from epalm.evaluate.report.tables import shortened_text
from epalm.evaluate.scores.eval_results import Evaluation, Score
from epalm.tasks.types import MediaItem
from tests.evaluate.helpers import COLORS, evaluation

HOSTILE = "<script>alert('x')</script>\"'><img src=x onerror=alert(1)>{{ 7 * 7 }}"


class Page(HTMLParser):
    """What a browser would load, run and show."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(markup)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def photos(folder: Path, size: tuple[int, int] = (640, 480)) -> dict[str, MediaItem]:
    for name, color in COLORS.items():
        Image.new("RGB", size, color).save(folder / name)
    return {name: MediaItem(name, folder, name) for name in COLORS}


def page(tmp_path: Path, *evaluations: Evaluation, **more: object) -> Page:
    file = tmp_path / "out" / "report.html"
    data = ReportData("title", evaluations or (evaluation(),), **more)  # type: ignore[arg-type]
    write_report(file, data)
    return Page(file.read_text(encoding="utf-8"))


def test_hostile_text_is_shown_and_not_run(tmp_path: Path) -> None:
    hostile = evaluation(HOSTILE, text=HOSTILE)
    answered = tuple(
        replace(one, prompt=HOSTILE, references=(HOSTILE,)) for one in hostile.predictions
    )
    hostile = replace(
        hostile, predictions=answered, settings={HOSTILE: HOSTILE}, split=HOSTILE, task=HOSTILE
    )
    file = tmp_path / "report.html"
    write_report(file, ReportData(HOSTILE, (hostile,), lead=HOSTILE, media=photos(tmp_path)))
    shown = Page(file.read_text(encoding="utf-8"))
    assert len(shown.all("script")) == 1  # the gallery's buttons
    assert all("onerror" not in attributes for _, attributes in shown.elements)
    assert all((image["src"] or "").startswith("data:image/") for image in shown.all("img"))
    assert HOSTILE in shown.text


def test_nothing_is_loaded_from_outside_the_page(tmp_path: Path) -> None:
    log = tmp_path / "metrics.jsonl"
    log.write_text('{"kind": "train", "step": 1, "epoch": 1, "loss": 1.0}\n' * 3)
    shown = page(tmp_path, media=photos(tmp_path), metrics_files=(log,))
    markup = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://", markup)
    assert not re.search(r"@import|url\((?!#)", markup)
    assert not shown.all("link")
    for tag, attributes in shown.elements:
        for name in ("src", "href", "srcset", "poster", "data"):
            address = attributes.get(name)
            assert address is None or address.startswith(("data:", "#")), (tag, address)


def test_images_are_embedded_scaled_down_with_a_text_alternative(tmp_path: Path) -> None:
    shown = page(tmp_path, media=photos(tmp_path))
    images = shown.all("img")
    assert len(images) == 6
    head, _, content = (images[0]["src"] or "").partition(",")
    assert head == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(content))) as photo:
        assert photo.size == (MAX_SIDE, 240)
    assert {image["alt"] for image in images} == {f"image {name}" for name in COLORS}


def test_questions_about_missing_files_are_still_shown(tmp_path: Path) -> None:
    gone = {name: MediaItem(name, tmp_path, name) for name in COLORS}
    shown = page(tmp_path, media=gone)
    assert not shown.all("img")
    assert shown.text.count("what is on the desk?") == 6
    assert any("its file no longer exists" in text for text in shown.text)


def test_a_report_without_media_still_shows_answers(tmp_path: Path) -> None:
    shown = page(tmp_path)
    assert shown.text.count("what is on the desk?") == 6


def test_references_are_counted_by_people(tmp_path: Path) -> None:
    shown = page(tmp_path)
    assert "lamp (2 people)" in shown.text
    assert "cup" in shown.text


def test_several_runs_are_shown_side_by_side_with_every_answer(tmp_path: Path) -> None:
    blind = replace(
        evaluation("blind", text="wall"), blind=True, scores={"exact_match": Score(0.1, 0.0, 0.2)}
    )
    shown = page(tmp_path, blind, evaluation("full", text="lamp"), media=photos(tmp_path))
    assert shown.text.count("wall") == shown.text.count("lamp") == 6
    assert "50.00" in shown.text
    assert "10.00" in shown.text
    assert "25.00 to 75.00" in shown.text
    assert "blind: blind control, each example has another sample's features" in shown.text
    assert shown.text.count("1 skipped, their samples are not encoded") == 1  # true of both
    assert not [one for one in shown.all("span") if one.get("class") == "best"]  # p is 1


def test_a_score_that_is_the_same_for_all_questions_has_no_interval(tmp_path: Path) -> None:
    shown = page(tmp_path, replace(evaluation(), scores={"exact_match": Score(0.0, 0.0, 0.0)}))
    assert "0.00" in shown.text
    assert "0.00 to 0.00" not in shown.text


def test_scores_that_were_not_computed_are_listed_with_the_reason(tmp_path: Path) -> None:
    shown = page(tmp_path, replace(evaluation(), left_out={"SPICE": "its parser is missing"}))
    assert "SPICE not computed: its parser is missing" in shown.text


def test_published_results_on_the_task_are_shown(tmp_path: Path) -> None:
    answered = replace(
        evaluation(), task="msvd-qa", headline="accuracy", scores={"accuracy": Score(0.31)}
    )
    shown = page(tmp_path, answered)
    text = " ".join(shown.text)
    assert "published, test" in text
    assert text.count("38.40") == 2  # the bar and the table
    assert "table 6" in text
    bars = [span.get("style") for span in shown.all("span") if "style" in span]
    assert bars[:2] == ["width: 31.00%", "width: 38.40%"]
    assert "published" not in " ".join(page(tmp_path).text)


def test_of_many_published_results_the_headline_is_open_and_the_rest_folded(
    tmp_path: Path,
) -> None:
    own = replace(evaluation(), task="vqa2", headline="accuracy", scores={"accuracy": Score(0.31)})
    shown = page(tmp_path, own)
    tables = [one for one in shown.all("details") if one.get("class") == "spaced"]
    assert ["open" in one for one in tables] == [True, False, False]
    text = " ".join(shown.text)
    first, more, others = (text.index(one) for one in ("eP-ALM on this", "More res", "of other m"))
    assert text[first:more].count(" released accuracy ") == 4
    assert text[more:others].count(" released accuracy ") == 22
    assert "released_accuracy" not in text


def test_names_of_models_are_not_broken_at_their_hyphens() -> None:
    record = Mock(trained=1000, store={"encoder": "vit-<ti16>"})
    record.model.variant, record.model.lm = "full", "facebook/opt-350m"
    assert _lead(record) == (
        "1,000 trained parameters adapt the frozen language model "
        '<span class="whole">opt-350m</span> to the features of '
        '<span class="whole">vit-&lt;ti16&gt;</span>.'
    )


def test_costs_of_stages_are_shown_and_missing_ones_marked(tmp_path: Path) -> None:
    training = Cost(90.0, memory=2_000_000_000, device="cuda", device_memory=5_000_000_000)
    costs = {"full": Costs(1000, 99_000, None, training, Cost(1.5, note="6 questions"))}
    text = " ".join(page(tmp_path, costs=costs).text)
    assert "1.0000 % of language model and adapter" in text
    assert text.count("not recorded") == 1
    assert "1 min 30 s" in text
    assert "2 GB of main memory, 5 GB on the GPU, on cuda" in text


def test_cards_show_the_confidence_if_it_is_known(tmp_path: Path) -> None:
    assert page(tmp_path).text.count("confidence 61 %") == 6
    open_ones = tuple(replace(one, log_probability=None) for one in evaluation().predictions)
    shown = page(tmp_path, replace(evaluation(), predictions=open_ones))
    assert not any(text.startswith("confidence ") for text in shown.text)
    assert "Confidence" not in shown.text


def test_the_types_of_the_cards_can_be_chosen(tmp_path: Path) -> None:
    shown = page(tmp_path)
    assert "what is" in shown.text
    assert [one["data-types"] for one in shown.all("li") if "data-types" in one] == ["what is"] * 6


def test_the_score_of_a_single_run_is_not_marked_as_the_best(tmp_path: Path) -> None:
    shown = page(tmp_path)
    assert not [one for one in shown.all("span") if one.get("class") == "best"]


def test_runs_of_different_splits_are_not_compared(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"manifest test .*manifest val"):
        page(tmp_path, evaluation(), replace(evaluation(), split="test"))


def test_a_caption_report_describes_images_by_a_reference(tmp_path: Path) -> None:
    captions = replace(evaluation(), kind="caption", headline="exact_match")
    shown = page(tmp_path, captions, media=photos(tmp_path))
    assert {image["alt"] for image in shown.all("img")} == {"image: lamp"}
    assert "3 references" in "".join(shown.text)


def test_long_breakdowns_are_truncated_with_a_note(tmp_path: Path) -> None:
    group = evaluation().breakdowns["question type"][0]
    groups = tuple(replace(group, name=f"kind {number}") for number in range(30))
    shown = page(tmp_path, replace(evaluation(), breakdowns={"question type": groups}))
    assert "kind 23" in shown.text
    assert "kind 24" not in shown.text
    assert any("6 smaller groups" in text for text in shown.text)


def test_the_gallery_has_the_best_the_worst_and_a_random_sample() -> None:
    scores = [number / 100 for number in range(100)]
    chosen = choose(scores, per_group=8)
    assert chosen["best"] == list(range(99, 91, -1))
    assert chosen["worst"] == list(range(8))
    assert len(set(chosen["random"])) == 8
    assert chosen == choose(scores, per_group=8)
    assert chosen["random"] == choose(scores[::-1], per_group=8)["random"]


def test_equal_scores_do_not_put_the_same_rows_into_all_groups() -> None:
    chosen = choose([float(row % 2) for row in range(100)])
    assert len({row for group in chosen.values() for row in group}) == 36


@pytest.mark.parametrize("wrong", [1, 2, 4, 7])
def test_of_few_examples_only_wrong_ones_are_among_the_worst(wrong: int) -> None:
    scores = [1.0] * (8 - wrong) + [0.0] * wrong
    chosen = choose(scores)
    assert sum(scores[row] for row in chosen["worst"]) == 0
    assert len(chosen["worst"]) == min(wrong, 4)
    assert sum(scores[row] for row in chosen["best"]) == min(8 - wrong, 4)
    assert sorted(chosen["random"]) == list(range(8))


@pytest.mark.parametrize("count", [1, 2, 5, 15, 16])
def test_of_equal_scores_none_is_best_or_worst(count: int) -> None:
    for score in (0.0, 1.0):
        chosen = choose([score] * count, per_group=8)
        assert chosen["best"] == chosen["worst"] == []
        assert len(set(chosen["random"])) == min(count, 8)


def test_only_what_scores_above_the_lowest_is_among_the_best() -> None:
    chosen = choose([0.0] * 140 + [1.0] * 3)
    assert sorted(chosen["best"]) == [140, 141, 142]
    assert len(chosen["worst"]) == 12


def test_the_note_on_a_gallery_of_equal_scores_says_that_it_is_a_random_sample(
    tmp_path: Path,
) -> None:
    wrong = tuple(replace(one, scores={"exact_match": 0.0}) for one in evaluation().predictions)
    shown = page(tmp_path, replace(evaluation(), predictions=wrong))
    assert any(text.startswith("A random sample; all have the same exact") for text in shown.text)
    groups = [one["data-show"] for one in shown.all("button")]
    assert groups == ["all", "over-confident", "random"]
    assert any(text.startswith("The best and the worst by") for text in page(tmp_path).text)


def test_a_card_of_two_groups_appears_once_with_both_labels(tmp_path: Path) -> None:
    shown = page(tmp_path)
    labels = [one["data-groups"] for one in shown.all("li") if "data-groups" in one]
    wrong = ["worst|over-confident|random"] * 3
    assert sorted(labels, key=str) == ["best|random"] * 3 + wrong
    assert "best, random · b.png · what is" in shown.text
    assert any("random (6)" in text for text in shown.text)


def graded(*pairs: tuple[float, float]) -> Evaluation:
    """Answers named a0, a1, ... with these probabilities and scores."""
    actual = evaluation(answers=len(pairs))
    return replace(
        actual,
        predictions=tuple(
            replace(
                one,
                prediction=f"a{row}",
                log_probability=math.log(probability),
                scores={"exact_match": score},
            )
            for row, ((probability, score), one) in enumerate(
                zip(pairs, actual.predictions, strict=True)
            )
        ),
    )


def test_the_worst_and_the_most_over_confident_answer_come_first() -> None:
    # a2 is wrong and most confident; a1 is confident and half right; a3 is wrong and unsure.
    cards = gallery_cards([graded((0.9, 1.0), (0.99, 0.4), (0.8, 0.0), (0.3, 0.0))], {})
    badges = [(card.badge, card.answers[0].text) for card in cards]
    assert badges[:2] == [("worst", "a3"), ("most over-confident", "a2")]
    assert {badge for badge, _ in badges[2:]} == {""}
    groups = {card.answers[0].text: card.groups for card in cards}
    assert "over-confident" in groups["a1"]
    assert "over-confident" not in groups["a3"]
    assert "over-confident" not in groups["a0"]


def test_captions_and_unknown_confidences_have_no_over_confident_answer() -> None:
    wrong = graded((0.9, 0.0), (0.8, 1.0))
    unknown = tuple(replace(one, log_probability=None) for one in wrong.predictions)
    for other in (replace(wrong, kind="caption"), replace(wrong, predictions=unknown)):
        badges = [card.badge for card in gallery_cards([other], {})]
        assert badges == ["worst", ""]
    assert over_confident(wrong, wrong.predictions) == [0]


def test_answers_of_a_blind_control_are_marked_and_come_last() -> None:
    full = graded((0.9, 1.0), (0.8, 0.0))
    said = [replace(one, prediction="a0") for one in full.predictions]
    blind = replace(full, run="blind", blind=True, predictions=tuple(said))
    for card in gallery_cards([blind, full], {}):
        own, control = card.answers
        assert (own.control, own.same, control.control) == (False, False, True)
        assert control.same == (own.text == "a0")
    alone = gallery_cards([blind], {})
    assert not any(answer.control for card in alone for answer in card.answers)


def test_distinct_answers_are_counted(tmp_path: Path) -> None:
    full = graded((0.9, 1.0), (0.8, 0.0), (0.7, 0.0))
    shown = page(tmp_path, evaluation("blind", answers=3, text="wall"), full)
    text = " ".join(shown.text)
    row = text[text.index("distinct answers") :]
    assert row.index("1 of 3") < row.index("“wall” 100 %") < row.index("3 of 3")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a dog in the snow", "a dog in the snow"),
        ("a man is standing on a rock", "a man is standing on a ..."),
        ("x" * 30, "x" * 24 + " ..."),
    ],
)
def test_a_long_answer_in_a_table_is_cut_between_words(text: str, shown: str) -> None:
    assert shortened_text(text) == shown


def test_a_warning_that_all_runs_share_is_listed_once(tmp_path: Path) -> None:
    def left_out(run: str, reason: str) -> Evaluation:
        return replace(evaluation(run), left_out={"SPICE": reason})

    shown = page(tmp_path, left_out("one", "no parser"), left_out("two", "no parser"))
    assert shown.text.count("SPICE not computed: no parser") == 1
    shown = page(tmp_path, left_out("one", "no parser"), left_out("two", "no Java"))
    assert "one: SPICE not computed: no parser" in shown.text
    assert "two: SPICE not computed: no Java" in shown.text


def test_the_page_names_its_own_script_and_nothing_else(tmp_path: Path) -> None:
    shown = page(tmp_path)
    markup = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    (script,) = re.findall(r"<script>(.*?)</script>", markup, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = (one["content"] for one in shown.all("meta") if "http-equiv" in one)
    assert policy is not None
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}';" in policy
