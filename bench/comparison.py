"""How long do four ways of training a captioner take to reach the same validation loss?

    OMP_NUM_THREADS=1 python -m bench.comparison --data ../shared/data/flickr8k \
        --vit ../shared/models/vit-ti16-tinyimagenet/model.safetensors \
        --lm ../shared/models/opt-mini --out comparison

Every round trains every way once, each in a process of its own, in random order, and encodes the
photos once with `epalm-extract`. A training ends at the validation loss --until. Finished trainings
are lines of OUT/curves.jsonl; re-run the same command to resume. The ways are in
`bench.support.comparison`: the official implementation's, a script of one file (with the encoder in
every step, and with its output kept in memory), a projector of all patch tokens, and epalm.
"""

import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from bench.support import official_step
from bench.support.comparison import chart, plain_script, ways
from bench.support.comparison.curves import Curve, seconds_to
from bench.support.comparison.ways import Budget
from bench.support.peak_memory import peak_memory_of
from bench.support.timed_rounds import JsonFile, Line, Quartiles, Result

OURS, EXTRACTION = "epalm", "epalm: extraction"


@dataclass(frozen=True)
class Way:
    """A way of training.

    Attributes:
        entry: name of its function in `bench.support.comparison.ways`.
        options: further arguments of that function.
        lr: learning rate, the best of those in docs/explanation/comparison.md.
        files: source files that a user of it writes.
        least: smallest ratio of its CPU time to that of epalm that is the target; 0 for none.
    """

    entry: str
    options: tuple[str, ...]
    lr: float
    files: tuple[str, ...]
    least: float = 0.0


_SCRIPT = (str(plain_script.__file__),)
_OFFICIAL = (str(official_step.__file__), str(ways.__file__))

WAYS = {
    "official implementation": Way("official", (), 1e-2, _OFFICIAL, 6.0),
    "one-file script": Way("plain", ("--connector=cls",), 1e-2, _SCRIPT, 2.5),
    "one-file script, cached": Way("plain", ("--connector=cls", "--cache"), 1e-2, _SCRIPT),
    "projector of patches": Way("plain", ("--connector=patches",), 1e-2, _SCRIPT),
    OURS: Way("cached", (), 1e-2, ()),
}


@dataclass(frozen=True)
class Training:
    """A finished training.

    Attributes:
        name: name of the way.
        round: number of the round, which is also the seed.
        curve: steps, CPU seconds so far and validation loss, at each validation.
        peak: peak resident memory of the process in bytes.
    """

    name: str
    round: int
    curve: Curve
    peak: int


@dataclass(frozen=True)
class Plan:
    """What is compared, and where.

    Attributes:
        out: folder of all results.
        budget: budget of every way, whose learning rate and seed are replaced; validations come
            after a multiple of ten steps.
    """

    out: Path
    budget: Budget

    @property
    def file(self) -> Path:
        """File with a line for every finished training."""
        return self.out / "curves.jsonl"

    def train(self, name: str, number: int) -> Training:
        """Train one way in a new process.

        Raises:
            subprocess.CalledProcessError: it failed.
        """
        if name == EXTRACTION:
            seconds = self.extract()
            return Training(name, number, [(0, seconds, float("nan"))], 0)
        way = WAYS[name]
        changed = {"lr": way.lr, "seed": number}
        options = [str(self.out / f"run-{number}")] if name == OURS else way.options
        entry = f"bench.support.comparison.ways:{way.entry}"
        peak = peak_memory_of(entry, asdict(self.budget) | changed, *options)
        return Training(name, number, [tuple(point) for point in peak.answer], peak.nbytes)

    def extract(self) -> float:
        """CPU seconds of `epalm-extract` over all photos; it makes the store anew."""
        shutil.rmtree(self.budget.features, ignore_errors=True)
        words = [
            "--dataset=flickr8k",
            f"--encoder={ways.ENCODER}",
            f"--data-root={self.budget.data}",
        ]
        words += [f"--weights={self.budget.vit}", f"--out={self.budget.features}"]
        command = [str(Path(sys.executable).with_name("epalm-extract")), *words]
        before = _children_seconds()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return _children_seconds() - before

    def finished(self) -> list[Training]:
        """Read the finished trainings."""
        lines = self.file.read_text().splitlines() if self.file.is_file() else []
        return [Training(**json.loads(line)) for line in lines]

    def run(self, rounds: int) -> list[Training]:
        """Train what is not finished yet; all trainings."""
        self.out.mkdir(parents=True, exist_ok=True)
        finished = self.finished()
        for number in range(rounds):
            order = np.random.default_rng(number).permutation(list(WAYS)).tolist()
            for name in [EXTRACTION, *order]:
                if not any((one.name, one.round) == (name, number) for one in finished):
                    finished.append(self.train(name, number))
                    with self.file.open("a") as log:
                        log.write(json.dumps(asdict(finished[-1])) + "\n")
        return finished


