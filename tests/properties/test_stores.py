"""What was written to a store is read from it, in any format, whatever shape, order and keys."""

from tempfile import TemporaryDirectory

import numpy as np
from hypothesis import strategies as st

from epalm.cache.create_store import create_store
from epalm.cache.maintenance.verify import verify_deep
from epalm.cache.readers.open_reader import open_store
from epalm.cache.spec import StoreSpec
from epalm.cache.store import Store
from tests.properties.forms import TEXTS, holds_for

KEYS = TEXTS.filter(lambda key: bool(key.strip()) and "\0" not in key)


@st.composite
def specs(draw: st.DrawFn) -> StoreSpec:
    return StoreSpec(
        dataset="any",
        encoder="any",
        fingerprint=draw(st.dictionaries(TEXTS, TEXTS, max_size=3)),
        layers=tuple(sorted(draw(st.sets(st.integers(0, 40), min_size=1, max_size=3)))),
        width=draw(st.integers(1, 5)),
        count=draw(st.integers(1, 200)),
        views=draw(st.integers(1, 3)),
        positions=draw(st.integers(1, 3)),
        dtype=draw(st.sampled_from(["float16", "float32"])),
        shard_rows=64,
    )


@holds_for(
    spec=specs(),
    suffix=st.sampled_from([".zarr", ".h5"]),
    first_keys=st.lists(KEYS, min_size=1, max_size=8, unique=True),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_store_gives_back_what_was_written_in_any_order(
    spec: StoreSpec, suffix: str, first_keys: list[str], seed: int
) -> None:
    generator = np.random.default_rng(seed)
    rest = (f"{first_keys[0]} {number}" for number in range(spec.count))
    keys = list(dict.fromkeys([*first_keys, *rest]))[: spec.count]
    features = generator.normal(size=spec.shape).astype(spec.dtype)
    failed = generator.random(spec.count) < 0.2
    with TemporaryDirectory() as folder:
        store = create_store(f"{folder}/s{suffix}", spec, keys)
        for shard in generator.permutation(spec.shards).tolist():
            rows = spec.rows_of(shard)
            errors = {keys[row]: f"reason {row}" for row in rows if failed[row]}
            store.write_shard(shard, features[rows.start : rows.stop], errors)
        store.finish()
        read = Store.open(f"{folder}/s{suffix}")
        assert read.spec == spec
        assert list(read.keys) == keys
        assert not list(verify_deep(read))
        kept = [key for key, bad in zip(keys, failed, strict=True) if not bad]
        if kept:
            drawn = generator.permutation(len(kept))[:10]
            names = [kept[index] for index in drawn]
            rows = [keys.index(name) for name in names]
            found = open_store(f"{folder}/s{suffix}").read(names)
            np.testing.assert_array_equal(found, features[rows, 0])
