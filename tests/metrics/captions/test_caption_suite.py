"""All caption metrics: METEOR's program, BLEU's intervals, SPICE's installation and its program."""

import json
import os
import stat
import zipfile
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from epalm.errors import DataError, EpalmError, MissingToolError
from epalm.metrics.captions import caption_metrics, meteor, spice
from epalm.metrics.captions.bleu import bleu_of_sums, score_bleu
from epalm.metrics.captions.caption_suite import score_caption_suite
from epalm.metrics.captions.meteor import score_meteor
from epalm.metrics.captions.spice import JARS, check_spice, install_spice, score_spice
from epalm.metrics.intervals import all_intervals, bootstrap_interval
from epalm.metrics.metric_registry import Scores, load_final_metric, load_metric
from tests.metrics.toolkit import (
    captioned,
    needs_check,
    needs_java,
    photos,
    predicted,
    published_scores,
    published_task,
)

REFERENCES = {
    0: ["a dog runs on grass", "a brown dog"],
    1: ["two birds"],
    2: ["a man on a red bike"],
}
HYPOTHESES = {0: ["a dog runs"], 1: [""], 2: ["a man rides a red bike today"]}


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Makes a shell script the only `java`."""

    def make(lines: str, version: str = "1.8.0_402") -> Path:
        java = tmp_path / "bin" / "java"
        java.parent.mkdir(exist_ok=True)
        answer = f'[ "$1" = -version ] && echo \'openjdk version "{version}"\' >&2 && exit 0\n'
        java.write_text(f"#!/bin/sh\n{answer}{lines}\n")
        java.chmod(java.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{java.parent}{os.pathsep}/bin{os.pathsep}/usr/bin")
        return java

    return make


@pytest.fixture
def toolkit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in place of the toolkit's own for SPICE."""
    folder = tmp_path / "spice"
    (folder / "lib").mkdir(parents=True)
    monkeypatch.setattr(spice, "spice_folder", lambda: folder)
    monkeypatch.delenv(spice.JAVA_VARIABLE, raising=False)
    return folder


@pytest.fixture
def installed(toolkit: Path) -> Path:
    for name in JARS:
        (toolkit / "lib" / name).touch()
    return toolkit


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def archive(folder: Path, names: tuple[str, ...] = JARS) -> Path:
    """A zip file laid out as the published one, with jars that hold their own name."""
    with zipfile.ZipFile(folder / "corenlp.zip", "w") as outer:
        for name in names:
            with zipfile.ZipFile(folder / name, "w") as jar:
                jar.writestr("name", name)
            outer.write(folder / name, f"stanford-corenlp-full-2015-12-09/{name}")
    return folder / "corenlp.zip"


def test_evaluations_use_the_caption_suite_and_training_its_fast_part() -> None:
    assert load_final_metric("caption") is score_caption_suite
    assert load_metric("caption") is caption_metrics.score_captions
    assert load_final_metric("vqa") is load_metric("vqa")


@pytest.mark.slow
@needs_java
@needs_check
def test_all_published_scores_except_spice_are_reproduced_and_inside_their_intervals() -> None:
    scores = score_caption_suite(*published_task())
    published = published_scores()
    actual = {name: round(value, 3) for name, value in scores.values.items()}
    assert published.keys() - actual.keys() == scores.left_out.keys()
    assert {name: published[name] for name in actual} == actual
    for name, (low, high) in all_intervals(scores).items():
        assert low < scores.values[name] < high


@pytest.mark.slow
@needs_java
@needs_check
def test_the_published_spice_is_reproduced() -> None:
    try:
        check_spice()
    except MissingToolError as error:
        pytest.skip(str(error))
    references = {row: photo["refs"] for row, photo in enumerate(photos())}
    scores = score_spice(references, {row: [one["test"]] for row, one in enumerate(photos())})
    assert round(scores.values["SPICE"], 3) == published_scores()["SPICE"]


@pytest.mark.slow
@needs_java
def test_meteor_equals_that_of_the_toolkit() -> None:
    from pycocoevalcap.meteor.meteor import Meteor

    official = Meteor()
    value, each = official.compute_score(REFERENCES, HYPOTHESES)
    for stream in (official.meteor_p.stdout, official.meteor_p.stderr):
        stream.close()
    scores = score_meteor(REFERENCES, HYPOTHESES)
    assert scores.values["METEOR"] == value
    assert scores.per_example["METEOR"].tolist() == each
    low, high = scores.intervals["METEOR"]
    assert low == 0 < value < high == pytest.approx(max(each))


