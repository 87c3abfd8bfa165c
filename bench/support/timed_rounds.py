"""Variants of one task measured in interleaved rounds, and the table that comes out.

On a shared machine the speed of everything drifts by a factor of two. Variants are therefore run
one after the other within each round, in random order, and only ratios of samples of the same round
are compared: the median over the rounds, with quartiles.
"""

import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Annotated, Self, TypeAlias

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

LIBRARIES = ("torch", "numpy", "zarr", "h5py", "timm")
"""Whose versions a result names."""

TABLE_COLUMNS = 130
"""Width of the table where the output is no terminal."""

Rounds = Annotated[int, typer.Option(min=1, help="Rounds of all variants.")]
Folder = Annotated[
    Path | None, typer.Option(help="Where scratch data goes, deleted afterwards.", file_okay=False)
]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Also write the result there.")]


@dataclass(frozen=True)
class Sample:
    """One run of one variant.

    Attributes:
        work: units done (rows, bytes, photos).
        wall: seconds by the clock.
        cpu: seconds of this process on a core, all threads together.
    """

    work: float
    wall: float
    cpu: float


class Watch:
    """Measures the `with` block it is used in."""

    def __enter__(self) -> Self:
        """Start."""
        self._started = time.perf_counter(), time.process_time()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop."""
        self.wall = time.perf_counter() - self._started[0]
        self.cpu = time.process_time() - self._started[1]

    def sample(self, work: float) -> Sample:
        """What was measured, for so many units of work."""
        return Sample(work, self.wall, self.cpu)


Variant: TypeAlias = Callable[[int], Sample]
"""Measured once per round; called with the number of the round."""

Samples: TypeAlias = dict[str, list[Sample]]


@dataclass(frozen=True)
class Quartiles:
    """First quartile, median and third quartile of the rounds."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Self:
        """Of some numbers."""
        return cls(*np.percentile(values, [25, 50, 75]).tolist())

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.low:.3g} to {self.high:.3g})"


@dataclass(frozen=True)
class Line:
    """A line of the table.

    Attributes:
        what: the variant or the quantity.
        value: median rate, or the quantity itself.
        unit: of `value`.
        ratio: of the rate to the reference's in the same round, by the clock.
        cpu_ratio: likewise by the processor time of the measuring process.
        target: what is wanted, as text; empty if nothing is.
        met: whether it is so; None without a target.
    """

    what: str
    value: float
    unit: str
    ratio: Quartiles | None = None
    cpu_ratio: Quartiles | None = None
    target: str = ""
    met: bool | None = None


def interleave(variants: Mapping[str, Variant], rounds: int, *, seed: int = 0) -> Samples:
    """Run all variants once per round, each round in a random order of its own."""
    random = np.random.default_rng(seed)
    names = list(variants)
    samples: Samples = {name: [] for name in names}
    for number in range(rounds):
        for place in random.permutation(len(names)).tolist():
            samples[names[place]].append(variants[names[place]](number))
    return samples


def compare(
    samples: Samples, *, reference: str, unit: str, targets: Mapping[str, float]
) -> list[Line]:
    """Each variant's rate and its ratio to the reference's.

    Args:
        samples: of every variant, one per round.
        reference: name of the variant that the others are divided by.
        unit: of the rate.
        targets: name -> the least ratio that is wanted.
    """
    lines = []
    for name, found in samples.items():
        rate = float(np.median([one.work / one.wall for one in found]))
        if name == reference:
            lines.append(Line(name, rate, unit))
            continue
        ratio = ratios(found, samples[reference])
        cpu_ratio = cpu_ratios(found, samples[reference])
        least = targets.get(name)
        target = f"ratio >= {least:g}" if least else ""
        met = ratio.median >= least if least else None
        lines.append(Line(name, rate, unit, ratio, cpu_ratio, target, met))
    return lines


def ratios(found: list[Sample], reference: list[Sample]) -> Quartiles:
    """Rates by the clock, divided round by round."""
    pairs = zip(found, reference, strict=True)
    return Quartiles.of([one.work / one.wall * other.wall / other.work for one, other in pairs])


def cpu_ratios(found: list[Sample], reference: list[Sample]) -> Quartiles:
    """Rates by processor time, divided round by round."""
    pairs = zip(found, reference, strict=True)
    return Quartiles.of([one.work / one.cpu * other.cpu / other.work for one, other in pairs])


def at_most(what: str, value: float, unit: str, *, limit: float) -> Line:
    """A quantity that must not exceed a limit."""
    return Line(what, value, unit, target=f"<= {limit:.4g}", met=value <= limit)


@dataclass(frozen=True)
class Result:
    """The answer to one question, with all that is needed to ask it again."""

    question: str
    lines: list[Line]
    machine: dict[str, str] = field(default_factory=lambda: machine())
    command: str = field(default_factory=lambda: command())
    commit: str = field(default_factory=lambda: commit())

    def publish(self, file: Path | None) -> None:
        """Print the table; write the JSON file if there is to be one."""
        terminal = Console()
        console = terminal if terminal.is_terminal else Console(width=TABLE_COLUMNS)
        console.print(self.table())
        console.print(", ".join(f"{name} {value}" for name, value in self.machine.items()))
        console.print(f"{self.command}; commit {self.commit}", markup=False)
        if file:
            file.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    def table(self) -> Table:
        """The lines for people."""
        heads = ("", "median", "unit", "ratio (quartiles)", "by CPU time", "target", "")
        shown = Table(*heads, title=self.question)
        for line in self.lines:
            verdict = "" if line.met is None else "met" if line.met else "MISSED"
            shown.add_row(
                line.what,
                f"{line.value:,.4g}" if line.value < 1e4 else f"{line.value:,.0f}",
                line.unit,
                str(line.ratio or ""),
                f"{line.cpu_ratio.median:.3g}" if line.cpu_ratio else "",
                line.target,
                verdict,
            )
        return shown


def machine() -> dict[str, str]:
    """Processor, cores, memory, load now, versions."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": _cpu_model(),
        "cores": str(os.cpu_count()),
        "memory_gb": f"{memory / 1e9:.0f}",
        "load": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS", "unset"),
        "python": platform.python_version(),
        **{library: version(library) for library in LIBRARIES},
    }


def command() -> str:
    """How this program was called."""
    script = Path(sys.argv[0])
    return shlex.join(["python", "-m", f"{script.parent.name}.{script.stem}", *sys.argv[1:]])


def commit() -> str:
    """`git describe` of the tree that was measured."""
    root = Path(__file__).resolve().parents[2]
    words = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(
        words, cwd=root, check=True, capture_output=True, text=True
    ).stdout.strip()


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
