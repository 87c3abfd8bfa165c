"""Detect what a file is from its bytes, without running anything in it."""

import json
import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path

from epalm.errors import ModelError

WANTED = "expected weights as safetensors or a torch checkpoint"
"""End of a message about a file that does not contain weights."""

_BEGINNINGS = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file, which `git lfs pull` fetches"),
    (b"\x93NUMPY", "a NumPy array (.npy)"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file, e.g. of Keras"),
    (b"GGUF", "a GGUF file of llama.cpp"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\xfd7zXZ\0", "an xz archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"%PDF", "a PDF document"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
)
"""Pairs of first bytes and the kind of file."""

_TAR_MARK = slice(257, 262)
"""Position of the mark "ustar" in a tar archive."""

_HEAD_BYTES = 512
"""Number of bytes that are inspected."""

_HTML_WORDS = (b"<!doctype html", b"<html", b"<head", b"<body")
"""First words of a web page, possibly after a comment."""

_JSON_FILES = (
    *("config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"),
    *("vocab.json", "model.safetensors.index.json", "pytorch_model.bin.index.json"),
)
"""JSON files of a model's folder that are read."""

_MOST_NAMED = 5
"""Largest number of names of a folder in a message."""

_ZIP = b"PK\x03\x04"

_PICKLE = b"\x80"
"""First byte of a pickle of protocol 2 or later; older torch checkpoints are several in a row."""

_TENSOR_MODULES = ("torch", "collections", "_codecs")
"""Modules of the names in a checkpoint of tensors and plain values."""

_PLAIN_TYPES = ("__builtin__.set", "builtins.set", "__builtin__.bytearray", "builtins.bytearray")
"""Built-in types in a checkpoint of tensors and plain values."""

_SAFETENSORS_LENGTH = 8
"""Number of bytes before the header of a safetensors file, which contain its length."""


def check_weights_file(file: Path, *, label: str) -> None:
    """Refuse a file that is neither safetensors nor a torch checkpoint.

    Args:
        file: any path.
        label: beginning of the message, e.g. the option that named the file.

    Raises:
        ModelError: the file is of another kind; the message names it.
    """
    kind = not_weights(file)
    if kind:
        raise ModelError(f"{label} cannot be read: it is {kind}; {WANTED}")


def check_model_folder(folder: Path, *, label: str) -> None:
    """Refuse a folder without config.json, or with files that are not what their names say.

    Args:
        folder: folder written by `save_pretrained`.
        label: beginning of the message, e.g. the option that named the folder.

    Raises:
        ModelError: config.json is missing, or a file is of another kind; the message names both.
    """
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"{label}: expected config.json in the folder, found {folder_content(folder)}: give a "
            "folder written by save_pretrained, or download the model's files again"
        )
    weights = sorted(folder.glob("model*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    for file in weights:
        check_weights_file(file, label=f"{label}: {file.name}")
    for name in _JSON_FILES:
        file = folder / name
        if file.is_file() and not _may_be_json(file):
            raise ModelError(f"{label}: {name} cannot be read: it is {describe_file(file)}")


def folder_content(folder: Path) -> str:
    """List the first names in a folder as a phrase such as "a.txt, b.txt and 2 more"."""
    names = sorted(entry.name for entry in folder.iterdir())
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return (", ".join(names[:_MOST_NAMED]) or "no files") + more


def describe_file(file: Path) -> str:
    """Describe a file as a phrase such as "a web page (HTML)"."""
    return not_weights(file) or _weights_kind(file)


def not_weights(file: Path) -> str | None:
    """Describe a file that cannot contain weights as a phrase; None if it may contain them."""
    if file.is_dir():
        return "a folder"
    if not file.is_file():
        return "not there"
    with file.open("rb") as opened:
        head = opened.read(_HEAD_BYTES)
    return _wrong_bytes(head, file) if head else "an empty file"


def _wrong_bytes(head: bytes, file: Path) -> str | None:
    for beginning, kind in _BEGINNINGS:
        if head.startswith(beginning):
            return kind
    if head[_TAR_MARK] == b"ustar":
        return "a tar archive"
    if head.startswith(_ZIP):
        return _wrong_archive(file)
    if head[_SAFETENSORS_LENGTH : _SAFETENSORS_LENGTH + 1] == b"{" or file.suffix == ".safetensors":
        return _wrong_text(head) or _wrong_safetensors(file)
    return _wrong_text(head) or (None if head.startswith(_PICKLE) else _unknown(head))


def _wrong_text(head: bytes) -> str | None:
    lower = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if lower.startswith(_HTML_WORDS) or (lower.startswith(b"<!--") and b"<html" in lower):
        return "a web page (HTML)"
    if lower.startswith(b"<?xml"):
        return "an XML document"
    if all(byte >= 0x20 or byte in b"\t\n\r\f" for byte in head):
        return "JSON" if lower.startswith((b"{", b"[")) else "a text"
    return None


def _unknown(head: bytes) -> str:
    if not any(head):
        return "a file of zeros"
    return f"of no known kind (it begins with {head[:8].hex(' ')})"


def _wrong_archive(file: Path) -> str | None:
    """Describe a zip archive that is no torch checkpoint, which is such an archive, too."""
    if not zipfile.is_zipfile(file):
        return "a zip archive or torch checkpoint that is cut off"
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        return f"a damaged zip archive ({error})"
    if any(name.endswith("/constants.pkl") for name in names):
        return "a TorchScript program"
    if any(name.endswith("/data.pkl") for name in names):
        return None
    if names and all(name.endswith(".npy") for name in names):
        return f"an archive of {len(names)} NumPy arrays (.npz)"
    return f"a zip archive of {len(names)} files"


def _wrong_safetensors(file: Path) -> str | None:
    size = file.stat().st_size
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(_SAFETENSORS_LENGTH), "little")
        header = opened.read(min(length, size))
    if length > size - _SAFETENSORS_LENGTH:
        return f"no safetensors file, or one cut off within its header ({size} bytes)"
    try:
        tensors = [value for name, value in json.loads(header).items() if name != "__metadata__"]
        end = max((tensor["data_offsets"][1] for tensor in tensors), default=0)
        wanted = int(end) + length + _SAFETENSORS_LENGTH
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return "a safetensors file with a damaged header"
    if size < wanted:
        return f"a safetensors file that is cut off: {size} of {wanted} bytes"
    return None


def _weights_kind(file: Path) -> str:
    if file.suffix == ".safetensors":
        return "a safetensors file"
    objects = sorted({name for name in _pickled_names(file) if not _is_plain(name)})
    if objects:
        more = f" and {len(objects) - 3} more" if len(objects) > 3 else ""
        return f"a pickle of more than tensors ({', '.join(objects[:3])}{more})"
    return "a torch checkpoint that is damaged or cut off"


def _is_plain(name: str) -> bool:
    if name in _PLAIN_TYPES:
        return True
    module = name.rpartition(".")[0]
    return module.partition(".")[0] in _TENSOR_MODULES and not module.startswith("torch.nn.modules")


def _pickled_names(file: Path) -> Iterator[str]:
    """Names of classes and functions in a checkpoint, read as text and never looked up."""
    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                name = next(one for one in archive.namelist() if one.endswith("/data.pkl"))
                yield from _names_in(archive.read(name))
        else:
            yield from _names_in(file.read_bytes())
    except (zipfile.BadZipFile, OSError, StopIteration):
        return


def _names_in(pickled: bytes) -> Iterator[str]:
    texts, memo, last = list[str](), dict[object, object](), None
    try:
        for operation, argument, _ in pickletools.genops(pickled):
            if operation.name == "GLOBAL":
                yield str(argument).replace(" ", ".")
            elif operation.name == "STACK_GLOBAL":
                yield ".".join(texts[-2:])
            elif operation.name in ("MEMOIZE", "BINPUT", "LONG_BINPUT"):
                memo[len(memo) if argument is None else argument] = last
                continue
            last = memo.get(argument) if operation.name.endswith("BINGET") else argument
            if isinstance(last, str) and operation.name != "GLOBAL":
                texts.append(last)
    except Exception:  # noqa: BLE001 - whatever a damaged pickle makes the reader raise
        return


def _may_be_json(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(_HEAD_BYTES).lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b"["))
