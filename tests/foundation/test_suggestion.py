from epalm.plugins import suggestion


def test_a_near_name_is_suggested_before_all_known_ones() -> None:
    assert suggestion("smal", ["gqa", "small"]) == "did you mean small? known are gqa, small"


def test_without_a_near_name_the_known_ones_are_listed() -> None:
    assert suggestion("x", iter(["gqa", "small"])) == "known are gqa, small"
