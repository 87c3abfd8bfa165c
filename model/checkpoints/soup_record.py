"""soup.json of a run folder: the runs whose trained weights it is the average of."""

from dataclasses import asdict, dataclass
from json import dumps
from pathlib import Path

from epalm.atomic_write import write_file
from epalm.model.checkpoints.run_record import RunRecord
from epalm.untrusted.checked_json import build, read_json

SOUP_FILE = "soup.json"


@dataclass(frozen=True)
class AveragedRun:
    """A run of an average.

    Attributes:
        name: name of its folder.
        seed: seed of its data order and dropout.
        weight: factor of its weights.
    """

    name: str
    seed: int
    weight: float


@dataclass(frozen=True)
class SoupRecord:
    """Where the weights of an average come from.

    Attributes:
        init_seed: seed of the initialization that all runs share.
        runs: the runs.
    """

    init_seed: int
    runs: tuple[AveragedRun, ...]

    def save(self, folder: Path) -> None:
        """Write soup.json.

        Raises:
            OSError: the file cannot be written.
        """
        write_file(folder / SOUP_FILE, dumps(asdict(self), indent=1) + "\n")


def seed_words(folder: Path, record: RunRecord) -> str:
    """The seed of a run in words; of an average those of its runs.

    Raises:
        MalformedFileError: soup.json is damaged.
    """
    file = folder / SOUP_FILE
    if not file.is_file():
        return str(record.seed)
    soup = build(SoupRecord, read_json(file), str(file))
    seeds = ", ".join(str(run.seed) for run in soup.runs)
    return f"average of the runs with seeds {seeds}, all initialized with {soup.init_seed}"
