"""Repositories of the Hugging Face hub, its client, and its errors as messages."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

import epalm
from epalm.errors import EpalmError, HubError, UsageError
from epalm.untrusted.hub_config import few_retry_lines

if TYPE_CHECKING:
    from huggingface_hub import HfApi

RepositoryType = Literal["model", "dataset"]

DATASETS = "datasets/"
"""Beginning of the name of a repository of data, as in the hub's addresses."""

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)

MAX_NAME_CHARACTERS = 96
"""Longest name that the hub allows."""

SIGN_IN = "set HF_TOKEN, or run `hf auth login`"


@dataclass(frozen=True)
class Repository:
    """A repository of the hub.

    Attributes:
        name: owner and name, "user/name".
        type: "model" for runs, "dataset" for feature stores.
    """

    name: str
    type: RepositoryType

    def __str__(self) -> str:
        return self.name if self.type == "model" else DATASETS + self.name


def repository_name(text: str) -> str:
    """The name of a repository, without the beginning `datasets/`.

    Raises:
        UsageError: it is not of the form user/name.
    """
    name = text.removeprefix(DATASETS)
    known = _NAME.fullmatch(name) is not None and len(name) <= MAX_NAME_CHARACTERS
    if not known or ".." in name or "--" in name or name.endswith((".git", ".", "-")):
        raise UsageError(f"{text!r} is no repository of the hub: give one as user/name")
    return name


def is_repository_name(text: str) -> bool:
    """Whether a text has the form user/name."""
    try:
        return repository_name(text) == text
    except UsageError:
        return False


def hub_client() -> "HfApi":
    """The hub's client, for the server that HF_ENDPOINT names now."""
    from huggingface_hub import HfApi

    return HfApi(
        endpoint=os.environ.get("HF_ENDPOINT") or None,
        library_name="epalm",
        library_version=epalm.__version__,
    )


@contextmanager
def hub_errors(repository: str) -> Iterator[None]:
    """Turn the exceptions of the hub's client into a message.

    Args:
        repository: repository that is read or written.

    Raises:
        HubError: the request failed.
    """
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    # That of the HTTP library which the client uses: httpx, from its version 2 on httpx2.
    transport_error = cast(type[Exception], HfHubHTTPError.__bases__[0])
    try:
        with few_retry_lines():
            yield
    except EpalmError:
        raise
    except (transport_error, LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise HubError(_message(repository, error)) from error
    except OSError as error:
        if error.errno is not None:  # of a local file: hf_xet's own errors have no number
            raise
        raise HubError(_transfer_failed(repository, error)) from error
    except RuntimeError as error:  # from a thread of the client that uploads a file
        if not isinstance(error.__cause__, transport_error):
            raise
        raise HubError(_message(repository, error.__cause__)) from error


def _transfer_failed(repository: str, error: OSError) -> str:
    """Message for an error of hf_xet, which transfers large files; not every hub supports it."""
    return (
        f"the large files of {repository} were not transferred ({error}): check the network, then "
        "run the same command again; if the hub at HF_ENDPOINT does not support Xet, set "
        "HF_HUB_DISABLE_XET=1"
    )


def _message(repository: str, error: BaseException) -> str:
    from huggingface_hub import errors

    messages = {
        errors.GatedRepoError: f"{repository} is gated: ask for access on its page, then {SIGN_IN}",
        errors.RevisionNotFoundError: f"{repository} has no such revision: give another --revision",
        errors.RepositoryNotFoundError: (
            f"the hub has no repository {repository} that you may read: check the name, or "
            f"{SIGN_IN} if it is private"
        ),
        errors.OfflineModeIsEnabled: (
            f"{repository} was not requested, since HF_HUB_OFFLINE is set: unset it, or use a "
            "local folder"
        ),
        errors.LocalEntryNotFoundError: (
            f"{repository} is not in the local cache and the hub was not reached: connect to the "
            "network, and check HF_ENDPOINT and HF_HUB_OFFLINE"
        ),
    }
    for kind, message in messages.items():
        if isinstance(error, kind):
            return message
    if isinstance(error, errors.HfHubHTTPError):
        return _refused(repository, error)
    reason = str(error) or type(error).__name__
    return (
        f"the hub was not reached for {repository} ({reason}): check the network and HF_ENDPOINT, "
        "then run the same command again"
    )


def _refused(repository: str, error: Exception) -> str:
    response = getattr(error, "response", None)
    status = response.status_code if response is not None else 0
    reason = (str(getattr(error, "server_message", "")) or str(error)).strip().splitlines()
    detail = f"{status}: {reason[0]}" if reason else str(status)
    if status == 401:
        return f"the hub does not know who you are ({detail}): {SIGN_IN}"
    if status == 403:
        return (
            f"you may not write to {repository} ({detail}): use a token with write access to it, "
            "or a repository of your own"
        )
    return f"the hub refused a request for {repository} ({detail}): try again later"
