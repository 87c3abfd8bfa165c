"""Write constraints.txt, or run the tests with other versions of the dependencies.

    python tools/dependencies.py constraints                # resolve again, write constraints.txt
    python tools/dependencies.py test oldest                # the lowest versions in pyproject.toml
    python tools/dependencies.py test newest --python 3.13  # the highest ones, on Python 3.13
    python tools/dependencies.py test constraints -- tests/model -x

`test` creates an environment in a temporary folder, installs the resolved versions, lists them and
runs pytest; its exit code is pytest's. Both commands need uv (`pip install uv`), a development
dependency. The script itself only uses the standard library, so that it runs before anything is
installed.
"""

import argparse
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "constraints.txt"
OLDEST_PYTHON = "3.11"

HEADER = """\
# Exact versions of everything that README's commands install, written by
#     python tools/dependencies.py constraints
# pyproject.toml has the ranges; versions change here when that script is run again.
"""

ALWAYS_TRUE = (
    "python_full_version < '3.14'",
    "(sys_platform == 'darwin' or sys_platform == 'linux')",
)
"""Markers that hold on every supported system; uv copies them from `tool.uv.environments`."""

TORCH_RELEASES = {
    "2.11": ("2.11.0", "0.26.0", "2.11.0"),
    "2.12": ("2.12.1", "0.27.1", "2.11.0"),
    "2.13": ("2.13.0", "0.28.0", "2.11.1"),
    "2.14": ("2.14.1", "0.29.1", "2.11.1"),
}
"""torch release -> versions of torch, torchvision and torchaudio that load together. Their metadata
allows others, which fail with an undefined symbol (torch 2.11.0 and 2.12.1 with torchaudio
2.11.1)."""


def write_constraints() -> None:
    """Resolve all extras for all supported Pythons and platforms, and write constraints.txt."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [f"--extra={name}" for name in project["optional-dependencies"]]
    _uv(
        *("pip", "compile", "pyproject.toml", *extras, "--universal", "--upgrade"),
        *("--python-version", OLDEST_PYTHON, "--no-annotate", "--no-header"),
        *("--no-emit-index-url", "--no-emit-find-links", "--output-file", str(CONSTRAINTS)),
    )
    lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    CONSTRAINTS.write_text(HEADER + "".join(map(_shortened, lines)), encoding="utf-8")


def _shortened(line: str) -> str:
    """A line without the markers of `ALWAYS_TRUE`."""
    requirement, _, marker = line.partition(" ; ")
    left = " and ".join(part for part in marker.split(" and ") if part not in ALWAYS_TRUE)
    return f"{requirement} ; {left}\n" if left else f"{requirement}\n"


def run_tests(versions: str, python: str, pytest_arguments: list[str]) -> int:
    """Install the project with these versions into a new environment and run pytest.

    Args:
        versions: "oldest", "newest", "constraints", or a key of `TORCH_RELEASES`.
        python: version or path of the interpreter.
        pytest_arguments: arguments of pytest.

    Returns:
        The exit code of pytest.
    """
    with tempfile.TemporaryDirectory(prefix="epalm-versions-") as folder:
        environment = Path(folder) / "venv"
        interpreter = str(environment / "bin" / "python")
        _uv("venv", "--quiet", "--seed", "--python", python, str(environment))
        install = ["pip", "install", "--quiet", "--python", interpreter]
        _uv(*install, *_resolution(versions), "--editable", ".[dev]")
        _uv("pip", "list", "--python", interpreter)
        tests = [interpreter, "-m", "pytest", *pytest_arguments]
        return subprocess.run(tests, cwd=ROOT, check=False).returncode


def _resolution(versions: str) -> list[str]:
    if versions == "oldest":
        return ["--resolution", "lowest-direct"]
    if versions == "newest":
        return ["--resolution", "highest"]
    if versions == "constraints":
        return ["--constraint", str(CONSTRAINTS)]
    torch, torchvision, torchaudio = TORCH_RELEASES[versions]
    return [f"torch=={torch}", f"torchvision=={torchvision}", f"torchaudio=={torchaudio}"]


def _uv(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "uv", *arguments], cwd=ROOT, check=True)


def _split_at_dashes(arguments: list[str]) -> tuple[list[str], list[str]]:
    """The arguments before and after the first "--"."""
    if "--" not in arguments:
        return arguments, []
    index = arguments.index("--")
    return arguments[:index], arguments[index + 1 :]


def main(arguments: list[str]) -> int:
    """Parse and run a command line; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("constraints", help="write constraints.txt")
    test = commands.add_parser("test", help="run pytest with other versions")
    test.add_argument("versions", choices=["oldest", "newest", "constraints", *TORCH_RELEASES])
    test.add_argument("--python", default=OLDEST_PYTHON, help="interpreter: a version or a path")
    test.epilog = "Arguments after -- are passed to pytest."
    # argparse accepts no positional arguments after an option, so pytest's are split off first.
    own, pytest_arguments = _split_at_dashes(arguments)
    options = parser.parse_args(own)
    if options.command == "constraints":
        write_constraints()
        return 0
    return run_tests(options.versions, options.python, pytest_arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