def write_subset(data: Path, out: Path, *, train: int, val: int) -> Path:
    """Write a folder of Flickr8k with the first photos of two splits, linked, and return it."""
    images = json.loads((data / "dataset_flickr8k.json").read_text(encoding="utf-8"))["images"]
    chosen = [
        image
        for split, count in (("train", train), ("val", val))
        for image in [image for image in images if image["split"] == split][:count]
    ]
    out.mkdir(parents=True, exist_ok=True)
    (out / "dataset_flickr8k.json").write_text(json.dumps({"images": chosen}), encoding="utf-8")
    if not (out / "images").exists():
        (out / "images").symlink_to((data / "images").absolute())
    return out


def _children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def table(trainings: Sequence[Training], losses: Sequence[float]) -> list[Line]:
    """Times to each loss with the ratios to epalm in each round, peak memory and lines of code.

    Args:
        trainings: all trainings of all rounds.
        losses: validation losses; the targets are about the first one.
    """
    groups = {name: [one for one in trainings if one.name == name] for name in (*WAYS, EXTRACTION)}
    extraction = [one.curve[0][1] for one in groups[EXTRACTION]]
    lines = [Line(EXTRACTION, float(np.median(extraction)), "CPU s")]
    for loss in losses:
        seconds = {name: [seconds_to(one.curve, loss) for one in groups[name]] for name in WAYS}
        whole = [ours + once for ours, once in zip(seconds[OURS], extraction, strict=True)]
        for name, way in WAYS.items():
            least = way.least if loss == losses[0] else 0.0
            lines.append(_line(f"{name}: to {loss:g}", seconds[name], seconds[OURS], least))
        lines += [
            _line(f"{name}: to {loss:g} / epalm with extraction", seconds[name], whole)
            for name in WAYS
            if name != OURS
        ]
    for name in WAYS:
        peak = float(np.median([one.peak for one in groups[name]]))
        lines.append(Line(f"{name}: peak memory", peak / 1e6, "MB"))
    return lines + [Line(f"{name}: code", _lines_of(way), "lines") for name, way in WAYS.items()]


def _line(
    name: str, seconds: Sequence[float], reference: Sequence[float], least: float = 0.0
) -> Line:
    ratios = [one / other for one, other in zip(seconds, reference, strict=True)]
    ratio = Quartiles.of(ratios) if np.isfinite(ratios).all() else None
    target, met = (f"ratio >= {least:g}", bool(np.median(ratios) >= least)) if least else ("", None)
    return Line(name, float(np.median(seconds)), "CPU s", ratio, target=target, met=met)


def _lines_of(way: Way) -> int:
    """Lines with code or text in its files; epalm takes two commands."""
    texts = [Path(file).read_text(encoding="utf-8") for file in way.files]
    return sum(bool(line.strip()) for text in texts for line in text.splitlines()) or 2


def main(
    data: Annotated[Path, typer.Option(help="Folder of Flickr8k.")],
    vit: Annotated[Path, typer.Option(help="Weights of a ViT-Ti/16 (.safetensors).")],
    lm: Annotated[Path, typer.Option(help="Folder of an OPT.")],
    out: Annotated[Path, typer.Option(help="Folder of the results.")],
    until: Annotated[
        float, typer.Option(help="Validation loss at which training ends, nats per token.")
    ] = 3.0,
    losses: Annotated[
        list[float] | None,
        typer.Option("--loss", help="Validation loss to compare at; repeatable."),
    ] = None,
    photos: Annotated[int, typer.Option(help="Number of training photos.")] = 2000,
    steps: Annotated[int, typer.Option(help="Largest number of steps.")] = 100,
    every: Annotated[int, typer.Option(help="Steps between validations.")] = 10,
    val: Annotated[int, typer.Option(help="Number of validation captions.")] = 400,
    rounds: Annotated[int, typer.Option(min=1, help="Number of rounds.")] = 3,
    plot: Annotated[Path | None, typer.Option(help="Also draw the curves, .svg or .png.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Train all ways and print the table."""
    budget = Budget(
        data=str(write_subset(data, out / "data", train=photos, val=val).absolute()),
        vit=str(vit.absolute()),
        lm=str(lm.absolute()),
        features=str(out.absolute() / "flickr8k.zarr"),
        steps=steps,
        every=every,
        val=val,
        until=until,
    )
    trainings = Plan(out, budget).run(rounds)
    compared = losses or [3.1, 3.2, until]
    lines = table(trainings, compared)
    if plot:
        curves: Mapping[str, list[Curve]] = {
            name: [one.curve for one in trainings if one.name == name] for name in WAYS
        }
        once = [one.curve[0][1] for one in trainings if one.name == EXTRACTION]
        chart.draw(plot, curves, compared[0], reference=OURS, before=once)
    Result("CPU time to a validation loss on Flickr8k", lines).publish(json_file)


if __name__ == "__main__":
    typer.run(main)
