"""README matches the repository."""

import re
import tomllib

from tests.repository import PACKAGES, ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]


def marked(name: str) -> list[str]:
    actual = re.findall(rf"<!-- {name} -->\n```bash\n(.*?)```", README, flags=re.DOTALL)
    return [line for block in actual for line in block.splitlines()]


def test_demo_and_tests_are_one_command_each() -> None:
    assert [len(marked(name)) for name in ("demo", "test")] == [1, 1]
    assert marked("demo")[0].endswith("/epalm-demo")
    assert marked("test")[0].endswith("pytest -n auto")


def test_both_commands_install_the_exact_versions_that_were_tested() -> None:
    commands = [*marked("demo"), *marked("test")]
    assert [command.count("pip install --quiet -c constraints.txt ") for command in commands] == [
        1,
        1,
    ]


def test_the_first_command_is_by_line_twelve() -> None:
    assert README.splitlines().index("```bash") < 12


def test_every_command_is_named() -> None:
    assert [script for script in SCRIPTS if script not in README] == []


def test_the_tree_names_every_package_and_nothing_that_is_not_there() -> None:
    (tree,) = re.findall(r"```text\n(.*?)```", README, flags=re.DOTALL)
    folders = [line.split()[0].rstrip("/") for line in tree.splitlines()]
    assert [folder for folder in folders if not (ROOT / folder).is_dir()] == []
    assert {*PACKAGES} - {"epalm"} <= {*folders}
