"""Finding Java and running the Java programs of the caption toolkit."""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence

from epalm.errors import EpalmError, MissingToolError

INSTALL = (
    "install Java with `apt-get install default-jre-headless`, `brew install openjdk` or "
    "`conda install -c conda-forge openjdk`"
)

ENGLISH = (
    "-Duser.language=en",
    "-Duser.country=US",
    "-Duser.region=US",
    *(f"-Duser.{name}=" for name in ("script", "variant", "extensions")),
    *(f"-Duser.language.{use}=en" for use in ("format", "display")),
    *(f"-Duser.country.{use}=US" for use in ("format", "display")),
    *(
        f"-Duser.{n}.{u}="
        for n in ("script", "variant", "extensions")
        for u in ("format", "display")
    ),
    "-Dfile.encoding=UTF-8",
)
"""Properties that fix number format, letter case and encoding independently of the locale.

Some locales write decimal commas or other digits, which METEOR's program cannot read back. The
names are those from which `java.util.Locale` reads its default.
"""

LAST_OPTIONS = "_JAVA_OPTIONS"
"""Environment variable whose options override those of the command line."""

_VERSION_LIMIT_SECONDS = 60.0
"""Time limit of `java -version`, which takes well below a second."""


def find_java() -> str:
    """Path of the `java` on the PATH, after a check that it runs.

    Raises:
        MissingToolError: there is no `java` that runs; the message says how to install it.
    """
    java = shutil.which("java")
    if java is None:
        raise MissingToolError(f"there is no `java` on the PATH: {INSTALL}")
    java_version(java)
    return java


def java_version(java: str) -> int:
    """The major version of a `java`: 8 for "1.8.0_402", 17 for "17.0.15".

    Raises:
        MissingToolError: it does not run, or prints no version.
    """
    try:
        completed = subprocess.run(
            [java, "-version"], capture_output=True, check=False, timeout=_VERSION_LIMIT_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MissingToolError(f"{java} does not run ({error}): {INSTALL}") from error
    output = (completed.stderr + completed.stdout).decode(errors="replace")
    version = re.search(r'version "(?:1\.)?(\d+)', output)
    if completed.returncode != 0 or version is None:
        raise MissingToolError(f"{java} does not run: {INSTALL}")
    return int(version[1])


def java_environment() -> dict[str, str]:
    """Environment variables for a Java program, in which nothing overrides `ENGLISH`.

    Options in JAVA_TOOL_OPTIONS and JDK_JAVA_OPTIONS are overridden by the command line, so they
    are left alone.
    """
    environment = dict(os.environ)
    if LAST_OPTIONS in environment:
        environment[LAST_OPTIONS] = " ".join([environment[LAST_OPTIONS], *ENGLISH])
    return environment


def run_java(
    command: Sequence[str], stdin: bytes = b"", *, program: str, limit_seconds: float
) -> bytes:
    """Run a Java program in the locale `ENGLISH`; its standard output.

    Args:
        command: `java` and its arguments.
        stdin: standard input of the program.
        program: name of the program for error messages, e.g. "the caption tokenizer".
        limit_seconds: time limit, after which the program is killed.

    Raises:
        EpalmError: the program failed or exceeded the limit.
    """
    try:
        completed = subprocess.run(
            [command[0], *ENGLISH, *command[1:]],
            input=stdin,
            capture_output=True,
            check=False,
            timeout=limit_seconds,
            env=java_environment(),
        )
    except subprocess.TimeoutExpired as error:
        raise EpalmError(f"{program} was stopped after {limit_seconds:.0f} s") from error
    if completed.returncode != 0:
        errors = completed.stderr.decode(errors="replace")[-500:]
        raise EpalmError(f"{program} ended with exit code {completed.returncode}: {errors}")
    return completed.stdout
