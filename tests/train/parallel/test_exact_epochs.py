"""In an epoch every example is trained on exactly once, whatever the number of processes."""

import numpy as np
import pytest

from epalm.cache.create_store import create_store
from epalm.cache.readers.epoch_order import Rows, ShuffleSpec
from epalm.cache.readers.feature_source import ReadPlan
from epalm.cache.readers.joined.joined_stores import JoinedStores
from epalm.train.data.batching import bucket_lengths, group_by_sample
from epalm.train.parallel.distributed import Group
from tests.cache.helpers import spec


class Counted:
    """A case drawn by a seed: number of examples, batch size, processes and order of an epoch."""

    def __init__(self, seed: int) -> None:
        """Draw a case."""
        self.random = np.random.default_rng(seed)
        self.count = int(self.random.integers(1, 80))
        self.batch_size = int(self.random.integers(1, 20))
        self.world = int(self.random.integers(1, self.batch_size + 1))
        self.steps = -(-self.count // self.batch_size)
        self.start = int(self.random.integers(0, self.steps))
        pools = int(self.random.integers(0, 4))
        self.order = ShuffleSpec("blocks", pools) if pools else ShuffleSpec()
        self.rows: Rows = np.sort(self.random.integers(0, 40, self.count))

    def batches(self, start: int) -> list[list[list[int]]]:
        """The examples of each process in each step, as `train_epoch` takes them."""
        order = self.order.draw(self.rows, np.random.default_rng(0))
        order, units = group_by_sample(order, self.rows, 2)
        lengths = self.rows % 7
        random = np.random.default_rng(1)
        order = bucket_lengths(
            order, units, lengths, batch_size=self.batch_size, window=2, random=random
        )
        steps: list[list[list[int]]] = [[] for _ in range(start, self.steps)]
        for rank in range(self.world):
            group = Group(rank, self.world)
            shard = group.shard(order.after(start * self.batch_size), self.batch_size)
            assert shard.pool_ends[-1] == len(shard.examples)
            size, own = group.size(self.batch_size), shard.examples.tolist()
            for number, step in enumerate(steps):  # a source makes batches of this size
                step.append(own[number * size : (number + 1) * size])
            assert len(own) <= len(steps) * size
        return steps


@pytest.mark.parametrize("seed", range(100))
def test_all_processes_together_see_each_example_once(seed: int) -> None:
    case = Counted(seed)
    steps = case.batches(0)
    seen = [example for step in steps for own in step for example in own]
    assert sorted(seen) == list(range(case.count))
    sizes = [sum(map(len, step)) for step in steps]
    last = case.count - (case.steps - 1) * case.batch_size
    assert sizes == [case.batch_size] * (case.steps - 1) + [last]
    for step in steps:
        lengths = [len(own) for own in step]
        assert max(lengths) - min(lengths) <= 1
    assert case.batches(case.start) == steps[case.start :]


COUNTS = (150, 20, 90)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Three finished stores; the features of a row are its number in all of them."""
    folder, first = tmp_path_factory.mktemp("parts"), 0
    for count in COUNTS:
        keys = _keys()[first : first + count]
        store = create_store(folder / f"{first}.zarr", spec(count=count), keys)
        numbers = np.arange(first, first + count, dtype=np.float32)
        features = np.broadcast_to(numbers[:, None, None, None], store.spec.shape)
        for shard in range(store.spec.shards):
            rows = store.spec.rows_of(shard)
            store.write_shard(shard, features[rows.start : rows.stop], {})
        store.finish()
        first += count
    return [str(path) for path in sorted(folder.glob("*.zarr"), key=lambda path: int(path.stem))]


def _keys() -> list[str]:
    return [f"{number}.jpg" for number in range(sum(COUNTS))]


@pytest.mark.parametrize("reader", ["ram", "stream"])
@pytest.mark.parametrize("seed", range(6))
def test_samples_of_concatenated_stores_are_read_once_by_all_processes(
    places: list[str], reader: str, seed: int
) -> None:
    stores, keys = JoinedStores.open(places, concatenate=True), _keys()
    random = np.random.default_rng(seed)
    world, batch_size = int(random.integers(2, 6)), int(random.integers(6, 40))
    source = stores.select(stores.index(), keys=keys).open(reader, 10**6)
    rows = source.rows(keys)
    order = ShuffleSpec("blocks", 6).draw(rows, random)
    seen: list[int] = []
    for rank in range(world):
        group = Group(rank, world)
        shard = group.shard(order, batch_size)
        plan = ReadPlan(
            rows[shard.examples], np.zeros(len(shard.examples), np.intp), shard.pool_ends
        )
        batches = source.stream(plan, group.size(batch_size))
        served = [int(number) for batch in batches for number in batch[:, 0, 0]]
        assert served == shard.examples.tolist()
        seen += served
    assert sorted(seen) == list(range(len(keys)))
    early = np.searchsorted(np.cumsum(COUNTS), order.examples[: len(keys) // 2], side="right")
    assert set(early.tolist()) == {0, 1, 2}  # parts are mixed
