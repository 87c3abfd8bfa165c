"""Several trained runs over one frozen language model, one of which answers at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from epalm.errors import UsageError
from epalm.model.checkpoints.adapter_io import (
    LoadedRun,
    assemble_beside,
    can_share,
    load_run_beside,
    set_trained,
)
from epalm.model.checkpoints.run_name import is_run_name
from epalm.model.checkpoints.run_record import RunRecord
from epalm.model.checkpoints.tensor_mean import mean_tensors
from epalm.model.epalm import trainable_parameters
from epalm.model.lent_language_model import restore
from epalm.plugins import suggestion

SAMPLES = frozenset(("count", "dataset", "shard_rows"))
"""Fields of a store in which runs may differ: what it has, not how it was encoded."""


def check_same_features(run: LoadedRun, record: RunRecord, folder: Path) -> None:
    """Refuse a run that was trained on features of another encoder.

    Raises:
        UsageError: names a field that differs.
    """
    names = {*record.store, *run.record.store} - SAMPLES
    if differing := run.record.differing(record.store, names):
        raise UsageError(
            f"{folder} was trained on other features than {run.record.name}: {differing[0]}"
        )


class AdapterSet:
    """Trained runs over one frozen language model, by name; one of them is active.

    What a run adds to the language model is less than a hundredth of it, so each further run takes
    little memory. Their adapters and texts are attached to the language model when they become
    active.
    """

    def __init__(self, run: LoadedRun, folder: Path, name: str) -> None:
        """Begin with one run from its folder, which is active, under a name."""
        self._runs = {name: run}
        self._folders = {name: folder}
        self._active = name

    @property
    def active(self) -> LoadedRun:
        """The run that answers."""
        return self._runs[self._active]

    @property
    def active_name(self) -> str:
        """The name of the run that answers."""
        return self._active

    @property
    def folder(self) -> Path:
        """The folder of the run that answers; of a mean, that of its first run."""
        return self._folders[self._active]

    @property
    def names(self) -> list[str]:
        """The names of all runs, in the order in which they were loaded."""
        return list(self._runs)

    def load(self, folder: Path, name: str) -> None:
        """Load a further run; the active one stays.

        Args:
            folder: folder of the run.
            name: name of the run.

        Raises:
            UsageError: the name is taken or impossible, the run has another language model or
                encoder, or trained the language model itself.
            DataError: the files of the run are damaged.
        """
        record = RunRecord.load(folder)
        name = self._free(name)
        check_same_features(self.active, record, folder)
        if not can_share(self.active, record):
            raise UsageError(
                f"{folder} cannot share the language model of {self._active}: it was trained on "
                f"{record.model.lm} in {record.model.precision} (weights {record.lm_digest}), "
                f"{self._active} on {self.active.record.model.lm} in "
                f"{self.active.record.model.precision} (weights {self.active.record.lm_digest}), "
                "and neither may have trained it; load it apart with epalm.load"
            )
        restore(self.active.model.language_model)
        try:
            self._runs[name] = load_run_beside(self.active, record, folder)
            self._folders[name] = folder
        finally:
            self.activate(self._active)

    def activate(self, name: str) -> None:
        """Let a run answer from now on.

        Raises:
            UsageError: there is no run of that name.
        """
        run = self._known(name)
        language_model = run.model.language_model
        restore(language_model)
        if run.model.adapters is not None:
            run.model.adapters.attach(run.model.parts)
        text, config = run.text, language_model.config
        config.eos_token_id, config.pad_token_id = list(text.ends), text.pad
        self._active = name

    def merge(self, names: Sequence[str], name: str, weights: Sequence[float] = ()) -> None:
        """Add the weighted mean of runs as a further run; it has the record of the first.

        Args:
            names: the runs, of equal settings.
            name: name of the mean.
            weights: weight of each run, divided by their sum; equal ones by default.

        Raises:
            UsageError: fewer than two runs, an unknown, taken or impossible name, other settings,
                or impossible weights.
        """
        runs = [self._known(one) for one in names]
        shares = list(weights) or [1.0] * len(runs)
        if len(runs) < 2 or len(shares) != len(runs) or min(shares) < 0 or not sum(shares) > 0:
            raise UsageError(
                f"found {len(runs)} runs and the weights {shares}, expected at least two runs and "
                "for each a weight of at least 0, not all 0"
            )
        first = runs[0].record
        for other in runs[1:]:
            if other.record.model != first.model:
                raise UsageError(
                    f"{other.record.name} cannot be averaged with {first.name}: their models have "
                    "other settings"
                )
        name = self._free(name)
        parts = [dict(trainable_parameters(run.model)) for run in runs]
        mean = mean_tensors(parts, shares)
        self._runs[name] = self._beside(runs[0], mean, name)
        self._folders[name] = self._folders[names[0]]

    def remove(self, name: str) -> None:
        """Forget a run that is not active.

        Raises:
            UsageError: there is no run of that name, or it is active.
        """
        self._known(name)
        if name == self._active:
            raise UsageError(f"{name} is active: activate another run first")
        del self._runs[name], self._folders[name]

    def moved(self, base: LoadedRun) -> "AdapterSet":
        """The same runs, with the same one active, around the language model of another run.

        Args:
            base: a run of the same language model on another device.
        """
        result = AdapterSet(base, self.folder, self._active)
        result._runs.clear()
        result._folders = dict(self._folders)
        for name, run in self._runs.items():
            tensors = dict(trainable_parameters(run.model))
            result._runs[name] = _around(base, run, tensors)
        result.activate(self._active)
        return result

    def _beside(self, run: LoadedRun, tensors: Mapping[str, Tensor], name: str) -> LoadedRun:
        """A copy of a run with other trained tensors; the active run stays."""
        try:
            copied = _around(run, run, tensors)
        finally:
            self.activate(self._active)
        return replace(copied, record=replace(run.record, name=name))

    def _known(self, name: str) -> LoadedRun:
        if name not in self._runs:
            raise UsageError(f"there is no run {name!r} here; {suggestion(name, self.names)}")
        return self._runs[name]

    def _free(self, name: str) -> str:
        if not is_run_name(name):
            raise UsageError(
                f"{name!r} cannot be a run's name: give one that a folder can have, without /"
            )
        if name in self._runs:
            raise UsageError(f"there is a run {name!r} here already: give another name")
        return name


def _around(base: LoadedRun, run: LoadedRun, tensors: Mapping[str, Tensor]) -> LoadedRun:
    """A run's model with these trained tensors around the language model of `base`."""
    restore(base.model.language_model)  # without the adapters of another run
    model = assemble_beside(base, run.record.model)
    set_trained(model, tensors)
    return LoadedRun(run.record, model.eval(), run.text, base.precision)
