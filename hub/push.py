"""Upload of a run or a feature store to the Hugging Face hub, as one commit."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import epalm
from epalm.errors import MissingFileError
from epalm.hub.card.model_card import write_card
from epalm.hub.repository import Repository, hub_client, hub_errors, repository_name
from epalm.hub.shared_files import (
    SharedFile,
    is_run_file,
    is_store,
    run_files,
    store_files,
    store_of,
)
from epalm.model.checkpoints.run_record import RECORD_FILE

DATASET_CARD = """---
library_name: epalm
tags:
- epalm
- frozen-features
---

# {name}

Features of a frozen encoder, made by `epalm-extract`. Train on them where they are:

```bash
epalm-train --features hf://datasets/{repository}/{name}
```

or copy them to `cache/{name}` with `epalm pull datasets/{repository}`.
"""


@dataclass(frozen=True)
class Upload:
    """What is uploaded.

    Attributes:
        repository: where to.
        files: local files and their names there.
        title: name of the run or the store.
    """

    repository: Repository
    files: Sequence[SharedFile]
    title: str

    @property
    def size(self) -> int:
        """Size of all files in bytes."""
        return sum(file.size for file in self.files)


def planned_upload(source: str, target: str, *, checkpoints: bool) -> Upload:
    """What pushing a run or a store would upload; nothing is sent.

    Args:
        source: folder of a run, or path of a store.
        target: user/name.
        checkpoints: whether the files that resuming needs are included.

    Raises:
        UsageError: the target is not of the form user/name.
        DataError: the source is neither a run nor a store, or is damaged.
        RunFolderError: the run is not finished.
        StoreError: the store is not finished, or damaged.
    """
    name = repository_name(target)
    if is_store(source):
        return Upload(Repository(name, "dataset"), store_files(source), Path(source).name)
    run = Path(source)
    if not (run / RECORD_FILE).is_file():
        raise MissingFileError(
            f"{source} is neither a run ({RECORD_FILE} is missing) nor a feature store (.zarr, "
            ".h5): give the folder of a run, or the path of a store"
        )
    files = run_files(run, checkpoints=checkpoints)
    return Upload(Repository(name, "model"), files, run.resolve().name)


def push(upload: Upload, *, private: bool, revision: str = "") -> str:
    """Upload the files as one commit, and remove those of an earlier push that are gone.

    A push that was interrupted resumes: large files that arrived are not sent again.

    Args:
        upload: what to upload.
        private: whether a repository that is created is private.
        revision: branch to write to, created if it does not exist; "" for the default one.

    Returns:
        Address of the commit.

    Raises:
        HubError: the hub refuses, or cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    repository = upload.repository
    name, kind = repository.name, repository.type
    client = hub_client()
    with hub_errors(str(repository)):
        client.create_repo(name, repo_type=kind, private=private or None, exist_ok=True)
        if revision:
            client.create_branch(name, repo_type=kind, branch=revision, exist_ok=True)
        present = client.list_repo_files(name, repo_type=kind, revision=revision or None)
        added = {file.name for file in upload.files}
        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            CommitOperationAdd(file.name, str(file.path)) for file in upload.files
        ]
        operations += [
            CommitOperationDelete(name)
            for name in present
            if _is_outdated(upload, name) and name not in added
        ]
        if repository.type == "dataset" and "README.md" not in present:
            card = DATASET_CARD.format(name=upload.title, repository=repository.name)
            operations.append(CommitOperationAdd("README.md", card.encode()))
        commit = client.create_commit(
            name,
            operations,
            repo_type=kind,
            commit_message=f"Upload {upload.title} with epalm {epalm.__version__}",
            revision=revision or None,
        )
    return str(commit.commit_url)


def write_card_for(upload: Upload, run: Path) -> None:
    """Write the model card of a run with its repository in the example."""
    write_card(run, repository=upload.repository.name)


def _is_outdated(upload: Upload, name: str) -> bool:
    """Whether a file of the repository belongs to an earlier push of the same run or store."""
    if upload.repository.type == "model":
        return is_run_file(name, checkpoints=True)
    return store_of(name) == upload.title
