"""Java programs give the same numbers and tokens in every locale."""

from pathlib import Path

import pytest

from epalm.metrics.captions.caption_metrics import tokenize, tokenized
from epalm.metrics.captions.java import find_java, run_java
from epalm.metrics.captions.meteor import score_meteor
from tests.metrics.toolkit import captioned, needs_java, predicted

PRINTED = """
public class Printed {
    public static void main(String[] arguments) {
        System.out.print(String.format("%.2f %d ", 1234.5, 7) + "INTERIOR".toLowerCase()
            + " " + java.nio.charset.Charset.defaultCharset());
    }
}
"""

LOCALES = [
    ("JAVA_TOOL_OPTIONS", "-Duser.language=it -Duser.country=IT"),
    ("JAVA_TOOL_OPTIONS", "-Duser.language.format=it -Duser.country.format=IT"),
    ("JAVA_TOOL_OPTIONS", "-Duser.region=EG -Duser.language=ar -Duser.extensions=u-nu-arab"),
    ("JDK_JAVA_OPTIONS", "-Duser.language=tr -Duser.country=TR"),
    ("_JAVA_OPTIONS", "-Duser.language=tr -Duser.country=TR -Dfile.encoding=ISO-8859-1"),
    ("LC_ALL", "it_IT.UTF-8"),
]


@pytest.mark.slow  # Java compiles a file first
@needs_java
@pytest.mark.parametrize(("variable", "value"), LOCALES)
def test_numbers_and_letters_do_not_depend_on_the_locale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    file = tmp_path / "Printed.java"
    file.write_text(PRINTED)
    monkeypatch.setenv(variable, value)
    written = run_java([find_java(), str(file)], program="the test program", limit_seconds=60)
    assert written == b"1234.50 7 interior UTF-8"


@pytest.mark.slow  # METEOR loads its tables
@needs_java
@pytest.mark.parametrize(("variable", "value"), LOCALES[::4])
def test_meteor_does_not_depend_on_the_decimal_comma_of_the_locale(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    predictions = predicted(
        "a man rides a horse on the beach",
        "two dogs run in the grass",
        "a plate of food on a table",
    )
    examples = [
        captioned("0", "a man riding a horse along the beach", "person on horse near water"),
        captioned("1", "two dogs are running through grass", "dogs play in a field"),
        captioned("2", "a plate with food", "some food on a white plate"),
    ]
    scores = score_meteor(*tokenized(predictions, examples))
    assert round(100 * scores.values["METEOR"], 2) == 43.19


@needs_java
def test_captions_are_tokenized_the_same_in_every_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(*LOCALES[4])
    assert tokenize(["An INTERIOR: a café."]) == ["an interior a café"]
