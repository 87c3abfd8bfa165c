"""What `epalm-serve` prints when it accepts connections."""

import json
import re
from unittest.mock import Mock

import pytest
from typer.testing import CliRunner

from epalm.serve import cli


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_the_address_is_printed_as_text_or_json(
    monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    service = Mock()
    service.model.record.name = "coco"
    monkeypatch.setattr(cli, "load_service", lambda _: service)
    monkeypatch.setattr("epalm.serve.http.app.make_app", Mock())
    monkeypatch.setattr(
        "epalm.serve.http.server.run_server", lambda _, listener, **__: listener.close()
    )
    done = CliRunner().invoke(cli.app, ["coco", "--port", "0", "--quiet", *options])
    assert done.exception is None
    if options:
        shown = json.loads(done.stdout)
        assert shown["run"] == "coco"
        url = shown["url"]
    else:
        start = "serving coco on "
        assert done.stdout.startswith(start)
        url = done.stdout.removeprefix(start).strip()
    assert re.fullmatch(r"http://127\.0\.0\.1:[1-9]\d+", url)
