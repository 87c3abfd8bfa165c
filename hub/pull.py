"""Download of runs and feature stores from the Hugging Face hub.

Files are data: their names are checked before anything is written, their contents are compared with
the digests that the hub lists and with the checksums of epalm, and nothing in them is executed.
"""

import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from epalm.cache.maintenance.verify import verify_deep
from epalm.cache.store import Store
from epalm.errors import DataError, HubError, StoreError, UsageError
from epalm.hub.repository import DATASETS, Repository, hub_client, hub_errors, repository_name
from epalm.hub.repository_files import RemoteFile, remote_files
from epalm.hub.shared_files import RUN_FILES, is_run_file, store_of
from epalm.model.checkpoints.run_record import ADAPTER_FILE, RECORD_FILE, RunRecord

if TYPE_CHECKING:
    from huggingface_hub import HfApi

CONNECTIONS = 8
"""Files that are downloaded at the same time."""

CLIENT_FOLDER = ".cache"
"""Folder in which the hub's client keeps parts of files and notes about finished ones."""


@dataclass(frozen=True)
class Download:
    """What is downloaded.

    Attributes:
        repository: where from.
        commit: the commit, so that all files are of the same one.
        files: the files of a run or of stores.
        is_run: whether it is a run.
    """

    repository: Repository
    commit: str
    files: Sequence[RemoteFile]
    is_run: bool

    @property
    def size(self) -> int:
        """Size of all files in bytes."""
        return sum(file.size for file in self.files)

    @property
    def tops(self) -> Sequence[str]:
        """First parts of the names, the main file of an HDF5 store last."""
        return sorted({file.name.partition("/")[0] for file in self.files}, key=_is_main_file)


def _is_main_file(name: str) -> bool:
    return store_of(name) == name


def planned_download(target: str, *, revision: str = "", checkpoints: bool = False) -> Download:
    """What pulling a repository would download; nothing is written.

    Args:
        target: user/name, or datasets/user/name for stores alone.
        revision: branch, tag or commit; "" for the default branch.
        checkpoints: whether to include what resuming a training needs, if it is there.

    Raises:
        UsageError: the target is not of this form.
        HubError: the hub refuses or cannot be reached, or the repository has neither a run nor a
            store, or files with impossible names.
    """
    name, client = repository_name(target), hub_client()
    with hub_errors(target):
        repository, commit = _found(client, name, revision, data=target.startswith(DATASETS))
        listed = remote_files(client, repository, commit)
    names = {file.name for file in listed}
    if {RECORD_FILE, ADAPTER_FILE} <= names:
        files = [file for file in listed if is_run_file(file.name, checkpoints=checkpoints)]
        return Download(repository, commit, files, is_run=True)
    stores = [file for file in listed if store_of(file.name)]
    if not stores:
        raise HubError(
            f"{repository} has neither a run ({RECORD_FILE} and {ADAPTER_FILE}) nor a feature "
            "store (.zarr, .h5): check the name"
        )
    return Download(repository, commit, stores, is_run=False)


def _found(client: "HfApi", name: str, revision: str, *, data: bool) -> tuple[Repository, str]:
    """The repository, of models or else of datasets, and its commit."""
    from huggingface_hub.errors import RepositoryNotFoundError

    repository = Repository(name, "dataset")
    if not data:
        model = Repository(name, "model")
        try:
            found = client.model_info(name, revision=revision or None)
            return model, str(found.sha)
        except RepositoryNotFoundError as error:
            try:
                return repository, str(client.dataset_info(name, revision=revision or None).sha)
            except RepositoryNotFoundError:
                raise error from None
    return repository, str(client.dataset_info(name, revision=revision or None).sha)


def pull(download: Download, destination: Path) -> Sequence[Path]:
    """Download into a hidden folder beside the destination, check all, then move it into place.

    A pull that was interrupted resumes.

    Args:
        download: what to download.
        destination: the new run folder, or the folder in which the stores are put.

    Returns:
        The run folder, or the paths of the stores.

    Raises:
        UsageError: something else is at the destination.
        HubError: the hub cannot be reached, or a file arrived damaged.
        DataError: the run is damaged.
        StoreError: a store is damaged or incomplete.
    """
    targets = _targets(download, destination)
    if any(target.exists() or target.is_symlink() for target in targets.values()):
        _check_same(download, destination, targets)
        return _results(download, destination)
    staging = destination.parent / f".{destination.name}.pull"
    if not download.is_run:
        staging = destination / f".{download.repository.name.replace('/', '-')}.pull"
    staging.mkdir(parents=True, exist_ok=True)
    _fetch(download, staging)
    _check(download, staging)
    shutil.rmtree(staging / CLIENT_FOLDER, ignore_errors=True)
    if download.is_run:
        staging.replace(destination)
    else:
        for name, target in targets.items():
            (staging / name).replace(target)
        shutil.rmtree(staging)
    return _results(download, destination)


