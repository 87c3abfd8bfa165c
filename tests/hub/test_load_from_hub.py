"""A run on the hub answers like the local one: `epalm.load("user/name")` and `epalm-ask`."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

import epalm
from epalm.ask.cli import app
from epalm.errors import HubError, MissingFileError
from epalm.hub.push import planned_upload, push
from tests.ask.small_runs import small_run
from tests.hub.stand_in import Hub

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


def test_a_run_on_the_hub_answers_as_the_local_one(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = small_run("image")
    push(planned_upload(str(run.run), "user/scenes", checkpoints=False), private=False)
    monkeypatch.chdir(tmp_path)
    model = epalm.load("user/scenes", device="cpu")
    for one in run.predictions[:4]:
        assert model.answer(run.file(one), one["prompt"]) == one["prediction"]
    one = run.predictions[0]
    words = ["user/scenes", str(run.file(one)), one["prompt"], "--device", "cpu", "--quiet"]
    assert CliRunner().invoke(app, words).stdout == f"{one['prediction']}\n"
    with pytest.raises(HubError, match="user/nothing"):
        epalm.load("user/nothing")


def test_a_name_in_an_existing_folder_is_no_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    with pytest.raises(MissingFileError, match=r"neither runs/absent nor .* has a run\.json"):
        epalm.load("runs/absent")
