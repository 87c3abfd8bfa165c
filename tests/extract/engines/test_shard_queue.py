from epalm.extract.engines.shard_queue import MAX_LOSSES, MAX_SHARDS_PER_TASK, ShardQueue


def taken(queue: ShardQueue, workers: int) -> list[tuple[int, ...]]:
    tasks = []
    while queue:
        tasks.append(queue.take(workers))
    return tasks


def test_every_shard_is_handed_out_once_in_order() -> None:
    tasks = taken(ShardQueue(range(100)), 3)
    assert [shard for task in tasks for shard in task] == list(range(100))


def test_tasks_get_smaller_towards_the_end() -> None:
    sizes = [len(task) for task in taken(ShardQueue(range(100)), 2)]
    assert sizes[0] == MAX_SHARDS_PER_TASK
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-4:] == [1, 1, 1, 1]


def test_shards_of_a_lost_process_come_first_and_alone() -> None:
    queue = ShardQueue(range(64))
    first = queue.take(2)
    queue.put_back(first[2:], "killed")
    assert [queue.take(2) for _ in first[2:]] == [(shard,) for shard in first[2:]]
    assert queue.take(2)[0] == first[-1] + 1
    assert not queue.given_up


def test_a_shard_that_always_loses_its_process_is_given_up() -> None:
    queue = ShardQueue([7])
    for _ in range(MAX_LOSSES):
        assert queue.take(1) == (7,)
        queue.put_back([7], "out of memory")
    assert queue.given_up == {7: "out of memory"}
    assert not queue


def test_machines_that_are_taken_away_do_not_count_against_a_shard() -> None:
    queue = ShardQueue([7])
    for _ in range(3 * MAX_LOSSES):
        assert queue.take(1) == (7,)
        queue.put_back([7], "preempted", counted=False)
    assert queue.take(1) == (7,)
    assert not queue.given_up
