"""Timing of variants in interleaved rounds, and the table of results.

On a shared machine, speed drifts by up to a factor of two. All variants therefore run one after the
other within each round, in random order, and only ratios within the same round are compared. The
table has the median over the rounds, with quartiles.
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
"""Libraries whose versions are part of a result."""

FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
"""Flags of /proc/cpuinfo that decide how fast a matrix product is."""

TABLE_COLUMNS = 130
"""Width of the table if the output is not a terminal."""

Rounds = Annotated[int, typer.Option(min=1, help="Number of rounds.")]
Folder = Annotated[
    Path | None,
    typer.Option(help="Folder for temporary data, which is deleted afterwards.", file_okay=False),
]
JsonFile = Annotated[
    Path | None, typer.Option("--json", help="Also write the result to this JSON file.")
]


@dataclass(frozen=True)
class Sample:
    """Measurement of one run of one variant.

    Attributes:
        work: amount of work, e.g. the number of rows, bytes or images.
        wall: wall-clock seconds.
        cpu: CPU seconds of this process, all threads together.
    """

    work: float
    wall: float
    cpu: float


class Stopwatch:
    """Context manager that measures wall-clock and CPU time."""

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
        """The measurement, for this amount of work."""
        return Sample(work, self.wall, self.cpu)


Variant: TypeAlias = Callable[[int], Sample]
"""Function that runs a variant once; its argument is the number of the round."""

Samples: TypeAlias = dict[str, list[Sample]]


@dataclass(frozen=True)
class Quartiles:
    """First quartile, median and third quartile of the rounds."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Self:
        """Quartiles of the values."""
        return cls(*np.percentile(values, [25, 50, 75]).tolist())

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.low:.3g} to {self.high:.3g})"


@dataclass(frozen=True)
class Line:
    """A line of the table.

    Attributes:
        what: name of the variant or the quantity.
        value: median rate, or value of the quantity.
        unit: unit of `value`.
        ratio: rate relative to the reference in the same round, in wall-clock time.
        cpu_ratio: the same in CPU time of the measuring process.
        target: target as text; empty if there is none.
        met: whether the target is met; None without a target.
    """

    what: str
    value: float
    unit: str
    ratio: Quartiles | None = None
    cpu_ratio: Quartiles | None = None
    target: str = ""
    met: bool | None = None


def interleave(variants: Mapping[str, Variant], rounds: int, *, seed: int = 0) -> Samples:
    """Run all variants once per round, in a new random order each round."""
    random = np.random.default_rng(seed)
    names = list(variants)
    samples: Samples = {name: [] for name in names}
    for number in range(rounds):
        for index in random.permutation(len(names)).tolist():
            samples[names[index]].append(variants[names[index]](number))
    return samples


def compare(
    samples: Samples, *, reference: str, unit: str, targets: Mapping[str, float]
) -> list[Line]:
    """Rate of each variant, and its ratio to the rate of the reference.

    Args:
        samples: samples of every variant, one per round.
        reference: name of the reference variant.
        unit: unit of the rate.
        targets: name of a variant -> smallest acceptable ratio.
    """
    lines = []
    for name, group in samples.items():
        rate = float(np.median([sample.work / sample.wall for sample in group]))
        if name == reference:
            lines.append(Line(name, rate, unit))
            continue
        ratio = ratios(group, samples[reference])
        cpu_ratio = cpu_ratios(group, samples[reference])
        least = targets.get(name)
        target = f"ratio >= {least:g}" if least else ""
        met = ratio.median >= least if least else None
        lines.append(Line(name, rate, unit, ratio, cpu_ratio, target, met))
    return lines


def cpu_rate_lines(
    samples: Samples, *, reference: str, unit: str, targets: Mapping[str, float]
) -> list[Line]:
    """The same as `compare` with rates and targets in CPU time of the measuring process."""
    by_cpu = {
        name: [Sample(sample.work, sample.cpu, sample.cpu) for sample in group]
        for name, group in samples.items()
    }
    return compare(by_cpu, reference=reference, unit=unit, targets=targets)


def ratios(samples: list[Sample], reference: list[Sample]) -> Quartiles:
    """Ratios of wall-clock rates, round by round."""
    pairs = zip(samples, reference, strict=True)
    return Quartiles.of([each.work / each.wall * base.wall / base.work for each, base in pairs])


def cpu_ratios(samples: list[Sample], reference: list[Sample]) -> Quartiles:
    """Ratios of CPU-time rates, round by round."""
    pairs = zip(samples, reference, strict=True)
    return Quartiles.of([each.work / each.cpu * base.cpu / base.work for each, base in pairs])


def at_most(what: str, value: float, unit: str, *, limit: float) -> Line:
    """A line about a quantity that must not exceed a limit."""
    return Line(what, value, unit, target=f"<= {limit:.4g}", met=value <= limit)


@dataclass(frozen=True)
class Result:
    """The results of a benchmark, with the machine, command and commit that reproduce them."""

    question: str
    lines: list[Line]
    machine: dict[str, str] = field(default_factory=lambda: machine())
    command: str = field(default_factory=lambda: command())
    commit: str = field(default_factory=lambda: commit())

    def publish(self, file: Path | None) -> None:
        """Print the table, and write it to a JSON file if one is given."""
        terminal = Console()
        console = terminal if terminal.is_terminal else Console(width=TABLE_COLUMNS)
        console.print(self.table())
        console.print(", ".join(f"{name} {value}" for name, value in self.machine.items()))
        console.print(f"{self.command}; commit {self.commit}", markup=False)
        if file:
            file.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    def table(self) -> Table:
        """The lines as a table."""
        columns = ("", "median", "unit", "ratio (quartiles)", "by CPU time", "target", "")
        shown = Table(*columns, title=self.question)
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
    """CPU, its vector instructions, memory, load, and versions of Python and libraries."""
    fields = _cpu_fields()
    flags = fields.get("flags", "").split()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": fields.get("model name") or platform.processor() or platform.machine(),
        "features": " ".join(flag for flag in FEATURES if flag in flags),
        "cores": str(os.cpu_count()),
        "memory_gb": f"{memory / 1e9:.0f}",
        "load": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS", "unset"),
        "python": platform.python_version(),
        **{library: version(library) for library in LIBRARIES},
    }


def command() -> str:
    """The command line of this program."""
    script = Path(sys.argv[0])
    return shlex.join(["python", "-m", f"{script.parent.name}.{script.stem}", *sys.argv[1:]])


def commit() -> str:
    """`git describe` of the measured code; "none" where it is not in a checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return "none"
    words = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(
        words, cwd=root, check=True, capture_output=True, text=True
    ).stdout.strip()


def _cpu_fields() -> dict[str, str]:
    """What Linux says about the first core; empty on other systems."""
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return {}
    first = info.read_text(encoding="utf-8").partition("\n\n")[0]
    fields = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in fields}
