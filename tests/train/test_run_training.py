"""`epalm-train` on the command line: results, resuming, messages and readers."""

import json
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import PretrainedConfig
from typer.testing import CliRunner

from epalm.cache.maintenance.convert import convert
from epalm.cache.readers.joined import joined_stores
from epalm.cache.store import Store
from epalm.errors import (
    CacheMismatchError,
    EpalmError,
    ModelError,
    RecipeError,
    Stopped,
    UnknownKeyError,
    UnknownSplitError,
    UsageError,
)
from epalm.model.checkpoints.adapter_io import load_run
from epalm.model.checkpoints.run_record import RunRecord
from epalm.tasks.manifest import task as manifest_task
from epalm.train import trainer
from epalm.train.cli import app
from epalm.train.data import datasets
from tests.cache.helpers import describe_media
from tests.train.helpers import World, logged, make_world, start, train_command

LEARN = ["--set", "epochs=15", "--set", "lm_dropout=0.0", "--set", "lr=0.1"]


def run(world: World, *extra: str) -> None:
    result = CliRunner().invoke(app, train_command(world, *extra), catch_exceptions=True)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


def test_training_leaves_a_run_that_loads(world: World) -> None:
    run(world)
    folder = world.root / "runs" / "run"
    assert {path.name for path in folder.iterdir()} >= {
        "adapter.safetensors",
        "last.safetensors",
        "metrics.jsonl",
        "recipe.toml",
        "run.json",
        "versions.json",
        "README.md",
    }
    record = load_run(folder).record
    connectors, prompt = 2 * (8 * 16 + 16), 2 * 16 + 2 * (16 * 16 + 16)
    assert record.trained == connectors + prompt
    assert [line["epoch"] for line in logged(world, "val")] == [1, 2]
    spent = logged(world, "spent")
    assert [line["step"] for line in spent] == [line["step"] for line in logged(world, "val")]
    assert 0 <= spent[0]["seconds"] <= spent[1]["seconds"] < 600
    assert spent[1]["memory"] > 100_000_000  # torch alone takes more
    assert spent[1]["device_memory"] == 0


