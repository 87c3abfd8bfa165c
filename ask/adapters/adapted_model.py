"""A loaded run as users of transformers and PEFT expect it: moved, saved, with several adapters."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from epalm.ask.adapters.adapter_set import AdapterSet
from epalm.ask.find_run import find_or_fetch_run
from epalm.ask.run_encoder import load_encoder, weights_location
from epalm.devices import AUTO, check_device_name, pick_device
from epalm.errors import UsageError
from epalm.extract.encoders.tokens.token_encoder import TokenEncoder
from epalm.model.checkpoints.adapter_io import LoadedRun, load_run, save_adapter
from epalm.model.checkpoints.run_record import ADAPTER_FILE, RECIPE_FILE, RunRecord


class AdaptedModel:
    """A frozen language model with one or several trained runs, and the encoder of their features.

    Attributes:
        device: name of the torch device.
        encoder: the encoder of the runs' features.
        adapters: the runs; the active one answers.
    """

    def __init__(
        self,
        run: LoadedRun,
        encoder: TokenEncoder,
        device: str,
        *,
        folder: Path,
        name: str,
        weights: str = "",
    ) -> None:
        """Begin with one run.

        Args:
            run: the run.
            encoder: the encoder of its features, on the same device.
            device: name of the torch device.
            folder: folder of the run.
            name: name of the run.
            weights: file or folder of the encoder's weights; "" for the published ones.
        """
        self.device = device
        self.encoder = encoder
        self.adapters = AdapterSet(run, folder, name)
        self._weights = weights

    @classmethod
    def from_pretrained(
        cls, run: str | Path, *, lm: str = "", weights: str | Path = "", device: str = AUTO
    ) -> Self:
        """Load a trained run; arguments and errors are those of `epalm.load`."""
        check_device_name(device)
        folder = find_or_fetch_run(Path("runs"), str(run))
        record = RunRecord.load(folder)
        location = weights_location(record, str(weights))
        device = pick_device(device)
        encoder = load_encoder(record, location, device)
        loaded = load_run(folder, device, lm=lm)
        name = default_name(run)
        return cls(loaded, encoder, device, folder=folder, name=name, weights=location)

    @property
    def loaded(self) -> LoadedRun:
        """The active run."""
        return self.adapters.active

    @property
    def record(self) -> RunRecord:
        """The record of the active run."""
        return self.loaded.record

    @property
    def active_adapter(self) -> str:
        """The name of the active run."""
        return self.adapters.active_name

    @property
    def adapter_names(self) -> list[str]:
        """The names of all runs."""
        return self.adapters.names

    def load_adapter(self, run: str | Path, name: str = "") -> str:
        """Load a further run onto the same frozen language model; the active one stays.

        >>> import epalm
        >>> model = epalm.load("runs/scenes")
        >>> model.load_adapter("runs/scenes", "again")
        'again'
        >>> model.adapter_names, model.active_adapter
        (['scenes', 'again'], 'scenes')

        Args:
            run: folder of the run, its name in `runs`, or user/name of a repository on the hub.
            name: name of the run; "" for that of the folder or repository.

        Returns:
            Its name.

        Raises:
            MissingFileError: there is no such run.
            UsageError: the name is taken or impossible, or the run has another language model or
                encoder.
        """
        name = name or default_name(run)
        self.adapters.load(find_or_fetch_run(Path("runs"), str(run)), name)
        return name

    def set_adapter(self, name: str) -> None:
        """Let a run of `adapter_names` answer from now on; nothing is loaded.

        Raises:
            UsageError: there is no run of that name.
        """
        self.adapters.activate(name)

    def merge_adapters(
        self, names: Sequence[str], name: str, *, weights: Sequence[float] = ()
    ) -> None:
        """Add the weighted mean of runs under a new name.

        Only weights that were trained from one start (`init_seed`) have a meaningful mean.

        Raises:
            UsageError: fewer than two runs, an unknown, taken or impossible name, or runs of other
                settings.
        """
        self.adapters.merge(names, name, weights)

    def delete_adapter(self, name: str) -> None:
        """Forget a run that is not active.

        Raises:
            UsageError: there is no run of that name, or it is active.
        """
        self.adapters.remove(name)

    def eval(self) -> Self:
        """This model, which is always in eval mode."""
        return self

    def to(self, device: str) -> Self:
        """Move the model to a device, by loading language model and encoder there anew.

        For a moment both copies are in memory. The run's precision is used where the device has it.

        Args:
            device: name of the torch device, or "auto".

        Returns:
            This model.

        Raises:
            UsageError: there is no such device.
        """
        check_device_name(device)
        device = pick_device(device)
        if device != self.device:
            base = load_run(self.adapters.folder, device, lm=self.record.model.lm)
            encoder = load_encoder(base.record, self._weights, device)
            self.adapters = self.adapters.moved(base)
            self.device, self.encoder = device, encoder
        return self

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the active run to a new folder, which `epalm.load` and `epalm-push` take.

        The language model and the encoder are not copied: the folder names them with their digests.

        Args:
            folder: a folder that is empty or does not exist.

        Raises:
            UsageError: the folder has files.
            OSError: it cannot be written.
        """
        target = Path(folder)
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise UsageError(f"{target} is not empty: name a new folder")
        target.mkdir(parents=True, exist_ok=True)
        save_adapter(self.loaded.model, target / ADAPTER_FILE)
        if (recipe := self.adapters.folder / RECIPE_FILE).is_file():
            shutil.copyfile(recipe, target / RECIPE_FILE)
        self.record.save(target)


def default_name(run: str | Path) -> str:
    """The name of a run's folder or repository."""
    return Path(run).absolute().resolve().name