def test_bleu_of_a_set_and_of_single_captions_equals_that_of_the_toolkit() -> None:
    from pycocoevalcap.bleu.bleu import Bleu

    corpus, each = Bleu(4).compute_score(REFERENCES, HYPOTHESES, verbose=0)
    scores = score_bleu(REFERENCES, HYPOTHESES)
    assert list(scores.values.values()) == corpus
    assert [column.tolist() for column in scores.per_example.values()] == each
    # right: 3 of "a dog runs", 5 of "a man rides a red bike today"; closest lengths 2, 2, 6
    sums = np.array([[8, 5, 2, 0, 10, 8, 6, 4, 10, 10.0]])
    assert bleu_of_sums(sums)[0, :1] == pytest.approx([0.8])


def test_the_interval_of_bleu_is_that_of_the_scores_of_resampled_sets() -> None:
    from pycocoevalcap.bleu.bleu import Bleu

    words = ["a", "dog", "cat", "runs", "sits", "on", "grass", "red"]
    draw = np.random.default_rng(2)
    drawn = [" ".join(draw.choice(words, size=6)) for _ in range(80)]
    references = {row: [drawn[row], drawn[row - 1]] for row in range(40)}
    hypotheses = {row: [drawn[row + 40][:-4] + drawn[row][-4:]] for row in range(40)}
    actual = score_bleu(references, hypotheses).intervals["BLEU-1"]
    again = []
    for _ in range(150):
        rows = draw.integers(40, size=40)
        sample = [
            {new: one[old] for new, old in enumerate(rows)} for one in (references, hypotheses)
        ]
        again.append(Bleu(1).compute_score(*sample, verbose=0)[0][0])
    low, high = np.quantile(again, (0.025, 0.975))
    assert actual == pytest.approx((low, high), abs=0.3 * (high - low))


def test_without_java_meteor_and_spice_are_left_out_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, toolkit: Path
) -> None:
    monkeypatch.setenv("PATH", "")
    load_final_metric("caption")
    assert "captions are tokenized without Java" in caplog.text
    assert "METEOR is left out: there is no `java`" in caplog.text
    assert "SPICE is left out: its parser is not installed: run `epalm-eval" in caplog.text
    scores = score_caption_suite(
        predicted("a dog", "a cat"), [captioned("0", "a dog"), captioned("1", "x")]
    )
    assert list(scores.values) == [f"BLEU-{n}" for n in range(1, 5)] + ["ROUGE-L", "CIDEr"]
    assert scores.values["BLEU-1"] == pytest.approx(0.5)
    assert set(scores.left_out) == {"METEOR", "SPICE"}
    assert scores.left_out["METEOR"].startswith("there is no `java` on the PATH: install Java")
    assert scores.left_out["SPICE"].startswith("its parser is not installed: run `epalm-eval")


def test_spider_is_the_mean_of_cider_and_spice(monkeypatch: pytest.MonkeyPatch) -> None:
    each = np.array([0.25, 0.5])
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(
        spice, "score_spice", lambda *_: Scores({"SPICE": 0.375}, {"SPICE": each}, "")
    )
    scores = score_caption_suite(
        predicted("a dog", "a cat"), [captioned("0", "a dog"), captioned("1", "x")]
    )
    assert scores.values["SPIDEr"] == pytest.approx((scores.values["CIDEr"] + 0.375) / 2)
    assert scores.per_example["SPIDEr"].tolist() == pytest.approx(
        ((scores.per_example["CIDEr"] + each) / 2).tolist()
    )
    assert all_intervals(scores)["SPIDEr"] == bootstrap_interval(scores.per_example["SPIDEr"])


def test_a_score_whose_program_fails_is_left_out_with_its_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> Scores:
        raise EpalmError("no memory left")

    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(meteor, "score_meteor", fail)
    monkeypatch.setattr(spice, "score_spice", fail)
    scores = score_caption_suite(predicted("a dog"), [captioned("0", "a dog")])
    assert scores.left_out == {"METEOR": "no memory left", "SPICE": "no memory left"}
    assert "METEOR is left out: no memory left" in caplog.text


def test_a_failing_meteor_program_is_left_out_with_its_error(
    program: Callable[[str], Path], caplog: pytest.LogCaptureFixture, toolkit: Path
) -> None:
    program("echo 'no memory left' >&2; exit 3")
    with pytest.raises(EpalmError, match=r"METEOR program failed .*no memory left"):
        score_meteor(REFERENCES, HYPOTHESES)


