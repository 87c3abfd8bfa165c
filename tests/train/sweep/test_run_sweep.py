"""Sweeps on the command line: members equal single runs, halving, failures, interruptions."""

import json
import signal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from epalm.errors import RecipeError, UsageError
from epalm.model.engine import language_model
from epalm.model.method.variants import VARIANTS
from epalm.train import run_training
from epalm.train.cli import app
from epalm.train.sweep import run_sweep
from tests.train.helpers import World, make_world
from tests.train.runs.test_drill import LONG, train_and_kill
from tests.train.sweep.helpers import member_folder, result_of, sweep, sweep_command, write_sweep
from tests.train.test_run_training import run

HALVED = """
[grid]
lr = [0.001, 0.003, 0.01, 0.03]
[halving]
rungs = [1, 2]
"""


def metrics(folder: Path) -> list[dict[str, float]]:
    """Lines of metrics.jsonl without times and speeds."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    measured = ("samples_per_s", "seconds", "memory", "device_memory")
    return [{key: value for key, value in line.items() if key not in measured} for line in lines]


def assert_same_run(member: Path, single: Path) -> None:
    assert metrics(member) == metrics(single)
    for name in ("adapter.safetensors", "last.safetensors"):
        assert (member / name).read_bytes() == (single / name).read_bytes()
    names = [{path.name for path in folder.iterdir()} for folder in (member, single)]
    assert names[0] == names[1]
    assert str(member.parent) not in (member / "run.json").read_text()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


def test_members_are_bit_equal_to_single_runs_whatever_came_before(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Adapters, dropout, checkpointed layers and a blind control leave nothing to the next one."""
    settings = {
        "adapters": ["--variant", "ada", "--set", "lm_dropout=0.2"],
        "recomputed": ["--set", "recompute_layers=3", "--seed", "1"],
        "lin": ["--variant", "lin", "--inject", "1:3", "--set", "lm_dropout=0.0"],
        "blind": ["--blind"],
        "plain": ["--seed", "1", "--set", "val_examples=5"],
    }
    file = write_sweep(
        world,
        """
        text_states = "./states"
        [[member]]
        name = "adapters"
        variant = "ada"
        lm_dropout = 0.2
        [[member]]
        name = "recomputed"
        recompute_layers = 3
        seed = 1
        [[member]]
        name = "lin"
        variant = "lin"
        inject = "1:3"
        lm_dropout = 0.0
        [[member]]
        name = "blind"
        blind = true
        [[member]]
        name = "plain"
        seed = 1
        val_examples = 5
        """,
    )
    loaded: list[str] = []
    load = language_model.load_language_model
    monkeypatch.setattr(
        "epalm.model.lent_language_model.load_language_model",
        lambda name, *rest, **named: loaded.append(name) or load(name, *rest, **named),
    )
    assert sweep(file) == 0
    assert len(loaded) == 1
    assert (world.root / "states").is_dir()
    for name, options in settings.items():
        states = ["--text-states", str(world.root / "states")] if name == "lin" else []
        run(world, *options, *states, "--name", name)
        assert_same_run(member_folder(file, name), world.root / "runs" / name)
    assert [one["status"] for one in result_of(file)["members"]] == ["finished"] * 5


def test_a_variant_that_trains_the_language_model_leaves_the_shared_one_unchanged(
    world: World,
) -> None:
    file = write_sweep(world, f'[grid]\nvariant = ["full", "{trained_variant()}", "lin"]\n')
    assert sweep(file) == 0
    run(world, "--variant", "lin", "--name", "lin")
    assert_same_run(member_folder(file, "variant-lin"), world.root / "runs" / "lin")


def trained_variant() -> str:
    return next(name for name, one in VARIANTS.items() if one.language_model == "trained")


def test_members_of_a_halved_sweep_are_the_beginnings_of_single_runs(tmp_path: Path) -> None:
    world = make_world(tmp_path, epochs=4)
    file = write_sweep(world, HALVED)
    assert sweep(file) == 0
    result = result_of(file)
    statuses = [one["status"] for one in result["members"]]
    assert sorted(statuses) == ["finished", "given up", "given up", "given up"]
    assert sorted(one["step"] for one in result["members"]) == [10, 10, 20, 40]
    finished = statuses.index("finished")
    assert result["best"] == result["members"][finished]["name"]
    for one in result["members"]:
        rate = str(one["settings"]["lr"])
        run(world, "--set", f"lr={rate}", "--name", f"single{rate}")
        single = world.root / "runs" / f"single{rate}"
        lines = metrics(member_folder(file, one["name"]))
        assert lines == metrics(single)[: len(lines)]
        if one["status"] == "finished":
            assert_same_run(member_folder(file, one["name"]), single)
    assert {"sweep.json", "sweep.md", "sweep.png", "sweep.svg"} <= {
        path.name for path in (world.root / "runs" / "some").iterdir()
    }


