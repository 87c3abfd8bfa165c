"""Augmented views depend on seed, key and view only; pixels equal independent computations."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, RandomResizedCrop
from torchvision.transforms import functional as reference

from epalm.errors import UsageError
from epalm.extract.decoding.decode_batch import DecodeRequest
from epalm.extract.decoding.decode_pool import load_batches
from epalm.extract.transforms import image_augment, image_transform
from epalm.extract.transforms.image_augment import AugmentedViews, draw_crop, generator_for
from epalm.extract.transforms.image_preset import official_preset
from epalm.extract.transforms.image_transform import ImageLoader
from epalm.media.image_decode import decode_image
from epalm.tasks.types import MediaItem

PHOTO = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
KEYS = [f"photo {number}" for number in range(2000)]


def drawn(key: str = "a", view: int = 1, *, seed: int = 0, augmentation: str = "official") -> bytes:
    views = AugmentedViews(view + 1, seed, augmentation)
    return views.draw([Image.fromarray(PHOTO)], key, view=view, size=32)[0].tobytes()


def saved(folder: Path, count: int) -> list[MediaItem]:
    for number in range(count):
        Image.fromarray(np.roll(PHOTO, number, axis=0)).save(folder / f"{number}.png")
    return [MediaItem(f"k{number}", folder, f"{number}.png") for number in range(count)]


def test_seed_key_and_view_each_change_what_is_drawn() -> None:
    same, *others = [drawn(), drawn("b"), drawn(view=2), drawn(seed=1), drawn("a\0", 1)]
    assert same == drawn()
    assert len({same, *others}) == 5


def test_the_number_of_views_changes_none_of_them(tmp_path: Path) -> None:
    (item,) = saved(tmp_path, 1)
    few, many = (ImageLoader(official_preset(32), AugmentedViews(count)) for count in (3, 9))
    for view in range(3):
        assert np.array_equal(few(item, view), many(item, view))


def test_an_image_is_decoded_once_for_all_its_views(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = saved(tmp_path, 2)
    load = ImageLoader(official_preset(32), AugmentedViews(3))
    decoded: list[Path] = []
    monkeypatch.setattr(
        image_transform,
        "decode_image",
        lambda *args: decoded.append(args[0]) or decode_image(*args),
    )
    found = [load(item, view) for item in (first, second) for view in range(3)]
    assert decoded == [first.path, second.path]
    for pixels, view in zip(found[3:], range(3), strict=True):
        assert np.array_equal(
            pixels, ImageLoader(official_preset(32), AugmentedViews(3))(second, view)
        )


def test_view_0_is_the_test_transform_whatever_the_others_are(tmp_path: Path) -> None:
    (item,) = saved(tmp_path, 1)
    plain = ImageLoader(official_preset(32))
    assert np.array_equal(
        ImageLoader(official_preset(32), AugmentedViews(4, 7))(item, 0), plain(item, 0)
    )
    drawn_view = ImageLoader(official_preset(32), AugmentedViews(4, 7))(item, 1)
    assert not np.array_equal(drawn_view, plain(item, 0))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_workers_batches_and_order_change_no_byte(workers: int, tmp_path: Path) -> None:
    items = saved(tmp_path, 7)
    load = ImageLoader(official_preset(32), AugmentedViews(4))
    requests = [
        DecodeRequest(row, view, item) for row, item in enumerate(items) for view in range(4)
    ]
    requests = requests[::-1] if workers == 2 else requests
    batches = [requests[start : start + workers + 2] for start in range(0, 28, workers + 2)]
    found = 0
    for batch in load_batches(batches, load, workers=workers):
        assert batch.inputs is not None
        for row, view, pixels in zip(batch.rows, batch.views, batch.inputs, strict=True):
            assert np.array_equal(pixels, load(items[row], view))
            found += 1
    assert found == 28


def test_a_seed_means_the_same_numbers_for_ever() -> None:
    generator = generator_for(3, "COCO_val2014_000000000042", 2)
    assert [round(generator.random(), 12) for _ in range(3)] == GOLDEN_DRAWS
    assert draw_crop((640, 480), generator_for(0, "k", 1)) == GOLDEN_CROP


GOLDEN_DRAWS = [0.921452637235, 0.203001139922, 0.575020534318]
GOLDEN_CROP = (69, 7, 555, 469)


def test_a_key_that_is_no_unicode_can_be_drawn_for() -> None:
    assert drawn("caf\udce9") != drawn("cafe")


@pytest.mark.parametrize("size", [(640, 480), (500, 500), (90, 300)])
def test_crops_are_distributed_as_torchvisions(size: tuple[int, int]) -> None:
    width, height = size
    boxes = np.array([draw_crop(size, generator_for(0, key, 1)) for key in KEYS])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        blank = torch.zeros(1, height, width)
        params = [RandomResizedCrop.get_params(blank, [0.5, 1], [3 / 4, 4 / 3]) for _ in KEYS]
    theirs = np.array([(left, top, left + w, top + h) for top, left, h, w in params])
    assert boxes.min() >= 0
    assert (boxes[:, 2] <= width).all()
    assert (boxes[:, 3] <= height).all()
    for name, own, other in zip(
        ("area", "ratio", "left", "top"), described(boxes), described(theirs), strict=True
    ):
        spread = max(other.std(), 1e-9)
        quantiles = np.abs(np.quantile(own, DECILES) - np.quantile(other, DECILES))
        assert quantiles.max() < 0.2 * spread, name


DECILES = np.arange(1, 10) / 10


def described(boxes: np.ndarray) -> tuple[np.ndarray, ...]:
    left, top, right, bottom = boxes.T.astype(float)
    return (right - left) * (bottom - top), np.log((right - left) / (bottom - top)), left, top


@pytest.mark.parametrize("size", [(1, 1), (2, 60_000), (60_000, 2), (1, 3), (7, 1)])
def test_crops_of_the_longest_and_smallest_images_are_inside_them(size: tuple[int, int]) -> None:
    for key in KEYS[:50]:
        left, top, right, bottom = draw_crop(size, generator_for(0, key, 1))
        assert 0 <= left < right <= size[0]
        assert 0 <= top < bottom <= size[1]


def test_an_image_too_long_for_any_crop_gives_a_center_crop_of_the_widest_ratio() -> None:
    assert draw_crop((300, 60), generator_for(0, "a", 1)) == (110, 0, 190, 60)
    assert draw_crop((60, 300), generator_for(0, "a", 1)) == (0, 110, 60, 190)


def test_crop_and_flip_equal_torchvisions_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_augment, "OPERATIONS", [lambda picture, _: picture])
    photo = Image.fromarray(PHOTO)
    flips = 0
    for key in KEYS[:40]:
        generator = generator_for(5, key, 3)
        left, top, right, bottom = draw_crop(photo.size, generator)
        expected = reference.resized_crop(
            photo, top, left, bottom - top, right - left, [48, 48], InterpolationMode.BICUBIC
        )
        if generator.random() < 0.5:
            flips += 1
            expected = reference.hflip(expected)
        found = AugmentedViews(4, 5).draw([photo], key, view=3, size=48)[0]
        assert np.array_equal(np.asarray(found), np.asarray(expected))
    assert 0 < flips < 40


def test_half_of_the_views_are_flipped_and_none_without_flip(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(image_augment, "OPERATIONS", [lambda picture, _: picture])
    ramp = Image.fromarray(np.tile(np.arange(64, dtype=np.uint8)[None, :, None], (64, 1, 3)))
    flipped = {
        name: [
            descends(AugmentedViews(2, 0, name).draw([ramp], key, view=1, size=16)[0])
            for key in KEYS
        ]
        for name in ("official", "no-flip")
    }
    assert abs(np.mean(flipped["official"]) - 0.5) < 0.04
    assert not any(flipped["no-flip"])


def descends(picture: Image.Image) -> bool:
    row = np.asarray(picture)[8, :, 0].astype(int)
    return bool(row[0] > row[-1])


def test_without_flip_all_else_is_drawn_as_before() -> None:
    same = [drawn(key) == drawn(key, augmentation="no-flip") for key in KEYS[:200]]
    assert 0.35 < np.mean(same) < 0.65


def test_ten_operations_are_drawn_alike_each_applied_half_of_the_time_with_both_signs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: Counter[tuple[int, int]] = Counter()

    def recorder(number: int) -> object:
        def record(picture: Image.Image, sign: int) -> Image.Image:
            calls[number, sign] += 1
            return picture

        return record

    monkeypatch.setattr(image_augment, "OPERATIONS", [recorder(number) for number in range(10)])
    for key in KEYS:
        drawn(key)
    # 2000 views x 2 draws x 1/2 applied = 2000 calls, over 10 operations and 2 signs: 100 each.
    assert abs(calls.total() - 2000) < 4 * math.sqrt(1000)
    assert len(calls) == 20
    assert all(abs(count - 100) < 45 for count in calls.values())


def test_one_view_leaves_no_trace_in_the_fingerprint() -> None:
    assert AugmentedViews(1, 5, "no-flip").fingerprint() == {}


def test_augmentation_and_seed_are_in_the_fingerprint_of_several_views() -> None:
    official, other = AugmentedViews(2).fingerprint(), AugmentedViews(8, 3, "no-flip").fingerprint()
    assert all(name.startswith("views.") and text for name, text in official.items())
    assert official["views.crop_scale"] == "0.5-1"
    different = [name for name in official if official[name] != other[name]]
    assert different == ["views.augmentation", "views.seed", "views.flip_chance"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"count": 0}, "--views 0: at least 1"),
        ({"augmentation": "strong"}, "'strong' is not one of official, no-flip"),
    ],
)
def test_views_that_cannot_be_drawn_are_a_usage_error(
    settings: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        AugmentedViews(**settings)
