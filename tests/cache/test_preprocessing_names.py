"""The names of preprocessing that users write, and those in fingerprints."""

import pytest

from epalm.cache.preprocessing_names import recorded_preprocessing, written_preprocessing


@pytest.mark.parametrize(
    ("written", "recorded", "again"),
    [
        ("paper", "official", "paper"),
        ("official", "official", "paper"),
        ("native", "native", "native"),
        ("my_module:resize", "my_module:resize", "my_module:resize"),
    ],
)
def test_the_paper_has_its_earlier_name_in_fingerprints(
    written: str, recorded: str, again: str
) -> None:
    assert recorded_preprocessing(written) == recorded
    assert written_preprocessing(recorded) == again