@pytest.mark.parametrize("option", [[], ["--dry-run"]])
def test_a_store_that_does_not_fit_is_refused_before_the_hub_is_contacted(
    world: World, monkeypatch: pytest.MonkeyPatch, option: list[str]
) -> None:
    monkeypatch.setattr(PretrainedConfig, "get_config_dict", lambda _: pytest.fail("asked the hub"))
    line = {"id": "q", "media": "of-another-set.png", "prompt": "what", "answers": ["red"]}
    (world.data / "train.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(UnknownKeyError, match=r"of-another-set\.png"):
        run(world, "--lm", "nobody/opt-mini", *option)


@pytest.mark.parametrize("name", ["store.h5", "remote.zarr"])
def test_format_and_place_of_the_store_change_no_loss(
    world: World, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    run(world)
    monkeypatch.setenv("EPALM_COPIES", str(world.root / "copies"))
    target = f"{world.root}/{name}" if name == "store.h5" else f"memory:/{world.root}/{name}"
    convert([Store.open(world.store)], target, tick=lambda count, note="": None)
    run(replace(world, store=target), "--name", "other")
    assert logged(world, "train", "other") == logged(world, "train")
    assert RunRecord.load(world.root / "runs/other").features == target


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute", "ignore::DeprecationWarning")  # dynamo's
def test_compiled_layers_train_and_validate_as_plain_ones_do(world: World) -> None:
    run(world, "--set", "compiled=layers", "--set", "lm_dropout=0.0", "--name", "compiled")
    run(world, "--set", "lm_dropout=0.0", "--name", "plain")
    expected = [line["loss"] for line in logged(world, "train", "plain")]
    actual = [line["loss"] for line in logged(world, "train", "compiled")]
    assert actual == pytest.approx(expected, abs=1e-4)
    assert len(logged(world, "val", "compiled")) == 2


def test_the_released_codes_tail_trains_validates_and_loads(world: World) -> None:
    run(world, "--set", "tail=official", "--set", "inject=1:2")
    assert len(logged(world, "val")) == 2
    assert load_run(world.root / "runs/run").model.plan.visual_sees_all


def test_a_tail_that_cannot_generate_is_refused_before_training(world: World) -> None:
    with pytest.raises(UsageError, match=r"tail 'official' lets a visual token.*or use tail"):
        run(world, "--set", "tail=official", "--set", "inject=0:1")
    assert not (world.root / "runs").exists()


def test_training_learns_what_only_the_features_show(world: World) -> None:
    run(world, *LEARN)
    seen = max(line["exact_match"] for line in logged(world, "val"))
    run(world, *LEARN, "--blind", "--name", "blind")
    blind = max(line["exact_match"] for line in logged(world, "val", "blind"))
    assert seen == 1
    assert blind < 0.7


def test_two_runs_give_the_same_losses(world: World) -> None:
    run(world)
    run(world, "--name", "again")
    assert logged(world, "train") == logged(world, "train", "again")


def test_a_killed_run_resumes_with_the_losses_of_an_uninterrupted_one(tmp_path: Path) -> None:
    world = make_world(tmp_path, epochs=40)
    killed = start(train_command(world))
    log = world.root / "runs" / "run" / "metrics.jsonl"
    while not log.is_file() or log.read_text().count('"val"') < 2:
        assert killed.poll() is None, killed.communicate()
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    run(world)
    run(world, "--name", "undisturbed")
    for kind in ("train", "val"):
        assert logged(world, kind) == logged(world, kind, "undisturbed")
    adapters = [tmp_path / "runs" / name / "adapter.safetensors" for name in ("run", "undisturbed")]
    assert adapters[0].read_bytes() == adapters[1].read_bytes()


def test_sigterm_leaves_a_checkpoint_and_exit_code_75(tmp_path: Path) -> None:
    world = make_world(tmp_path, epochs=400)
    stopped = start(train_command(world))
    log = world.root / "runs" / "run" / "metrics.jsonl"
    while not log.is_file():
        assert stopped.poll() is None, stopped.communicate()
        time.sleep(0.02)
    stopped.send_signal(signal.SIGTERM)
    _, errors = stopped.communicate(timeout=60)
    assert stopped.returncode == 75
    assert "run the same command again to resume" in errors
    assert (log.parent / "checkpoint.safetensors").is_file()


def test_a_finished_run_is_not_trained_again(world: World) -> None:
    run(world)
    before = (world.root / "runs/run/metrics.jsonl").read_text()
    again = [word for word in train_command(world) if word != "--quiet"]
    output = " ".join(CliRunner().invoke(app, again).output.split())
    assert (world.root / "runs/run/metrics.jsonl").read_text() == before
    assert "is finished already: nothing is trained; --fresh starts over" in output


def test_a_run_is_not_resumed_with_other_examples(world: World) -> None:
    run(world, "--set", "epochs=1")
    file = world.data / "train.jsonl"
    file.write_text(file.read_text().replace("red", "green"))
    with pytest.raises(UsageError, match=r"other settings \(examples differ\).* --fresh"):
        run(world, "--set", "epochs=1")
    run(world, "--set", "epochs=1", "--fresh")


def test_a_run_of_other_settings_is_not_overwritten(world: World) -> None:
    run(world, "--set", "epochs=1")
    with pytest.raises(UsageError, match=r"other settings .*recipe.toml.* --fresh"):
        run(world)
    run(world, "--fresh")
    assert len(logged(world, "val")) == 2


MISTAKES: list[tuple[list[str], type[EpalmError], str]] = [
    (["--set", "epoch=3"], RecipeError, "unknown key 'epoch', did you mean 'epochs'"),
    (["--set", "epochs=many"], RecipeError, "epochs is 'many', expected int"),
    (["--set", "variant=huge"], UsageError, "variant 'huge' is unknown; known are lin"),
    (["--set", "encoder=vit-b16"], CacheMismatchError, "encoder is 'tiny-vit'.*wants 'vit-b16'"),
    (["--recipe", "none"], RecipeError, "there is no recipe 'none'.*vqa2"),
    (["--task", "vqa3"], UsageError, "'vqa3' is no task"),
]


@pytest.mark.parametrize(("options", "kind", "words"), MISTAKES)
def test_a_mistake_is_named(
    world: World, options: list[str], kind: type[EpalmError], words: str
) -> None:
    with pytest.raises(kind, match=words):
        run(world, *options)


@pytest.mark.parametrize("name", ["official", "paper"])
def test_another_preprocessing_than_the_recipe_expects_is_warned_about_once(
    world: World, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    run(world, "--set", f"preprocessing={name}", "--dry-run")
    (line,) = [message for message in caplog.messages if "preprocessing" in message]
    assert "preprocessing is 'native', the recipe expects 'paper'" in line
    assert "epalm-extract --preprocessing paper --encoder tiny-vit --dataset data" in line
    assert "--set preprocessing=native" in line


def test_the_preprocessing_that_the_recipe_expects_is_not_mentioned(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    run(world, "--set", "preprocessing=native", "--dry-run")
    assert not [message for message in caplog.messages if "preprocessing" in message]


def test_a_wrong_split_is_named(world: World) -> None:
    with pytest.raises(UnknownSplitError, match="train, val"):
        manifest_task(world.data).examples("testt", world.data)


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--set", "epoch=3"], 2, "unknown key 'epoch'"),
        (["--set", "encoder=vit-b16"], 4, "epalm-extract --encoder vit-b16"),
    ],
)
def test_a_mistake_is_one_line_and_an_exit_code(
    world: World, options: list[str], code: int, words: str
) -> None:
    process = start(train_command(world, *options))
    _, errors = process.communicate(timeout=120)
    assert process.returncode == code
    assert len(errors.strip().splitlines()) == 1
    assert words in errors


def test_a_wrong_path_is_found_before_torch_is_imported(world: World) -> None:
    no_torch = "import sys; sys.modules['torch'] = None"
    process = start(train_command(world, "--features", "nowhere.zarr"), before=no_torch)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert len(errors.strip().splitlines()) == 1
    assert "found nothing at nowhere.zarr: run `epalm-extract`" in errors


def test_a_misspelt_language_model_is_found_before_data_is_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(joined_stores, "index_store")
    with pytest.raises(ModelError, match=r"there is no folder .*/opt-mini"):
        run(world, "--lm", "./opt-mini")


def test_messages_distinguish_a_store_of_another_data_set_from_a_truncated_one(
    world: World,
) -> None:
    file = world.data / "val.jsonl"
    lines = file.read_text()
    file.write_text(lines.replace('"44.png"', '"144.png"'))
    place = rf"val in {world.data}: {world.store} \(data, 52 samples\)"
    with pytest.raises(UnknownKeyError, match=rf"{place} lacks 1 of the 12 .* '144.png': extract"):
        run(world)
    file.write_text(lines.replace('.png"', '.jpg"'))
    words = r"the 12 samples .* '40.jpg', the store's first is '0.png': choose .*--features, or if"
    with pytest.raises(UnknownKeyError, match=rf"{place} has no features for {words}"):
        run(world, "--dry-run")


def test_the_record_survives_a_round_trip(world: World) -> None:
    run(world, "--set", "epochs=1")
    folder = world.root / "runs" / "run"
    record = RunRecord.load(folder)
    record.save(folder)
    assert RunRecord.load(folder) == record


@pytest.mark.parametrize("reader", ["mapped", "pread"])
def test_readers_of_one_order_give_the_same_losses(world: World, reader: str) -> None:
    run(world, "--set", "epochs=1")
    run(world, "--set", "epochs=1", "--name", "other", "--reader", reader)
    assert logged(world, "train") == logged(world, "train", "other")


def stop_after(monkeypatch: pytest.MonkeyPatch, epoch: int) -> None:
    plain = trainer.validate_epoch

    def stop(run: trainer.Trainer, done: int) -> None:
        plain(run, done)
        if done + 1 == epoch:
            raise Stopped("enough")

    monkeypatch.setattr(trainer, "validate_epoch", stop)


def test_a_resumed_run_keeps_its_order_whatever_memory_is_free(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(world, "--reader", "stream", "--name", "undisturbed")
    with monkeypatch.context() as changes:
        stop_after(changes, epoch=1)
        with pytest.raises(Stopped):
            run(world, "--reader", "stream")
    run(world)
    record = RunRecord.load(world.root / "runs" / "run")
    assert (record.order, record.pool_blocks) == ("blocks", 4)
    assert logged(world, "train") == logged(world, "train", "undisturbed")


def test_a_run_of_uniform_order_is_not_resumed_with_pools(world: World) -> None:
    run(world, "--set", "epochs=1")
    with pytest.raises(UsageError, match="stream cannot work: the run began with a uniform order"):
        run(world, "--set", "epochs=1", "--reader", "stream")


def test_features_that_fit_into_no_memory_are_streamed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "ram_budget", lambda asked: 1100)
    run(world, "--set", "epochs=1", "--set", "batch_size=2")
    record = RunRecord.load(world.root / "runs" / "run")
    assert (record.order, record.pool_blocks) == ("blocks", 1)


def test_reader_gpu_is_refused_on_a_machine_without_gpu(world: World) -> None:
    with pytest.raises(UsageError, match="--reader gpu cannot work: training runs on the CPU"):
        run(world, "--reader", "gpu")


def change_record(world: World, field: str) -> None:
    """Make the run one that was trained on a store with another value of a field."""
    file = world.root / "runs" / "run" / "run.json"
    record = json.loads(file.read_text())
    record["store"][field] = "other"
    file.write_text(json.dumps(record))


RECORDED = (
    *("dataset", "encoder", "layers", "width", "count", "views", "dtype", "shard_rows", "version"),
    *("fingerprint.preprocessing.name", "fingerprint.weights", "fingerprint.views.seed"),
)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = make_world(tmp_path_factory.mktemp("begun"))
    run(world, "--set", "epochs=1")
    return world


@pytest.mark.parametrize("field", RECORDED)
def test_a_run_is_not_resumed_with_a_store_that_differs_in_any_field(
    begun: World, field: str
) -> None:
    file = begun.root / "runs" / "run" / "run.json"
    before = file.read_text()
    change_record(begun, field)
    with pytest.raises(CacheMismatchError, match=rf"{field} is .*, in training other.*--fresh"):
        run(begun, "--set", "epochs=1")
    assert CacheMismatchError.exit_code == 4
    file.write_text(before)


def test_every_field_of_a_store_is_recorded(begun: World) -> None:
    recorded = RunRecord.load(begun.root / "runs" / "run").store
    assert recorded.keys() - {"fingerprint.preprocessing.name"} <= set(RECORDED)


def test_media_files_changed_since_encoding_are_named_in_one_warning(world: World) -> None:
    for number in range(52):
        (world.data / f"{number}.png").write_bytes(b"photo")
    describe_media(world.store, world.data)
    short = train_command(world, "--limit", "8", "--set", "epochs=1", "--fresh")
    assert "media files checked" not in CliRunner().invoke(app, short).stderr
    (world.data / "5.png").write_bytes(b"another photo")
    output = CliRunner().invoke(app, short).stderr
    assert output.count("media files checked changed") == 1
    assert "1 of 15 media files checked changed" in output
    assert f"epalm-extract verify --media {world.store}" in output
    for photo in world.data.glob("*.png"):
        photo.unlink()
    assert "media files checked" not in CliRunner().invoke(app, short).stderr


def test_the_injection_plan_is_printed_with_one_layer_a_line(world: World) -> None:
    result = CliRunner().invoke(app, train_command(world, "--set", "epochs=1", "--limit", "8"))
    assert [line.split() for line in result.output.splitlines() if "no visual" in line] == [
        ["0", "no", "visual", "token"]
    ]
    assert "\\n" not in result.output
