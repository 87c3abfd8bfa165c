"""Every error a user can cause, as one tree.

    EpalmError                   1   anything below
    ├── UsageError               2   a wrong name or option on the command line
    │   ├── UnknownSplitError    2   the task has no such split
    │   └── RecipeError          2   a recipe with an unknown key or an impossible value
    ├── DataError                1   an input file
    │   ├── MissingFileError     1   ... is not where it was looked for
    │   └── MalformedFileError   1   ... does not have the expected layout
    ├── MediaError               1   one photo, clip or recording cannot be decoded (recorded)
    ├── MissingToolError         1   a program or optional package that must be installed first
    ├── ModelError               1   an encoder or a language model cannot be loaded or used
    ├── TrainingError            1   the loss became non-finite, nothing to train on, ...
    ├── RunFolderError           1   a run's folder is in use, damaged, or cannot be written
    ├── StoreError               1   a feature store
    │   ├── UnfinishedStoreError 3   ... still misses shards: run the same extraction again
    │   ├── CacheMismatchError   4   ... was made with other settings than the ones asked for
    │   ├── CorruptShardError    1   ... holds bytes that do not match their checksum
    │   └── UnknownKeyError      1   ... has no such record
    └── Stopped                 75   a signal stopped the command after a clean checkpoint

The number is the exit code of a command that ends with the error. Commands print the message as
one line; it says what was found, what was wanted and the command that mends it.
"""

INCOMPLETE = 3
"""Exit code of a command that ended with some of its work missing or failed."""


class EpalmError(Exception):
    """Base of all errors that a user can cause or mend."""

    exit_code = 1


class UsageError(EpalmError, ValueError):
    """A name or option on the command line that cannot be right."""

    exit_code = 2


class UnknownSplitError(UsageError):
    """The task has no split of this name."""


class RecipeError(UsageError):
    """A recipe holds an unknown key or an impossible value."""


class DataError(EpalmError):
    """An input file cannot be used."""


class MissingFileError(DataError, FileNotFoundError):
    """An input file is not where it was looked for."""


class MalformedFileError(DataError, ValueError):
    """An input file does not have the expected layout."""


class MediaError(EpalmError):
    """One photo, clip or recording cannot be decoded; extraction records it and goes on."""


class MissingToolError(EpalmError):
    """A program or an optional package must be installed first."""


class ModelError(EpalmError):
    """An encoder or a language model cannot be loaded or used."""


class TrainingError(EpalmError):
    """Training cannot go on."""


class RunFolderError(EpalmError):
    """A run's folder is in use by another process, damaged, or cannot be written."""


class StoreError(EpalmError):
    """A feature store cannot be used."""


class UnfinishedStoreError(StoreError):
    """The store misses shards; running the same extraction again completes it."""

    exit_code = INCOMPLETE


class CacheMismatchError(StoreError):
    """The store was made with other settings than the ones asked for."""

    exit_code = 4


class CorruptShardError(StoreError):
    """Bytes of a store do not match their checksum."""


class UnknownKeyError(StoreError, KeyError):
    """The store has no record of this key."""

    def __str__(self) -> str:
        """Plain text; KeyError would print the repr."""
        return str(self.args[0])


class Stopped(EpalmError):
    """A signal stopped the command after a clean checkpoint; the same command goes on from it."""

    exit_code = 75
