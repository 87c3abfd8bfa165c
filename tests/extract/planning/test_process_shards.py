import pytest

from epalm.errors import UsageError
from epalm.extract.planning.process_shards import ALL, ProcessShard


@pytest.mark.parametrize("count", [1, 3, 8, 20])
def test_each_shard_has_one_owner(count: int) -> None:
    processes = [ProcessShard(rank, count) for rank in range(count)]
    for shard in range(40):
        assert sum(process.owns(shard) for process in processes) == 1


def test_one_process_owns_all() -> None:
    assert all(ALL.owns(shard) for shard in range(10))
    assert ProcessShard.from_environment({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}) == ALL


def test_the_shard_option_is_written_as_rank_slash_world_size() -> None:
    assert ProcessShard.parse(" 3/8 ") == ProcessShard(3, 8, "--shard")


@pytest.mark.parametrize("text", ["8/8", "1", "a/b", "-1/4", "0/0", ""])
def test_a_shard_that_does_not_exist_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match=r"(expected i/n|the first of n is 0/n)"):
        ProcessShard.parse(text)


@pytest.mark.parametrize("text", ["3/2", "x"])
def test_a_message_names_the_option_that_was_given(text: str) -> None:
    with pytest.raises(UsageError, match="--part") as refused:
        ProcessShard.parse(text, "--part")
    assert "--shard" not in str(refused.value)


def test_torchrun_gives_rank_and_world_size() -> None:
    environment = {"TORCHELASTIC_RUN_ID": "x", "RANK": "5", "WORLD_SIZE": "16"}
    assert ProcessShard.from_environment(environment) == ProcessShard(5, 16, "torchrun")


def array(number: int, *, first: int, last: int, step: int = 1, count: int) -> dict[str, str]:
    values = {"ID": number, "MIN": first, "MAX": last, "STEP": step, "COUNT": count}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()}


def test_a_slurm_array_gives_rank_and_world_size_whatever_its_numbers() -> None:
    processes = [
        ProcessShard.from_environment(array(number, first=10, last=16, step=2, count=4))
        for number in (10, 12, 14, 16)
    ]
    assert [(process.rank, process.world_size) for process in processes] == [
        (0, 4),
        (1, 4),
        (2, 4),
        (3, 4),
    ]


def test_the_processes_of_a_slurm_step_divide_their_task_of_the_array() -> None:
    step = {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "3"}
    ranks = {
        ProcessShard.from_environment(
            {**array(task, first=0, last=1, count=2), **step, "SLURM_PROCID": str(process)}
        ).rank
        for task in range(2)
        for process in range(3)
    }
    assert ranks == set(range(6))


@pytest.mark.parametrize("empty", ["", " "])
def test_an_empty_variable_counts_as_absent(empty: str) -> None:
    names = ("ID", "MIN", "MAX", "STEP", "COUNT")
    assert (
        ProcessShard.from_environment({f"SLURM_ARRAY_TASK_{name}": empty for name in names}) == ALL
    )
    step = {"SLURM_STEP_ID": "0", "SLURM_PROCID": empty, "SLURM_STEP_NUM_TASKS": empty}
    assert ProcessShard.from_environment(step) == ALL


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SLURM_ARRAY_TASK_ID", "one"),
        ("SLURM_ARRAY_TASK_COUNT", "0"),
        ("SLURM_ARRAY_TASK_STEP", "0"),
        ("SLURM_ARRAY_TASK_MIN", "-3"),
        ("SLURM_PROCID", "1.5"),
        ("SLURM_STEP_NUM_TASKS", "9" * 5000),
        ("RANK", ""),
        ("RANK", "first"),
        ("WORLD_SIZE", "0"),
        ("WORLD_SIZE", "\u0663"),  # a digit, but of Arabic
    ],
)
def test_a_variable_that_is_not_a_number_is_named_in_the_error(name: str, value: str) -> None:
    ranks = {"TORCHELASTIC_RUN_ID": "x", "RANK": "0", "WORLD_SIZE": "2"}
    slurm = {**array(1, first=1, last=4, count=4), "SLURM_STEP_ID": "0"}
    environment = {**(ranks if name in ranks else slurm), name: value}
    with pytest.raises(UsageError, match=f"variable {name} is .*, expected a whole number of"):
        ProcessShard.from_environment(environment)


@pytest.mark.parametrize("name", ["MIN", "MAX", "STEP", "COUNT"])
@pytest.mark.parametrize("value", ["", "many", None])
def test_a_job_array_that_lacks_a_number_names_the_variable(name: str, value: str | None) -> None:
    environment = array(1, first=1, last=4, count=4)
    del environment[f"SLURM_ARRAY_TASK_{name}"]
    if value is not None:
        environment[f"SLURM_ARRAY_TASK_{name}"] = value
    shown = f"variable SLURM_ARRAY_TASK_{name} is '{value or ''}', expected a whole number of at"
    with pytest.raises(UsageError, match=shown):
        ProcessShard.from_environment(environment)


@pytest.mark.parametrize("rank", ["2", "7"])
def test_a_rank_beyond_the_number_of_processes_is_refused(rank: str) -> None:
    environment = {"TORCHELASTIC_RUN_ID": "x", "RANK": rank, "WORLD_SIZE": "2"}
    with pytest.raises(
        UsageError, match=f"RANK is {rank}, expected less than WORLD_SIZE, which is 2"
    ):
        ProcessShard.from_environment(environment)


def test_a_slurm_array_with_gaps_requires_the_shard_option() -> None:
    with pytest.raises(UsageError, match=r"has gaps \(3 tasks from 3 to 9\).*give --shard"):
        ProcessShard.from_environment(array(7, first=3, last=9, count=3))
