"""A file given for weights that holds none is called what it is, and nothing in it is run."""

import io
import json
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from epalm.errors import EpalmError, ModelError
from epalm.extract.encoders.encoder_registry import EncoderSettings, make_encoder
from epalm.model.checkpoints.official_checkpoint import read_official_checkpoint
from epalm.model.engine.language_model import load_config, load_language_model
from epalm.model.text.tokenizer import load_tokenizer
from epalm.untrusted.file_kinds import check_model_folder, check_weights_file, describe_file
from tests.extract.helpers import TINY
from tests.fakes import save_language_model

TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.zeros(2)}


def _text(content: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(content)


def _bytes(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def _cut_safetensors(path: Path) -> None:
    save_file(TENSORS, path)
    path.write_bytes(path.read_bytes()[:-5])


def _cut_header(path: Path) -> None:
    save_file(TENSORS, path)
    path.write_bytes(path.read_bytes()[:40])


def _cut_checkpoint(path: Path) -> None:
    torch.save(TENSORS, path)
    path.write_bytes(path.read_bytes()[:-200])


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")


def _tar(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("hello.txt"), io.BytesIO())


class Trap:
    """An object that writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


def _trap(path: Path) -> None:
    path.write_bytes(pickle.dumps({"model": Trap(path.with_name("sprung"))}))


def _trap_in_checkpoint(path: Path) -> None:
    torch.save({"model": Trap(path.with_name("sprung"))}, path)


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "html.pth": (_text("<!DOCTYPE html><html><body>404</body></html>"), "a web page (HTML)"),
    "html.safetensors": (_text("\n <html lang='en'>"), "a web page (HTML)"),
    "error.bin": (_text('{"error": "not found"}'), "JSON"),
    "denied.pt": (_text("Access denied\n"), "a text"),
    "xml.pth": (_text("<?xml version='1.0'?><Error/>"), "an XML document"),
    "pointer.bin": (
        _text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"),
        "a Git LFS pointer",
    ),
    "arrays.npz": (lambda path: np.savez(path, a=np.zeros(2)), "an archive of 1 NumPy arrays"),
    "array.npy": (lambda path: np.save(path, np.zeros(2)), "a NumPy array (.npy)"),
    "zip.pth": (_zip, "a zip archive of 1 files"),
    "tar.pth": (_tar, "a tar archive"),
    "gzip.pth": (_bytes(b"\x1f\x8b\x08\0" + bytes(20)), "a gzip archive"),
    "picture.pth": (_bytes(b"\xff\xd8\xff\xe0" + bytes(20)), "a JPEG image"),
    "keras.h5": (_bytes(b"\x89HDF\r\n\x1a\n" + bytes(20)), "an HDF5 file"),
    "llama.gguf": (_bytes(b"GGUF\3\0\0\0" + bytes(20)), "a GGUF file"),
    "zeros.pth": (_bytes(bytes(1000)), "a file of zeros"),
    "chance.pth": (_bytes(b"\xf1\xf2\0\1" * 9), "of no known kind (it begins with f1 f2 00 01"),
    "empty.pth": (_bytes(b""), "an empty file"),
    "folder.pth": (Path.mkdir, "a folder"),
    "cut.safetensors": (_cut_safetensors, "a safetensors file that is cut off: "),
    "cut-header.safetensors": (_cut_header, "no safetensors file, or one cut off within its"),
    "cut.pth": (_cut_checkpoint, "a zip archive or torch checkpoint that is cut off"),
}
"""Name -> how it is made, and what it is called."""

PICKLED: dict[str, tuple[Callable[[Path], object], str]] = {
    "module.pth": (
        lambda path: torch.save(nn.Linear(2, 2), path),
        "a pickle of more than tensors (torch.nn.modules.linear.Linear",
    ),
    "trap.pth": (_trap, "a pickle of more than tensors (pathlib"),
    "trap.pt": (_trap_in_checkpoint, "a pickle of more than tensors (__builtin__.getattr, pathlib"),
    "numpy.pkl": (
        lambda path: path.write_bytes(pickle.dumps({"a": np.zeros(2)})),
        "a pickle of more than tensors (numpy",
    ),
    "cut.pkl": (
        lambda path: path.write_bytes(pickle.dumps({"a": 1}, protocol=2)[:-3]),
        "a torch checkpoint that is damaged",
    ),
}
"""What only its reader can refuse."""

EVERY = WRONG | PICKLED


@pytest.fixture
def wrong(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / request.param
    EVERY[request.param][0](path)
    return path


@pytest.mark.parametrize("wrong", EVERY, indirect=True)
def test_a_file_is_called_what_it_is(wrong: Path) -> None:
    assert describe_file(wrong).startswith(EVERY[wrong.name][1])


@pytest.mark.parametrize("wrong", WRONG, indirect=True)
def test_what_holds_no_weights_is_refused_before_a_library_opens_it(wrong: Path) -> None:
    with pytest.raises(ModelError) as raised:
        check_weights_file(wrong, label=f"--weights {wrong}")
    message = str(raised.value)
    assert message.startswith(f"--weights {wrong} cannot be read: it is {WRONG[wrong.name][1]}")
    assert message.endswith("; expected weights as safetensors or a torch checkpoint")


@pytest.mark.parametrize("legacy", [False, True])
def test_weights_are_not_refused(legacy: bool, tmp_path: Path) -> None:  # noqa: FBT001
    torch.save(TENSORS, tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
    save_file(TENSORS, tmp_path / "a.safetensors")
    save_file({}, tmp_path / "none.safetensors")
    for path in tmp_path.iterdir():
        check_weights_file(path, label="")


def check_message(error: EpalmError, wrong: Path) -> None:
    """One line that says what the file is, with no advice of other programs."""
    message = str(error)
    assert "\n" not in message
    assert EVERY[wrong.name][1].removeprefix("a pickle") in message
    assert "weights_only" not in message
    assert "hub" not in message
    assert not wrong.with_name("sprung").exists()


@pytest.mark.parametrize("wrong", [name for name in EVERY if name != "folder.pth"], indirect=True)
def test_weights_of_an_encoder_that_are_none_are_called_what_they_are(wrong: Path) -> None:
    with pytest.raises(ModelError) as raised:
        make_encoder(TINY, EncoderSettings(weights=wrong))
    check_message(raised.value, wrong)


@pytest.mark.parametrize("wrong", [name for name in EVERY if name != "folder.pth"], indirect=True)
def test_a_checkpoint_to_import_that_is_none_is_called_what_it_is(wrong: Path) -> None:
    with pytest.raises(EpalmError) as raised:
        read_official_checkpoint(wrong)
    check_message(raised.value, wrong)


def test_a_folder_without_config_json_is_refused_with_what_it_has(tmp_path: Path) -> None:
    for number in range(7):
        (tmp_path / f"{number}.txt").touch()
    reason = (
        "expected config.json in the folder, found 0.txt, 1.txt, 2.txt, 3.txt, 4.txt and 2 more: "
        "give a folder written by save_pretrained"
    )
    with pytest.raises(ModelError, match=f"^{tmp_path}: {reason}"):
        load_config(str(tmp_path), "fp32")
    with pytest.raises(ModelError, match=f"^hf:{tmp_path}: {reason}"):
        make_encoder(f"hf:{tmp_path}")


@pytest.mark.parametrize(
    "wrong", ["html.safetensors", "pointer.bin", "cut.safetensors"], indirect=True
)
@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_folder_of_a_language_model_with_a_wrong_file_names_the_file(
    name: str, wrong: Path, tmp_path: Path
) -> None:
    folder = save_language_model(tmp_path / "lm", ["a"])
    check_model_folder(folder, label="lm")
    (folder / name).write_bytes(wrong.read_bytes())
    with pytest.raises(ModelError) as raised:
        load_language_model(str(folder), "fp32")
    message = str(raised.value)
    assert message.startswith(f"{folder}: {name} cannot be read: it is ")
    if wrong.stem != "cut":
        assert EVERY[wrong.name][1] in message


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.json", "[" * 100_000),
        ("config.json", '{"a":' * 900 + "1" + "}" * 900),
        ("generation_config.json", "[" * 100_000),
        ("generation_config.json", "null"),
    ],
)
def test_a_language_model_with_a_hostile_configuration_is_refused_in_one_line(
    tmp_path: Path, name: str, text: str
) -> None:
    folder = save_language_model(tmp_path / "lm", ["a"])
    (folder / name).write_text(text)
    with pytest.raises(ModelError, match=r"^no language model could be loaded as .*folder: .*\S"):
        load_language_model(str(folder), "fp32")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tokenizer_config.json", "[" * 100_000),
        ("tokenizer_config.json", "[]"),
        ("tokenizer.json", "[" * 100_000),
        ("tokenizer.json", '{"hidden_size": 5}'),
        ("tokenizer.json", "{}"),
    ],
)
def test_a_hostile_tokenizer_is_refused_in_one_line(tmp_path: Path, name: str, text: str) -> None:
    folder = save_language_model(tmp_path / "lm", ["a"])
    (folder / name).write_text(text)
    with pytest.raises(ModelError, match=r"^no tokenizer could be loaded as .*folder: .*\S"):
        load_tokenizer(str(folder))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 900 + "1" + "}" * 900])
def test_an_encoder_with_a_hostile_configuration_is_refused_in_one_line(
    tmp_path: Path, text: str
) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelError, match="no encoder could be loaded from the folder"):
        make_encoder(f"hf:{tmp_path}", EncoderSettings())


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("num_hidden_layers", 100, "do not match its config.json, which has 100 layers: .* more"),
        ("num_hidden_layers", 1, "do not match its config.json, which has 1 layers: .* more"),
        ("num_hidden_layers", 10**9, "num_hidden_layers 1000000000, expected at most 10,000"),
        ("num_hidden_layers", -1, "num_hidden_layers -1, expected 1 or more"),
        ("num_attention_heads", 0, "num_attention_heads 0, expected 1 or more"),
        ("ffn_dim", 3, r"fc1.bias has the shape \(32,\), expected \(3,\)"),
        ("layerdrop", "x", "no language model could be loaded"),
    ],
)
def test_weights_of_another_model_than_the_configuration_are_refused(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    key: str,
    value: object,
    words: str,
) -> None:
    """Weights that are not in the files would be random numbers without a word."""
    folder = save_language_model(tmp_path / "lm", ["a"])
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {key: value}))
    capfd.readouterr()  # saving shows progress
    with pytest.raises(ModelError, match=words):
        load_language_model(str(folder), "fp32")
    lines = capfd.readouterr().err.splitlines()
    assert [line for line in lines if not line.startswith("loading the language model")] == []


def test_a_language_model_that_is_a_file_is_called_what_it_is(tmp_path: Path) -> None:
    _trap(tmp_path / "lm.bin")
    with pytest.raises(ModelError, match=r"lm\.bin is a pickle of more than tensors \(pathlib"):
        load_config(str(tmp_path / "lm.bin"), "fp32")
    assert not (tmp_path / "sprung").exists()