def _targets(download: Download, destination: Path) -> dict[str, Path]:
    """What is moved into place at the end, by its name in the staging folder."""
    if download.is_run:
        return {"": destination}
    return {name: destination / name for name in download.tops}


def _results(download: Download, destination: Path) -> Sequence[Path]:
    if download.is_run:
        return [destination]
    return [destination / store for store in dict.fromkeys(map(store_of, download.tops))]


def _check_same(download: Download, destination: Path, targets: dict[str, Path]) -> None:
    """Refuse to overwrite anything; the same files are no reason to.

    Raises:
        UsageError: a file is missing or has other content.
    """
    different = next(
        (file for file in download.files if not file.matches(destination / file.name)), None
    )
    if different:
        there = next(target for target in targets.values() if target.exists())
        raise UsageError(
            f"{there} exists and is not what {download.repository} has ({different.name} differs): "
            "nothing was changed; give another --out, or move it away first"
        )


def _fetch(download: Download, staging: Path) -> None:
    """Download every file that is not there yet, several at a time."""
    client, repository = hub_client(), download.repository

    def fetch(file: RemoteFile) -> None:
        client.hf_hub_download(
            repository.name,
            file.name,
            repo_type=repository.type,
            revision=download.commit,
            local_dir=staging,
        )

    with hub_errors(str(repository)), ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(fetch, download.files))


def _check(download: Download, staging: Path) -> None:
    damaged = [file for file in download.files if not file.matches(staging / file.name)]
    for file in damaged:
        (staging / file.name).unlink(missing_ok=True)
    if damaged:
        raise HubError(
            f"{damaged[0].name} of {download.repository} arrived with other content than the hub "
            "lists: run the same command again"
        )
    if download.is_run:
        check_run(staging, str(download.repository))
    for store in {store_of(name) for name in download.tops} - {""}:
        _check_store(staging / store, str(download.repository))


def check_run(folder: Path, source: str) -> None:
    """Check the record and the trained tensors of a run.

    Raises:
        DataError: one of them is damaged; the message names the source.
    """
    from epalm.model.checkpoints.tensor_file import read_tensors  # and torch

    try:
        RunRecord.load(folder)
        read_tensors(folder / ADAPTER_FILE)
    except DataError as error:
        raise DataError(
            f"{source} has a damaged run ({error}): ask its owner to push it again"
        ) from error


def _check_store(location: Path, source: str) -> None:
    store = Store.open(location)
    store.check_complete()
    if issue := next(iter(verify_deep(store)), None):
        raise StoreError(
            f"{source} has a damaged store ({location.name}: {issue.name} {issue.found}): ask its "
            "owner to push it again"
        )


def fetch_run(name: str, revision: str = "") -> Path:
    """The folder of a run in the hub's local cache, downloaded if it is not there.

    What answering needs is downloaded, not the predictions of evaluations. Without network, or with
    HF_HUB_OFFLINE, the copy in the cache is used.

    Args:
        name: user/name of the repository.
        revision: branch, tag or commit; "" for the default branch.

    Raises:
        UsageError: the name is not of the form user/name.
        HubError: the repository does not exist, has no run, or cannot be reached.
        DataError: the run is damaged.
    """
    repository = repository_name(name)
    with hub_errors(name):
        folder = Path(
            hub_client().snapshot_download(
                repository,
                revision=revision or None,
                allow_patterns=sorted(RUN_FILES),
            )
        )
    if not ((folder / RECORD_FILE).is_file() and (folder / ADAPTER_FILE).is_file()):
        raise HubError(
            f"{name} is no run of epalm: {RECORD_FILE} or {ADAPTER_FILE} is missing in it"
        )
    check_run(folder, name)
    return folder
