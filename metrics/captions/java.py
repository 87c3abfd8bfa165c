"""The Java programs of the caption toolkit: whether they can run, and running them."""

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
"""Properties that fix numbers, letter case and text encoding whatever the locale is.

Other locales write decimal commas or other digits, which METEOR's own program cannot read back.
The names are those that `java.util.Locale` reads its default from.
"""

LAST_OPTIONS = "_JAVA_OPTIONS"
"""Environment variable whose options win over those of the command line."""

_PATIENCE_SECONDS = 60.0
"""For `java -version`, which takes well below one."""


def find_java() -> str:
    """The `java` on the PATH, tried.

    Raises:
        MissingToolError: there is none that runs; says how to install it.
    """
    java = shutil.which("java")
    if java is None:
        raise MissingToolError(f"there is no `java` on the PATH: {INSTALL}")
    java_version(java)
    return java


def java_version(java: str) -> int:
    """The major version of a Java program: 8 for "1.8.0_402", 17 for "17.0.15".

    Raises:
        MissingToolError: it does not run, or says no version.
    """
    try:
        done = subprocess.run(
            [java, "-version"], capture_output=True, check=False, timeout=_PATIENCE_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MissingToolError(f"{java} does not run ({error}): {INSTALL}") from error
    said = (done.stderr + done.stdout).decode(errors="replace")
    found = re.search(r'version "(?:1\.)?(\d+)', said)
    if done.returncode != 0 or found is None:
        raise MissingToolError(f"{java} does not run: {INSTALL}")
    return int(found[1])


def java_environment() -> dict[str, str]:
    """The environment of a Java program, in which nothing overrides `ENGLISH`.

    Options of JAVA_TOOL_OPTIONS and JDK_JAVA_OPTIONS are read before the command line's and need no
    care.
    """
    environment = dict(os.environ)
    if LAST_OPTIONS in environment:
        environment[LAST_OPTIONS] = " ".join([environment[LAST_OPTIONS], *ENGLISH])
    return environment


def run_java(
    command: Sequence[str], given: bytes = b"", *, what: str, limit_seconds: float
) -> bytes:
    """What a Java program writes to its standard output, in the locale `ENGLISH`.

    Args:
        command: `java` and its arguments.
        given: its standard input.
        what: it is, for the message, e.g. "the caption tokenizer".
        limit_seconds: after which it is killed.

    Raises:
        EpalmError: it failed or took longer.
    """
    try:
        done = subprocess.run(
            [command[0], *ENGLISH, *command[1:]],
            input=given,
            capture_output=True,
            check=False,
            timeout=limit_seconds,
            env=java_environment(),
        )
    except subprocess.TimeoutExpired as error:
        raise EpalmError(f"{what} was stopped after {limit_seconds:.0f} s") from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace")[-500:]
        raise EpalmError(f"{what} ended with exit code {done.returncode}: {said}")
    return done.stdout