def test_rungs_within_an_epoch_are_validated_and_change_no_loss(tmp_path: Path) -> None:
    world = make_world(tmp_path, epochs=3)
    few = 'batch_size = 2\n[grid]\nlr = [0.001, 0.03]\n[halving]\nrungs = [10]\nunit = "steps"\n'
    file = write_sweep(world, few)
    assert sweep(file) == 0
    (best,) = [one for one in result_of(file)["members"] if one["status"] == "finished"]
    (other,) = [one for one in result_of(file)["members"] if one["status"] == "given up"]
    assert (other["step"], other["epoch"]) == (10, None)
    assert other["figures"]
    rate = str(best["settings"]["lr"])
    run(world, "--set", "batch_size=2", "--set", f"lr={rate}", "--name", "single")
    assert_same_run(member_folder(file, best["name"]), world.root / "runs" / "single")


def test_a_member_that_fails_is_listed_and_stops_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_sweep(world, "[grid]\nlr = [0.01, 0.02, 0.03]\n")
    fit = run_sweep.fit

    def failing(trainer: run_training.Trainer, step: int) -> object:
        if trainer.recipe.lr == 0.02:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return fit(trainer, step)

    monkeypatch.setattr(run_sweep, "fit", failing)
    assert sweep(file) == 3
    members = result_of(file)["members"]
    assert [one["status"] for one in members] == ["finished", "failed", "finished"]
    assert "out of memory" in members[1]["error"]
    assert "out of memory" in (world.root / "runs/some/sweep.md").read_text()
    run(world, "--set", "lr=0.03", "--name", "single")
    assert_same_run(member_folder(file, "lr-0.03"), world.root / "runs" / "single")
    monkeypatch.undo()
    assert sweep(file) == 0
    assert [one["status"] for one in result_of(file)["members"]] == ["finished"] * 3


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("lrr = [0.1]", "'lrr', did you mean 'lr'"),
        ("variant = ['fulll']", "fulll"),
        ("inject = ['1:9']", "member inject-1-9: "),
        ("lr = [-1.0]", "lr is -1"),
    ],
)
def test_bad_settings_are_refused_before_anything_trains(
    world: World, wrong: str, message: str
) -> None:
    file = write_sweep(world, f"[grid]\n{wrong}\n[[member]]\nname = 'good'\n")
    with pytest.raises(UsageError, match=message):
        sweep(file)
    assert not (world.root / "runs").exists()


def test_finished_members_are_not_run_again_and_others_can_be_added(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_sweep(world, "[grid]\nseed = [0, 1]\n")
    assert sweep(file) == 0
    (one,) = result_of(file)["groups"]
    assert one["finished"] == 2
    figure = one["figures"]["exact_match"]
    assert figure["low"] <= figure["mean"] <= figure["high"]
    trained: list[int] = []
    fit = run_sweep.fit

    def noting(trainer: run_training.Trainer, step: int) -> object:
        trained.append(trainer.seed)
        return fit(trainer, step)

    monkeypatch.setattr(run_sweep, "fit", noting)
    write_sweep(world, "[grid]\nseed = [0, 1, 2]\n")
    assert sweep(file) == 0
    assert trained == [2]
    write_sweep(world, "epochs = 3\n[grid]\nseed = [0, 1, 2]\n")
    with pytest.raises(UsageError, match=r"member seed-0: .*other settings \(epochs differ\)"):
        sweep(file)


def test_an_unknown_figure_stops_the_sweep_at_its_first_rung(world: World) -> None:
    file = write_sweep(world, HALVED + 'by = "cidre"\n')
    with pytest.raises(UsageError, match="no figure 'cidre', it has exact_match"):
        sweep(file)


def test_a_dry_run_lists_members_and_trains_nothing(world: World) -> None:
    file = write_sweep(world, HALVED)
    done = CliRunner().invoke(app, sweep_command(file, "--dry-run", "--json"))
    planned = json.loads(done.stdout)
    assert [one["name"] for one in planned["members"]] == [
        f"lr-{rate}" for rate in (0.001, 0.003, 0.01, 0.03)
    ]
    assert {one["steps"] for one in planned["members"]} == {20}
    assert planned["fits"]
    assert planned["total_bytes"] > 0
    assert not (world.root / "runs").exists()


@pytest.mark.parametrize(
    "kills", [3, pytest.param(16, marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_a_sweep_killed_again_and_again_ends_with_the_table_of_an_undisturbed_one(
    tmp_path: Path, kills: int
) -> None:
    world = make_world(tmp_path, epochs=4)
    file, other = (write_sweep(world, HALVED, name) for name in ("killed", "undisturbed"))
    kill = [(sweep_command(file), 2 * (number + 1) / kills) for number in range(kills)]
    codes = train_and_kill([*kill, (sweep_command(file), LONG), (sweep_command(other), LONG)])
    assert -signal.SIGKILL in codes
    assert codes[-2:] == [0, 0]
    assert result_of(file) == result_of(other)
    tables = [(world.root / "runs" / one.stem / "sweep.md").read_text() for one in (file, other)]
    assert tables[0] == tables[1]
    for one in result_of(file)["members"]:
        assert_same_run(member_folder(file, one["name"]), member_folder(other, one["name"]))


def test_names_that_leave_the_folder_are_refused(world: World) -> None:
    for name in ("../out", "/tmp/out", "a/b", "..", ".hidden", ""):
        file = write_sweep(world, f"[[member]]\nname = '{name}'\n")
        with pytest.raises(RecipeError, match="a member's name is"):
            sweep(file)
