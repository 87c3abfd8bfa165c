"""Stores of all tokens: extraction, comparison, reading and subcommands."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from PIL import Image
from torchvision.transforms.functional import normalize, to_tensor

from epalm.cache.readers.open_reader import open_reader
from epalm.cache.store import Store
from epalm.extract.planning import extraction_plan
from epalm.extract.planning.extraction_plan import RunOptions
from epalm.extract.run_extraction import extract
from tests.extract.helpers import (
    TINY,
    Command,
    CountingEncoder,
    Outcome,
    counting_store,
    numbered,
    random_model,
    run_command,
    save_photo,
    save_weights,
)

PHOTOS = 5
TOKENS = 101
"""Of timm's test_vit: [CLS] and 10 x 10 patches."""

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Runs epalm-extract over five images in a separate folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EPALM_DATA_ROOT", raising=False)
    monkeypatch.setattr(extraction_plan, "default_workers", lambda device: 0)
    save_weights(random_model("test_vit"), tmp_path / "w.safetensors")
    folder = tmp_path / "album"
    folder.mkdir()
    lines = []
    for number in range(PHOTOS):
        save_photo(folder / f"{number}.png", seed=number)
        lines.append(json.dumps({"id": str(number), "media": f"{number}.png", "answers": ["a"]}))
    (folder / "train.jsonl").write_text("\n".join(lines) + "\n")

    def run(*options: str, bare: bool = False) -> Outcome:
        usual = ["--encoder", TINY, "--weights", "w.safetensors", "--dataset", "album"]
        usual += ["--preprocessing", "paper"]
        usual += ["--workers", "0", "--tokens", "all"]
        return run_command(monkeypatch, capsys, *([] if bare else usual), *options)

    return run


def stored(path: str) -> np.ndarray:
    array = zarr.open_group(path, mode="r")["cls"]
    assert isinstance(array, zarr.Array)
    return np.asarray(array[:])


def reference(layers: list[int]) -> np.ndarray:
    """(PHOTOS, layers x TOKENS, 64) tokens of timm's model with independent hooks and loading."""
    model: Any = random_model("test_vit")
    photos = [Image.open(f"album/{number}.png") for number in range(PHOTOS)]
    square = [photo.resize((160, 160), Image.Resampling.BICUBIC) for photo in photos]
    pixels = torch.stack([normalize(to_tensor(photo), CLIP_MEAN, CLIP_STD) for photo in square])
    recorded: dict[int, torch.Tensor] = {}
    for layer in layers:
        model.blocks[layer].register_forward_hook(
            lambda _block, _inputs, output, layer=layer: recorded.update({layer: output})
        )
    with torch.inference_mode():
        model(pixels)
        tokens = torch.cat([model.norm(recorded[layer]) for layer in layers], dim=1)
    return tokens.numpy()


def test_the_last_blocks_tokens_equal_those_of_a_pass_with_hooks(command: Command) -> None:
    done = command("--dtype", "float32")
    assert done.code == 0, done.err
    assert "blocks 5, all 101 tokens" in done.err
    rows = stored("cache/album_timmtestvit_all.zarr")
    assert rows.shape == (PHOTOS, 1, TOKENS, 64)
    np.testing.assert_allclose(rows[:, 0], reference([5]), rtol=1e-3, atol=1e-3)


def test_tokens_of_several_blocks_are_concatenated(command: Command) -> None:
    command("--source-layers", "0,5", "--dtype", "float32", "--out", "a.zarr")
    rows = stored("a.zarr")
    np.testing.assert_allclose(rows[:, 0], reference([0, 5]), rtol=1e-3, atol=1e-3)
    command("--tokens", "cls", "--source-layers", "0,5", "--dtype", "float32", "--out", "b.zarr")
    assert np.array_equal(rows[:, :, ::TOKENS], stored("b.zarr"))


def test_a_store_of_cls_is_not_gone_on_with(command: Command) -> None:
    command("--tokens", "cls", "--source-layers", "last-1", "--out", "a.zarr")
    done = command("--out", "a.zarr")
    assert done.code == 4
    assert "positions is absent, expected 101" in done.err
    assert "fingerprint.token is cls, expected all" in done.err


def test_the_commands_that_look_after_stores_know_all_tokens(command: Command) -> None:
    command("--source-layers", "4,5", "--out", "a.zarr")
    assert command("verify", "a.zarr", "--deep", bare=True).code == 0
    assert "5 of 5 records" in command("status", "a.zarr", bare=True).out
    actual = json.loads(command("inspect", "a.zarr", "--json", bare=True).out)
    assert (actual["settings"]["positions"], actual["bytes"]) == ("101", PHOTOS * 2 * 101 * 64 * 2)
    lengths = np.linalg.norm(stored("a.zarr")[0, 0, ::TOKENS].astype(np.float64), axis=-1)
    np.testing.assert_allclose(actual["rows"][0]["norms"], lengths)
    last = command("convert", "a.zarr", "--out", "b.h5", "--source-layers", "last-1", bare=True)
    assert "(5, 1, 101, 64) float16" in last.out
    keys = Store.open("b.h5").keys
    copied = open_reader(Store.open("b.h5"), reader="mapped").read(keys)
    assert np.array_equal(copied, stored("a.zarr")[:, 0, TOKENS:])


def test_a_failed_sample_of_such_a_store_is_encoded_again(command: Command) -> None:
    whole = Path("album/3.png").read_bytes()
    Path("album/3.png").write_bytes(whole[:60])
    command("--out", "a.zarr")
    assert np.isnan(stored("a.zarr")[3]).all()
    Path("album/3.png").write_bytes(whole)
    assert "1 of 1 failed" in command("retry-failed", "a.zarr", bare=True).out
    command("--out", "b.zarr")
    assert np.array_equal(stored("a.zarr"), stored("b.zarr"))


@pytest.mark.parametrize("reader", ["ram", "mapped", "pread", "stream"])
def test_every_reader_gives_all_tokens_of_a_record(reader: str, tmp_path: Path) -> None:
    store = counting_store(tmp_path / "s.zarr", numbered(100), positions=3)
    extract(CountingEncoder(), numbered(100), store, options=RunOptions(workers=0, quiet=True))
    actual = open_reader(store, reader=reader).read(["k7", "k99"])
    tokens = [block + place / 4 for block in range(1, 7) for place in range(3)]
    expected = np.array([[700 + token for token in tokens], [9900 + token for token in tokens]])
    assert np.array_equal(actual[..., 0], expected.astype(np.float16))
