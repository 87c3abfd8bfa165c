"""The table of language models in the documentation lists the families that the code has."""

import re

from epalm.model.families.family import FAMILIES
from tests.model.families.zoo import CONFIGS
from tests.repository import ROOT

PAGE = (ROOT / "docs" / "reference" / "language_models.md").read_text(encoding="utf-8")


def test_the_promised_families_are_those_with_an_entry_and_with_tests() -> None:
    rows = re.findall(r"^\| (.+?) \| .+? \| yes \|", PAGE, re.MULTILINE)
    promised = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert promised == set(FAMILIES)
    assert promised == {kind for kind, _ in CONFIGS.values()}
