"""Every error a user can cause, as one tree.

    EpalmError                   1   anything below
    ├── UsageError               2   a wrong name or option on the command line
    │   ├── UnknownSplitError    2   the task has no such split
    │   └── RecipeError          2   a recipe with an unknown key or an impossible value
    ├── DataError                1   an input file
    │   ├── MissingFileError     1   ... does not exist where it is expected
    │   └── MalformedFileError   1   ... does not have the expected layout
    ├── MediaError               1   one image, video or audio clip cannot be decoded (recorded)
    ├── MissingToolError         1   a program or optional package that must be installed first
    ├── ModelError               1   an encoder or a language model cannot be loaded or used
    ├── TrainingError            1   the loss became non-finite, nothing to train on, ...
    ├── RunFolderError           1   a run's folder is in use, damaged, or cannot be written
    ├── HubError                 1   the hub refuses, cannot be reached, or sent damaged files
    ├── StoreError               1   a feature store
    │   ├── UnfinishedStoreError 3   ... is incomplete: re-run the same extraction
    │   ├── CacheMismatchError   4   ... was made with other settings than requested
    │   ├── CorruptShardError    1   ... contains bytes that do not match their checksum
    │   └── UnknownKeyError      1   ... has no sample with this key
    └── Stopped                 75   a signal stopped the command; run it again

The number is the exit code of a command that ends with the error. Commands print the message as
one line; it names what was found, what was expected and the command that fixes it.
"""

INCOMPLETE = 3
"""Exit code of a command that ended with some of its work missing or failed."""


class EpalmError(Exception):
    """Base of all errors that a user can cause or fix."""

    exit_code = 1


class UsageError(EpalmError, ValueError):
    """A name or option on the command line that cannot be right."""

    exit_code = 2


class UnknownSplitError(UsageError):
    """The task has no split of this name."""


class RecipeError(UsageError):
    """A recipe contains an unknown key or an impossible value."""


class DataError(EpalmError):
    """An input file cannot be used."""


class MissingFileError(DataError, FileNotFoundError):
    """An input file does not exist."""


class MalformedFileError(DataError, ValueError):
    """An input file does not have the expected layout."""


class MediaError(EpalmError):
    """One image, video or audio clip cannot be decoded; extraction records it and continues."""


class MissingToolError(EpalmError):
    """A program or an optional package must be installed first."""


class ModelError(EpalmError):
    """An encoder or a language model cannot be loaded or used."""


class TrainingError(EpalmError):
    """Training cannot continue."""


class RunFolderError(EpalmError):
    """A run's folder is in use by another process, damaged, or cannot be written."""


class HubError(EpalmError):
    """A transfer to or from the Hugging Face hub failed."""


class StoreError(EpalmError):
    """A feature store cannot be used."""


class UnfinishedStoreError(StoreError):
    """Shards of the store are missing; running the same extraction again completes it."""

    exit_code = INCOMPLETE


class CacheMismatchError(StoreError):
    """The store was made with other settings than requested."""

    exit_code = 4


class CorruptShardError(StoreError):
    """Bytes of a store do not match their checksum."""


class UnknownKeyError(StoreError, KeyError):
    """The store has no sample with this key."""

    def __str__(self) -> str:
        """Plain text; KeyError would print the repr."""
        return str(self.args[0])


class Stopped(EpalmError):
    """A signal stopped the command; the same command resumes if the message says so."""

    exit_code = 75
