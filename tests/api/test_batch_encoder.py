"""`epalm.Encode` against the store that `epalm.extract` makes of the same files."""

import pickle
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

import epalm
from epalm.api.batch_encoder import fingerprint_digest
from epalm.errors import UsageError
from tests.extract.helpers import save_photo

ENCODER = "epalm.demo.encoder:micro_vit"

BROKEN = 2
"""Number of the file that is no image."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("photos")
    files = [save_photo(folder / f"{row}.png", seed=row) for row in range(5)]
    files[BROKEN].write_bytes(b"no image")
    return files


@pytest.fixture(scope="module")
def store(files: list[Path], tmp_path_factory: pytest.TempPathFactory) -> epalm.FeatureStore:
    out = tmp_path_factory.mktemp("store") / "s.zarr"
    samples = {file.name: file for file in files}
    return epalm.extract(
        ENCODER, samples=samples, out=str(out), quiet=True, workers=0, views=2, device="cpu"
    )


@pytest.fixture(scope="module")
def encode() -> epalm.Encode:
    return epalm.Encode(ENCODER, views=2, device="cpu")


def expected(store: epalm.FeatureStore, files: list[Path]) -> np.ndarray:
    """(B, V, L, D) features of the store, NaN for the broken file."""
    shape = (len(files), 2, *store[files[0].name].shape)
    features = np.full(shape, np.nan, np.float16)
    for row, file in enumerate(files):
        if row != BROKEN:
            features[row] = [store.read([file.name], view=view)[0] for view in range(2)]
    return features


@pytest.mark.parametrize("kind", ["path", "bytes", "dict"])
def test_features_are_those_of_the_store(
    kind: str, files: list[Path], store: epalm.FeatureStore, encode: epalm.Encode
) -> None:
    values = {
        "path": [str(file) for file in files],
        "bytes": [file.read_bytes() for file in files],
        "dict": [{"bytes": file.read_bytes(), "path": None} for file in files],
    }
    batch = {"key": [file.name for file in files], "path": values[kind], "other": [0] * 5}
    result = encode(batch)
    assert np.array_equal(result["features"], expected(store, files), equal_nan=True)
    assert [bool(reason) for reason in result["error"]] == [row == BROKEN for row in range(5)]
    assert "not a supported image" in result["error"][BROKEN]
    assert ("path" in result) == (kind == "path")
    assert result["other"] == [0] * 5
    assert encode.fingerprint == store.spec.fingerprint
    assert set(result["fingerprint"]) == {fingerprint_digest(store.spec.fingerprint)}


def test_decoded_images_are_encoded_as_their_files(
    files: list[Path], store: epalm.FeatureStore, encode: epalm.Encode
) -> None:
    good = [file for row, file in enumerate(files) if row != BROKEN]
    images = [Image.open(file) for file in good]
    arrays = [np.asarray(image) for image in images]
    features = np.delete(expected(store, files), BROKEN, axis=0)
    for values in (images, arrays):
        result = encode({"key": [file.name for file in good], "path": values})
        assert np.array_equal(result["features"], features)


def test_map_of_datasets_encodes_each_batch(files: list[Path], store: epalm.FeatureStore) -> None:
    rows = {"key": [file.name for file in files], "image": [str(file) for file in files]}
    images = datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image(decode=False))
    encode = epalm.Encode(ENCODER, column="image", views=2, device="cpu")
    encoded = images.map(encode, batched=True, batch_size=2, with_rank=True)
    assert encoded.column_names == ["key", "image", "features", "error", "fingerprint"]
    features = np.asarray(encoded.with_format("numpy")["features"][:])
    assert np.array_equal(features, expected(store, files), equal_nan=True)
    assert [row["error"] == "" for row in encoded] == [row != BROKEN for row in range(5)]


def test_the_settings_alone_are_pickled(encode: epalm.Encode) -> None:
    before = len(pickle.dumps(epalm.Encode(ENCODER, views=2, device="cpu")))
    encode.load()
    data = pickle.dumps(encode)
    assert abs(len(data) - before) < 200
    assert pickle.loads(data).fingerprint == encode.fingerprint


def test_rank_picks_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("epalm.devices.pick_device", lambda name: "cuda")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    assert [epalm.Encode(ENCODER)._device(rank) for rank in (0, 3, 5)] == [
        "cuda:0",
        "cuda:3",
        "cuda:1",
    ]
    assert epalm.Encode(ENCODER)._device(None) == "cuda"
    assert epalm.Encode(ENCODER, device="cuda:2")._device(1) == "cuda"


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"key": ["a"]}, "has no column 'path' with the samples, only key"),
        ({"path": ["a.png"]}, "has no column 'key', on which augmented views depend"),
        ({"key": ["a", "a"], "path": ["a.png", "b.png"]}, "has a key twice"),
        ({"key": ["a"], "path": [3]}, "the sample 'a' is of type int, expected a path"),
        (
            {"key": ["a"], "path": [np.zeros((4, 4), np.uint8)]},
            r"an array of shape \(4, 4\) and dtype uint8",
        ),
        ({"key": ["a"], "path": [Image.new("L", (4, 4))]}, r"of mode L.*Image\(decode=False\)"),
    ],
)
def test_a_batch_that_cannot_be_encoded_is_described(
    batch: dict[str, list[object]], message: str, encode: epalm.Encode
) -> None:
    with pytest.raises(UsageError, match=message):
        encode(batch)


def test_options_of_a_store_are_refused() -> None:
    with pytest.raises(UsageError, match=r"out is not an option of epalm\.Encode"):
        epalm.Encode(ENCODER, out="s.zarr")
    with pytest.raises(UsageError, match=r"epalm\.Encode\(\) has no argument 'tokenz'"):
        epalm.Encode(ENCODER, tokenz="cls")