def test_a_hanging_meteor_program_is_stopped_at_its_time_limit(
    program: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    program("exec sleep 60")
    monkeypatch.setattr(meteor, "_LIMIT_SECONDS", 0.2)
    monkeypatch.setattr(meteor, "_LIMIT_SECONDS_EACH", 0.0)
    with pytest.raises(EpalmError, match="was stopped after 0 s"):
        score_meteor(REFERENCES, HYPOTHESES)


SPICE_WRITES = """
while [ "$1" != -out ]; do input=$last; last=$1; shift; done
cp "$last" {seen}
echo '{scores}' > "$2"
"""


def test_spice_scores_are_matched_with_captions_by_their_ids(
    program: Callable[[str], Path], installed: Path, tmp_path: Path
) -> None:
    actual = [
        {"image_id": row, "scores": {"All": {"f": score}}} for row, score in ((2, 0.5), (0, 0.25))
    ]
    actual.append({"image_id": 1, "scores": {"All": {"f": 0.0}, "Color": {"f": None}}})
    seen = tmp_path / "seen.json"
    program(SPICE_WRITES.format(seen=seen, scores=json.dumps(actual)))
    scores = score_spice(REFERENCES, HYPOTHESES)
    assert scores.per_example["SPICE"].tolist() == [0.25, 0.0, 0.5]
    assert scores.values["SPICE"] == pytest.approx(0.25)
    assert json.loads(seen.read_text()) == [
        {"image_id": row, "test": HYPOTHESES[row][0], "refs": REFERENCES[row]} for row in range(3)
    ]


def test_spice_without_a_score_for_every_caption_is_an_error(
    program: Callable[[str], Path], installed: Path, tmp_path: Path
) -> None:
    program(SPICE_WRITES.format(seen=tmp_path / "seen", scores="[]"))
    with pytest.raises(EpalmError, match="not write a score for every caption"):
        score_spice(REFERENCES, HYPOTHESES)


def test_spice_reports_the_java_versions_it_needs_and_uses_the_environment_variable(
    program: Callable[..., Path],
    installed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old = program("exit 1", "11.0.22").rename(tmp_path / "java11")
    program("exit 1", "17.0.15")
    with pytest.raises(MissingToolError, match=r"runs on Java 8 to 14, and .*java is 17"):
        check_spice()
    monkeypatch.setenv(spice.JAVA_VARIABLE, str(old))
    assert check_spice() == str(old)


@pytest.mark.parametrize(
    ("version", "suitable"),
    [("1.7.0_80", False), ("1.8.0_402", True), ("14.0.2", True), ("15.0.1", False)],
)
def test_spice_runs_on_java_8_to_14(
    program: Callable[..., Path], installed: Path, version: str, *, suitable: bool
) -> None:
    java = program("exit 1", version)
    if suitable:
        assert check_spice() == str(java)
    else:
        with pytest.raises(MissingToolError, match="runs on Java 8 to 14"):
            check_spice()


def test_the_parser_is_installed_from_a_server_without_leftover_files(
    toolkit: Path, tmp_path: Path
) -> None:
    source = archive(tmp_path)
    handler = partial(Quiet, directory=str(tmp_path))
    pieces: list[int] = []
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/{source.name}"
        assert spice.archive_bytes(url) == source.stat().st_size
        files = install_spice(url, tick=pieces.append)
        server.shutdown()
    assert sum(pieces) == source.stat().st_size
    assert sorted(path.name for path in (toolkit / "lib").iterdir()) == sorted(JARS)
    for file in files:
        with zipfile.ZipFile(file) as jar:
            assert jar.read("name").decode() == file.name


def test_an_archive_without_the_parser_installs_nothing(toolkit: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"not an archive that contains {JARS[1]}"):
        install_spice(str(archive(tmp_path, JARS[:1])), tick=lambda _: None)
    (tmp_path / "page.html").write_text("moved")
    with pytest.raises(DataError, match="not an archive that contains"):
        install_spice(str(tmp_path / "page.html"), tick=lambda _: None)
    with pytest.raises(DataError, match=r"cannot be read .* --source"):
        install_spice(str(tmp_path / "absent.zip"), tick=lambda _: None)
    assert list((toolkit / "lib").iterdir()) == []
