"""Build a release from HEAD and test it as its users get it.

    python tools/release.py OUT                    # build, describe, test, audit
    python tools/release.py OUT -- -x tests/cache  # with arguments of pytest

OUT gets the sdist and the wheel, a software bill of materials (CycloneDX JSON) and the licenses of
everything that the wheel installs with constraints.txt. The tests of the sdist then run against the
wheel in a new environment, from an empty folder, where the checkout cannot be imported. Last comes
an audit of the installed versions for known vulnerabilities, which needs the advisory database: it
is reported as not done where that cannot be reached. Needs git and uv; all other tools run in
environments of their own.
"""

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

PYTHON = "3.11"

NOT_AUDITED = "could not be audited"
"""What pip-audit says of a package of which the index does not have the advisories."""

AUDIT_UNREACHABLE = ("ConnectionError", "Max retries exceeded", "NameResolutionError")
"""What pip-audit says where the advisory database cannot be reached."""


def build(out: Path, work: Path) -> tuple[Path, Path]:
    """Build the sdist, and the wheel from it, from a clone of HEAD.

    Args:
        out: folder for both, empty or absent.
        work: folder for the clone.

    Returns:
        Paths of the sdist and the wheel.
    """
    clone = work / "clone"
    _run("git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(clone))
    _tool("build", "pyproject-build", "--outdir", str(out), str(clone))
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    _tool("twine", "twine", "check", "--strict", str(sdist), str(wheel))
    return sdist, wheel


def environment(wheel: Path, folder: Path, *, extra: str = "") -> Path:
    """The interpreter of a new environment with the wheel, its extra and the tested versions."""
    _run("uv", "venv", "--quiet", "--seed", "--python", PYTHON, str(folder))
    python = folder / "bin" / "python"
    constraints = str(ROOT / "constraints.txt")
    wanted = f"epalm{f'[{extra}]' if extra else ''} @ {wheel.resolve().as_uri()}"
    _run("uv", "pip", "install", "--quiet", "--python", str(python), "-c", constraints, wanted)
    return python


def describe(python: Path, wheel: Path, out: Path) -> None:
    """Write the bill of materials and the licenses of what the environment has installed."""
    stem = "-".join(wheel.name.split("-")[:2])
    bill, licenses = out / f"{stem}.cdx.json", out / f"{stem}-licenses.md"
    _tool(
        "cyclonedx-bom", "cyclonedx-py", "environment", str(python), "--of", "JSON", "-o", str(bill)
    )
    options = ("--python", str(python), "--format", "markdown", "--with-urls", "--output-file")
    _tool("pip-licenses", "pip-licenses", *options, str(licenses))


def test(sdist: Path, python: Path, work: Path, arguments: Sequence[str]) -> int:
    """Run the tests of the sdist against the installed wheel; the exit code of pytest."""
    with tarfile.open(sdist) as archive:
        archive.extractall(work, filter="data")
    folder = work / sdist.name.removesuffix(".tar.gz")
    where = "import epalm; print(epalm.__file__)"
    found = subprocess.run(
        [python, "-c", where], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()
    if not Path(found).is_relative_to(python.parents[1]):
        sys.exit(f"the tests would import {found}, not the wheel in {python.parents[1]}")
    isolated = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [str(python), "-m", "pytest", "-q", *arguments]
    return subprocess.run(command, cwd=folder, env=isolated, check=False).returncode


def audit(python: Path) -> int:
    """Compare the versions with the advisory database; 0 also where that is unreachable."""
    packages = python.parents[1] / "lib" / f"python{PYTHON}" / "site-packages"
    command = ["uv", "tool", "run", "pip-audit", "--path", str(packages)]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    sys.stdout.write(f"{result.stdout}\n{result.stderr}\n")
    if missing := result.stdout.count(NOT_AUDITED):
        sys.stdout.write(
            f"audit NOT DONE for {missing} packages: the index lacks their advisories\n"
        )
    if result.returncode and any(sign in result.stderr for sign in AUDIT_UNREACHABLE):
        sys.stdout.write("audit NOT DONE: the advisory database cannot be reached\n")
        return 0
    return result.returncode


def _tool(package: str, command: str, *arguments: str) -> None:
    """Run a command of a package from the index, in an environment of its own."""
    _run("uv", "tool", "run", "--from", package, command, *arguments)


def _run(*command: str) -> None:
    sys.stdout.write(f"+ {' '.join(command)}\n")
    sys.stdout.flush()
    subprocess.run(command, check=True)


def main() -> int:
    """Parse the command line and do all of it; the exit code."""
    parser = argparse.ArgumentParser(
        description="Build a release from HEAD and test it as its users get it."
    )
    parser.add_argument("out", type=Path, help="folder of the release, empty or absent")
    parser.add_argument("pytest", nargs="*", help="arguments of pytest, after --")
    options = parser.parse_args()
    out: Path = options.out.resolve()
    if out.exists() and any(out.iterdir()):
        sys.exit(f"{out} is not empty: name a new folder")
    with tempfile.TemporaryDirectory(prefix="epalm-release-") as folder:
        work = Path(folder)
        sdist, wheel = build(out, work)
        describe(environment(wheel, work / "plain"), wheel, out)
        tested = environment(wheel, work / "tested", extra="dev")
        return test(sdist, tested, work, options.pytest) or audit(tested)


if __name__ == "__main__":
    sys.exit(main())
