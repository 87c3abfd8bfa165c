"""A store and a run folder from a stranger run nothing, whichever command reads them.

Every text in them is set to the name of code: of a shell, and of a module that lies in the current
folder and leaves a mark when it is imported. All commands that read such files are then called in
this process, while an audit hook watches for any program that is started.
"""

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from epalm.cache.create_store import create_store
from epalm.cache.spec import StoreSpec
from epalm.errors import MalformedFileError
from epalm.evaluate import cli as evaluate_cli
from epalm.evaluate.scores.eval_results import write_evaluation
from epalm.extract import cli as extract_cli
from epalm.model.checkpoints.official_checkpoint import read_official_checkpoint
from epalm.model.checkpoints.run_record import RECORD_FILE, RunRecord
from epalm.train import cli as train_cli
from tests.evaluate.helpers import BROKEN, COLORS, TinyRun, evaluation, make_run, store_spec

OTHERS = ("os:system", "subprocess:call", "planted")
NAMES = ("planted:run", *OTHERS)

STARTS = ("os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "subprocess.Popen")
"""Audit events of a program that starts."""

MAINS = {"extract": extract_cli.main, "train": train_cli.main, "eval": evaluate_cli.main}

watched: list[str] | None = None
"""What was started since the watch began; None while nobody watches, as a hook stays for good."""


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if watched is not None and (
        event in STARTS or (event == "import" and str(arguments[0]).startswith("planted"))
    ):
        watched.append(f"{event} {arguments[:2]}")


sys.addaudithook(_hook)


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> TinyRun:
    """A run that evaluates, with its store, its pictures and an evaluation."""
    made = make_run(tmp_path_factory.mktemp("honest"))
    write_evaluation(made.folder / "eval" / "val", evaluation("tiny"))
    return made


class Attack:
    """A copy of the honest run that may be changed, and the commands that read it."""

    def __init__(self, root: Path, honest: TinyRun, patch: pytest.MonkeyPatch) -> None:
        self.root, self.data, self.patch = root, honest.data, patch
        self.mark = root / "MARK"
        self.run = root / "runs" / "tiny"
        shutil.copytree(honest.folder, self.run)
        (self.run / RECORD_FILE).write_text(json.dumps(asdict(RunRecord.load(honest.folder))))
        self.store, self.lm = str(honest.store), honest.store.parent / "lm"
        planted = f"from pathlib import Path\nPath({str(self.mark)!r}).touch()\n"
        planted += f"def run(*_):\n    Path({str(self.mark)!r}).touch()\n"
        (root / "planted.py").write_text(planted)
        (root / "official.pth").write_bytes(b"")
        torch.save({"model": {"connector.0.weight": torch.zeros(16, 8)}}, root / "official.pth")

    def make_store(self, name: str, changes: dict[str, Any]) -> None:
        """A finished store over the honest pictures, sealed as by an attacker's own program."""
        self.store = str(self.root / name)
        texts = {"data_root": str(self.data), "media": str(self.data)}
        spec: StoreSpec = replace(store_spec(), **(texts | changes))
        sink = create_store(self.store, spec, list(COLORS))
        tokens = np.random.default_rng(0).normal(size=spec.shape).astype(spec.dtype)
        sink.write_shard(0, tokens, {BROKEN: "cannot be decoded"})
        sink.finish()

    def edit(self, file: Path, change: Callable[[Any], object]) -> None:
        """Change a JSON file."""
        fields = json.loads(file.read_text())
        change(fields)
        file.write_text(json.dumps(fields))

    def store_commands(self) -> Iterator[tuple[str, ...]]:
        """Every command that reads a store, training and evaluation on it among them."""
        store, run, lm = self.store, str(self.run), str(self.lm)
        changes = ("encoder=", "preprocessing=", "qa_template={prompt} {answer}", "inject=1:3")
        recipe = ("--recipe", "vqa2", *(word for one in changes for word in ("--set", one)))
        yield "extract", "verify", store
        yield "extract", "verify", "--deep", store
        yield "extract", "status", store
        yield "extract", "inspect", store
        yield "extract", "retry-failed", store
        yield "extract", "convert", store, "--out", str(self.root / f"c{Path(store).suffix}")
        yield "train", "--features", store, "--dry-run", "--lm", lm, *recipe
        yield ("train", "import", str(self.root / "official.pth"), "--features", store, "--lm", lm)
        yield "eval", "--run", run, "--split", "val", "--features", store

    def run_commands(self) -> Iterator[tuple[str, ...]]:
        """Every command that reads a run folder."""
        run = str(self.run)
        yield "train", "--features", self.store, "--name", "tiny", "--lm", str(self.lm)
        yield "eval", "--run", run, "--split", "val", "--limit", "1"
        yield "eval", "report", run
        yield "eval", "compare", run, run, "--out", str(self.root / "compare.html")
        yield "eval", "submit", f"{run}/eval/val", "--out", str(self.root / "s.json")
        yield (
            *("eval", "score", f"{run}/eval/val/predictions.jsonl", "--metrics", "exact"),
            *("--references", f"{run}/eval/val/predictions.jsonl"),
        )

    def call_all(
        self, commands: Iterator[tuple[str, ...]], capsys: pytest.CaptureFixture[str]
    ) -> dict[str, int]:
        """Call the commands; the exit codes by the words of the command."""
        codes = {}
        for program, *arguments in commands:
            words = [program, *(one for one in arguments[:1] if not one.startswith("-"))]
            codes[" ".join(words)] = self.call(program, *arguments, capsys=capsys)[0]
        return codes

    def call(
        self, program: str, *arguments: str, capsys: pytest.CaptureFixture[str]
    ) -> tuple[int, str]:
        """The exit code of one command, which started nothing and broke off with one line."""
        global watched
        self.patch.setattr(sys, "argv", [f"epalm-{program}", *arguments])
        watched, code = [], 0
        try:
            MAINS[program]()
        except SystemExit as ended:
            code = int(ended.code or 0)
        finally:
            started, watched = watched, None
        error = capsys.readouterr().err
        assert started == [], (program, *arguments)
        assert not self.mark.exists(), (program, *arguments)
        assert "Traceback" not in error
        assert sum(line.startswith("error:") for line in error.splitlines()) <= 1
        return code, error


@pytest.fixture
def attack(tmp_path: Path, honest: TinyRun, monkeypatch: pytest.MonkeyPatch) -> Attack:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return Attack(tmp_path, honest, monkeypatch)


def crafted(attack: Attack) -> str:
    """What `os.system` would run if it was called with it."""
    return f"touch {attack.mark} ;"


def hostile_texts(name: str, shell: str) -> dict[str, Any]:
    """Every text of a spec."""
    return {
        "dataset": name,
        "encoder": name,
        "fingerprint": {"weights": name, "preprocessing.name": name, "frames": name},
        "tasks": (name,),
        "data_root": shell,
        "media": name,
        "weights": name,
    }


@pytest.mark.slow
def test_the_honest_files_are_read_by_every_command(
    attack: Attack, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else the other tests would pass for a wrong reason."""
    attack.make_store("s.zarr", {})
    codes = attack.call_all(attack.store_commands(), capsys)
    good = {name for name, code in codes.items() if code == 0}
    assert good >= {"train", *(f"extract {one}" for one in ("verify", "status", "inspect"))}
    codes = attack.call_all(attack.run_commands(), capsys)
    good = {name for name, code in codes.items() if code == 0}
    assert good >= {f"eval {one}" for one in ("report", "compare", "score")}
    assert codes["eval"] in (0, 3)


@pytest.mark.parametrize("store", ["s.zarr", "s.h5"])
@pytest.mark.parametrize(
    "name", ["planted:run", *(pytest.param(one, marks=pytest.mark.slow) for one in OTHERS)]
)
def test_a_store_whose_texts_all_name_code_runs_nothing(
    attack: Attack, capsys: pytest.CaptureFixture[str], store: str, name: str
) -> None:
    attack.make_store(store, hostile_texts(name, crafted(attack)))
    codes = attack.call_all(attack.store_commands(), capsys)
    assert codes["train"] == codes["train import"] == 2
    assert codes["extract retry-failed"] in (1, 2)
    assert codes["extract verify"] == codes["extract status"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("field", sorted(hostile_texts("", "")))
def test_a_store_with_one_text_that_names_code_runs_nothing(
    attack: Attack, capsys: pytest.CaptureFixture[str], field: str
) -> None:
    texts = hostile_texts("planted:run", crafted(attack))
    attack.make_store("s.zarr", {field: texts[field]})
    attack.call_all(attack.store_commands(), capsys)


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (("train", "--features", "{}", "--dry-run"), "--task"),
        (("train", "import", "official.pth", "--features", "{}", "--lm", "lm"), "--task"),
        (("extract", "retry-failed", "{}"), "--dataset"),
        (("eval", "--run", "runs/tiny", "--split", "val"), "--task"),
        (("eval", "report", "runs/tiny"), "--dataset"),
    ],
)
def test_the_refusal_names_the_option_that_allows_it(
    attack: Attack, capsys: pytest.CaptureFixture[str], command: tuple[str, ...], option: str
) -> None:
    texts = hostile_texts("planted:run", str(attack.data)) | {"weights": ""}
    attack.make_store("s.zarr", texts)
    attack.edit(
        attack.run / "run.json",
        lambda fields: fields.update(
            task="planted:run", features=attack.store, data_root=str(attack.root / "nowhere")
        ),
    )
    _, error = attack.call(*(word.format(attack.store) for word in command), capsys=capsys)
    words = " ".join(error.split())
    assert "comes from a file, whose names are never imported" in words
    assert f"name it yourself with {option}" in words


def every_text(value: Any, text: str) -> Any:  # noqa: ANN401 - any JSON
    """The same JSON with every text replaced."""
    if isinstance(value, dict):
        return {key: every_text(one, text) for key, one in value.items()}
    if isinstance(value, list):
        return [every_text(one, text) for one in value]
    return text if isinstance(value, str) else value


RUN_FILES = ("run.json", "eval/val/scores.json")


@pytest.mark.parametrize("name", [*NAMES, "../../x", "<script>alert(1)</script>", "$\\frac{$"])
def test_a_run_whose_texts_all_name_code_runs_nothing(
    attack: Attack, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    for file in RUN_FILES:
        path = attack.run / file
        path.write_text(json.dumps(every_text(json.loads(path.read_text()), name)))
    (attack.run / "recipe.toml").write_text(f"train_split = {json.dumps(name)}\n")
    attack.call_all(attack.run_commands(), capsys)


def text_fields(honest_file: Path) -> list[tuple[str, ...]]:
    """The path of each text in a JSON file."""
    result: list[tuple[str, ...]] = []

    def walk(value: object, path: tuple[str, ...]) -> None:
        for key, one in value.items() if isinstance(value, dict) else ():
            walk(one, (*path, key))
        if isinstance(value, str):
            result.append(path)

    walk(json.loads(honest_file.read_text()), ())
    return result


@pytest.mark.slow
@pytest.mark.parametrize("file", RUN_FILES)
@pytest.mark.parametrize("text", ["planted:run", "$\\frac{$ <script>alert(1)</script>"])
def test_a_run_with_one_text_that_names_code_runs_nothing(
    attack: Attack, honest: TinyRun, capsys: pytest.CaptureFixture[str], file: str, text: str
) -> None:
    own = (attack.run / file).read_text()
    for path in text_fields(honest.folder / file):
        fields = json.loads(own)
        inner = fields
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = text
        (attack.run / file).write_text(json.dumps(fields))
        for command in (("eval", "report", str(attack.run)), ("eval", "submit", str(attack.run))):
            rest = ("--out", "s.json") if command[1] == "submit" else ()
            attack.call(*command, *rest, capsys=capsys)
        for page in attack.run.glob("eval/*/report.html"):
            assert "<script>alert" not in page.read_text()
            page.unlink()


@pytest.mark.parametrize(
    "url",
    [
        "reference://::file://{}/refs.json",
        "reference://{}/refs.json",
        "simplecache::file://{}/s.zarr",
        "zip://s.zarr::file://{}/a.zip",
        "github://owner:repo@main/s.zarr",
        "python://os.system",
    ],
)
def test_a_url_from_a_run_opens_only_plain_file_systems(
    attack: Attack, capsys: pytest.CaptureFixture[str], url: str
) -> None:
    """Older versions of fsspec fill in reference files by jinja2, outside of its sandbox."""
    harm = "{{ cycler.__init__.__globals__.os.system('touch MARK') }}"
    gen = [{"key": harm, "url": "x", "dimensions": {"i": [1]}}]
    (attack.root / "refs.json").write_text(json.dumps({"version": 1, "gen": gen, "refs": {}}))
    location = f"{url.format(attack.root)}.zarr"
    attack.edit(attack.run / "run.json", lambda fields: fields.update(features=location))
    code, error = attack.call("eval", "--run", str(attack.run), "--split", "val", capsys=capsys)
    assert code == 2
    assert "cannot be a feature store: specify a path, or a plain URL" in " ".join(error.split())


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("auto_map", {"AutoConfig": "planted.Config", "AutoModel": "planted.Model"}, ""),
        ("attn_implementation", "stranger/kernel", "code that would be fetched and run"),
        ("attn_implementation", {"": "stranger/kernel"}, "code that would be fetched and run"),
    ],
)
def test_a_language_model_of_a_run_brings_no_code(
    attack: Attack,
    honest: TinyRun,
    capsys: pytest.CaptureFixture[str],
    key: str,
    value: object,
    words: str,
) -> None:
    shutil.copytree(honest.folder.parents[1] / "lm", attack.root / "lm")
    shutil.copy(attack.root / "planted.py", attack.root / "lm" / "planted.py")
    attack.edit(attack.root / "lm" / "config.json", lambda fields: fields.update({key: value}))
    tokenizer = attack.root / "lm" / "tokenizer_config.json"
    auto = {"AutoTokenizer": ["planted.Tokenizer", "planted.Tokenizer"]}
    attack.edit(tokenizer, lambda fields: fields.update(auto_map=auto))
    attack.edit(
        attack.run / "run.json", lambda fields: fields["model"].update(lm=str(attack.root / "lm"))
    )
    _, error = attack.call("eval", "--run", str(attack.run), "--split", "val", capsys=capsys)
    assert words in " ".join(error.split())


class Shell:
    """What runs a program when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.system, (self.command,)


def test_a_pickle_in_a_checkpoint_is_not_run(
    attack: Attack, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"model": Shell(crafted(attack))}, attack.root / "official.pth")
    torch.save({"weights": Shell(crafted(attack))}, attack.run / "last.pt")
    attack.make_store("s.zarr", {"weights": str(attack.root / "official.pth")})
    codes = attack.call_all(attack.store_commands(), capsys)
    assert codes["train import"] == 1


def test_a_data_set_named_like_a_path_leaves_the_results_in_the_run(
    attack: Attack, capsys: pytest.CaptureFixture[str]
) -> None:
    attack.make_store("s.zarr", {"dataset": "../../../../outside"})
    attack.call(
        *("eval", "--run", str(attack.run), "--split", "val", "--features", attack.store),
        *("--task", "manifest", "--data-root", str(attack.data)),
        capsys=capsys,
    )
    own = attack.run / "eval"
    assert sorted(file.parent.name for file in own.glob("*/predictions.jsonl")) == [
        "..-..-..-..-outside-s-val",
        "val",
    ]


@pytest.mark.parametrize(
    "config",
    [
        {"max_length": "os:system"},
        {"start_layer_idx": 1},
        {"start_layer_idx": "1", "end_layer_idx": 3},
        {"adapter_config": "normal"},
        {"adapter_config": {"attn": "normal"}},
    ],
)
def test_a_checkpoint_with_other_settings_than_the_official_ones_is_refused(
    tmp_path: Path, config: dict[str, object]
) -> None:
    state = {"connector.0.weight": torch.zeros(16, 8)}
    torch.save({"model": state, "config": config}, tmp_path / "official.pth")
    with pytest.raises(MalformedFileError, match=r"the configuration in .*official\.pth has"):
        read_official_checkpoint(tmp_path / "official.pth")
