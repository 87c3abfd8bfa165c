"""`epalm-train import`: checkpoints in the official format, made from the golden tensors."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import OPTConfig, OPTForCausalLM
from typer.testing import CliRunner

from epalm.cache.create_store import create_store
from epalm.cache.spec import StoreSpec
from epalm.errors import (
    CacheMismatchError,
    EpalmError,
    MalformedFileError,
    ModelError,
    UsageError,
)
from epalm.evaluate import cli as evaluate_cli
from epalm.model.checkpoints.adapter_io import LoadedRun, load_run
from epalm.model.generation.decode import generate
from epalm.model.method.model_settings import Decoding
from epalm.train.cli import app
from tests.end_to_end.tiny_language_models import save_tiny
from tests.fakes import save_language_model
from tests.model.helpers import GOLDEN
from tests.model.test_golden import CASES

PICTURES = ("0.png", "1.png")


def released_name(golden: str) -> str:
    """Name in the official implementation of a tensor of the golden files."""
    part, _, rest = golden.partition(".")
    if part == "prompt":
        places = {"embedding": "0.weight", "mlp.0": "1", "mlp.2": "3"}
        key = next(key for key in places if rest.startswith(key))
        return f"prompt_module.prefix_embedding.{rest.replace(key, places[key], 1)}"
    if part == "adapter":
        layer, place, end, kind = rest.split(".")
        inside = {"attention": "self_attn.adapter", "ffn": "fc2.1.adapter"}[place]
        return f"transformer.{layer}.{inside}.{ {'down': 0, 'up': 2}[end] }.{kind}"
    return golden


class Released:
    """A golden case on disk: checkpoint, language model, store and questions."""

    def __init__(self, root: Path, case: str) -> None:
        """Lay them out under `root`."""
        folder = GOLDEN / case
        self.root = root
        self.config: dict[str, Any] = json.loads((folder / "case.json").read_text())
        self.inputs = load_file(folder / "inputs.safetensors")
        self.expected = load_file(folder / "expected.safetensors")
        golden = load_file(folder / "trainable.safetensors")
        self.state: dict[str, Tensor] = {}
        for name, tensor in golden.items():
            self.state[released_name(name)] = tensor
            if name.startswith("adapter."):
                twin = released_name(name).removeprefix("transformer.")
                self.state[f"model_text.model.decoder.layers.{twin}"] = tensor
        self.lm = self._save_language_model(folder)
        self.data = self._save_questions()
        self.store = self._save_store("official")

    @property
    def settings(self) -> dict[str, Any]:
        """What the released configuration file says."""
        return {
            "start_layer_idx": self.config["start_layer"],
            "end_layer_idx": self.config["end_layer"],
            "injected_hidden_states": self.config["num_cls"],
            "special_answer_token": "</a>",
            "text_step": 1,
            "num_beams": 3,
            "optimizer": {"opt": "adamW", "lr": 2e-4},
            "schedular": {"epochs": 35},
            "max_length": 14,
        }

    def save(self, **changes: Tensor) -> Path:
        """The checkpoint, as the released training script saves it."""
        file = self.root / "checkpoint_best.pth"
        saved = {
            "model": self.state | changes,
            "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": []},
            "lr_scheduler": {},
            "config": self.settings,
            "epoch": 7,
            "best_valid": 54.5,
        }
        torch.save(saved, file)
        return file

    def imported(self, checkpoint: Path, *extra: str, precision: str = "fp32") -> LoadedRun:
        """What `epalm-train import` makes of a checkpoint; without --precision if that is empty."""
        options = ["--lm", self.lm, "--features", self.store, "--out", self.root / "runs"]
        arguments = ["import", str(checkpoint), *map(str, options), "--name", "run"]
        arguments += [*(["--precision", precision] if precision else []), *extra]
        result = CliRunner().invoke(app, arguments)
        if isinstance(result.exception, EpalmError):
            raise result.exception
        assert result.exit_code == 0, result.output
        return load_run(self.root / "runs/run")

    def _save_language_model(self, folder: Path) -> Path:
        path = save_language_model(self.root / "lm", [f"word{n}" for n in range(240)])
        lm = OPTForCausalLM(OPTConfig(**self.config["opt_config"], dropout=0.0))
        weights = load_file(folder / "lm.safetensors")
        weights["lm_head.weight"] = weights["model.decoder.embed_tokens.weight"]
        lm.load_state_dict(weights)
        lm.save_pretrained(path)
        return path

    def _save_questions(self) -> Path:
        data = self.root / "data"
        data.mkdir()
        lines = [
            {"id": key, "media": key, "prompt": "word7 word8", "answers": ["word9"]}
            for key in PICTURES
        ]
        for split in ("train", "val"):
            (data / f"{split}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
        return data

    def _save_store(self, preprocessing: str) -> Path:
        path = self.root / "store.zarr"
        spec = StoreSpec(
            dataset="data",
            encoder="tiny-vit",
            fingerprint={"preprocessing.name": preprocessing},
            layers=tuple(range(self.config["num_cls"])),
            width=self.config["encoder_dim"],
            count=len(PICTURES),
            tasks=("manifest",),
            data_root=str(self.data),
        )
        sink = create_store(path, spec, list(PICTURES))
        sink.write_shard(0, np.random.default_rng(0).normal(size=spec.shape).astype(np.float32), {})
        sink.finish()
        return path


@pytest.fixture
def full(tmp_path: Path) -> Released:
    return Released(tmp_path, "03_preln_full")


@pytest.mark.parametrize("name", CASES[:-1])
def test_an_imported_checkpoint_computes_what_the_released_code_did(
    tmp_path: Path, name: str
) -> None:
    case = Released(tmp_path, name)
    run = case.imported(case.save())
    ids, mask = case.inputs["input_ids"], case.inputs["attention_mask"]
    with torch.no_grad():
        logits = run.model.logits(run.model.last_hidden_states(case.inputs["cls"], ids, mask))
    expected = case.expected["logits"][:, 1 + case.config["prompt_length"] :][mask.bool()]
    if len(logits) == mask.numel():  # this tail computes padding too
        logits = logits[mask.bool().flatten()]
    assert torch.allclose(logits, expected, atol=1e-4)
    asked = case.inputs["generate_input_ids"]
    greedy = Decoding(case.config["generate"]["max_new_tokens"], 1)
    new = generate(run.model, case.inputs["generate_cls"], asked, torch.ones_like(asked), greedy)
    assert torch.cat([asked, new], dim=1).tolist() == case.expected["generate_greedy"].tolist()
    assert run.record.model.variant == case.config["variant"].replace("_", "-")


def test_an_imported_run_is_evaluated(full: Released, monkeypatch: pytest.MonkeyPatch) -> None:
    full.imported(full.save())
    run = full.root / "runs/run"
    arguments = ["epalm-eval", "--split", "val", "--run", str(run), "--device", "cpu", "--quiet"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as ended:
        evaluate_cli.main()
    assert ended.value.code == 0
    answers = (run / "eval/val/predictions.jsonl").read_text().splitlines()
    assert len(answers) == len(PICTURES)
    assert (run / "README.md").is_file()


def test_settings_come_from_the_checkpoint_then_from_the_command(full: Released) -> None:
    record = full.imported(full.save(), "--set", "num_beams=2").record
    assert record.model.tail == "official"
    assert record.model.template == "{prompt}?</a>{answer}"
    assert record.model.inject == "1:13"
    assert (record.decoding.max_new_tokens, record.decoding.num_beams) == (13, 2)
    recipe = (full.root / "runs/run/recipe.toml").read_text()
    assert "epochs = 35" in recipe
    assert "lr = 0.0002" in recipe


def test_the_language_model_has_fp16_as_in_the_released_scripts(full: Released) -> None:
    run = full.imported(full.save(), precision="")
    assert run.record.model.precision == "fp16"
    assert run.model.language_model.dtype == torch.float16


@pytest.mark.parametrize("wrap", ["flat", "state_dict", "safetensors"])
def test_the_tensors_may_lie_elsewhere_and_carry_a_parallel_prefix(
    full: Released, wrap: str
) -> None:
    state = {f"module.{name}": tensor.half() for name, tensor in full.state.items()}
    file = full.root / f"other.{wrap}"
    if wrap == "safetensors":
        save_file(state, file)
    else:
        torch.save(state | {"epoch": 3} if wrap == "flat" else {wrap: state, "epoch": 3}, file)
    run = full.imported(file, "--set", "inject=1:13")
    first = dict(run.model.named_parameters())["connectors.maps.0.weight"]
    assert torch.equal(first, full.state["connector.0.weight"].half().float())
    assert run.record.decoding.max_new_tokens == 29


def test_one_error_lists_all_tensors_that_do_not_fit(full: Released) -> None:
    odd = {"connector.2.bias": torch.zeros(7), "prompt_module.gate": torch.zeros(1)}
    del full.state["prompt_module.prefix_embedding.3.bias"]
    with pytest.raises(ModelError) as raised:
        full.imported(full.save(**odd))
    output = str(raised.value)
    assert "prompt_module.gate is unknown" in output
    assert "prompt_module.prefix_embedding.3.bias is missing" in output
    assert "connector.2.bias is (7,), expected (40,)" in output
    assert not (full.root / "runs").exists()


def test_another_language_model_is_refused_by_the_shapes(full: Released) -> None:
    shutil.rmtree(full.lm)
    full.lm = save_language_model(full.root / "lm", ["word"], layers=14, width=16, spare=2)
    with pytest.raises(ModelError, match=r"14 layers, 16 wide.*is \(40, 48\), expected \(16, 48\)"):
        full.imported(full.save())


def test_a_language_model_of_another_family_is_refused(full: Released, tmp_path: Path) -> None:
    lm = save_tiny(tmp_path / "llama", "llama", weights=False)
    with pytest.raises(UsageError, match=r"'llama' model, official checkpoints .* facebook/opt-2"):
        full.imported(full.save(), "--lm", str(lm))


def test_a_store_of_other_preprocessing_is_refused(full: Released) -> None:
    shutil.rmtree(full.store)
    full.store = full._save_store("native")
    with pytest.raises(CacheMismatchError, match="preprocessing is 'native'"):
        full.imported(full.save())


def test_adapters_kept_twice_must_agree(tmp_path: Path) -> None:
    case = Released(tmp_path, "05_preln_ada")
    name = next(name for name in case.state if name.startswith("model_text."))
    with pytest.raises(MalformedFileError, match="two different tensors"):
        case.imported(case.save(**{name: case.state[name] + 1}))


def test_a_file_that_would_run_code_is_refused(full: Released) -> None:
    file = full.root / "evil.pth"
    torch.save({"model": full.state, "config": Path("anything")}, file)
    with pytest.raises(MalformedFileError, match="save its entry 'model' alone"):
        full.imported(file)


@pytest.mark.parametrize("content", [b"hello", b"", b"\x80\x02}", b"PK\x03\x04"])
def test_bytes_that_are_no_checkpoint_are_refused(full: Released, content: bytes) -> None:
    file = full.root / "rubbish.pth"
    file.write_bytes(content)
    with pytest.raises(MalformedFileError, match=r"rubbish\.pth cannot be read"):
        full.imported(file)


def test_settings_that_are_not_reproduced_are_refused(full: Released) -> None:
    file = full.root / "other.pth"
    config = {"special_answer_token": "<ans>", "adapter_config": {"mlp": {"adapter_type": "par"}}}
    torch.save({"model": full.state, "config": config}, file)
    with pytest.raises(ModelError, match=r"special_answer_token is '<ans>'.*mlp is 'par'"):
        full.imported(file)


def test_a_carried_input_prefix_is_refused_because_it_cannot_generate(tmp_path: Path) -> None:
    case = Released(tmp_path, CASES[-1])
    with pytest.raises(UsageError, match="tail 'official' lets a visual token"):
        case.imported(case.save())


def test_a_checkpoint_like_no_variant_asks_for_one(full: Released) -> None:
    for name in [name for name in full.state if ".1." in name and "prefix" in name]:
        del full.state[name]
    ada = load_file(GOLDEN / "05_preln_ada/trainable.safetensors")
    extra = {released_name(name): tensor for name, tensor in ada.items() if "adapter" in name}
    with pytest.raises(UsageError, match=r"adapter factor 8.*no variant has these parts"):
        full.imported(full.save(**extra))


def test_an_imported_run_is_described_in_json(
    full: Released, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--lm", full.lm, "--features", full.store, "--out", full.root / "runs", "--json"]
    arguments = ["import", full.save(), *options, "--name", "run", "--precision", "fp32"]
    result = CliRunner().invoke(app, list(map(str, arguments)))
    actual = json.loads(result.stdout)
    assert (actual["run"], actual["folder"]) == ("run", str(full.root / "runs" / "run"))
    assert (actual["best"], actual["validations"], actual["seconds"]) == (None, [], None)
    assert actual["variant"] == "full"
