"""The interface between encoders and decoding processes: loaders of samples."""

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from epalm.tasks.types import MediaItem

if TYPE_CHECKING:
    from torch import Tensor


class Loader(Protocol):
    """Decodes one sample. It is pickled and sent to worker processes, so it has no weights.

    Workers do not import the main program, so the class has to be in a module.
    """

    def __call__(self, item: MediaItem, view: int) -> "NDArray[Any] | Tensor":
        """Load one input of the encoder; all inputs have the same shape and dtype.

        Return an array where torch is not needed: decoding processes then do not import torch.

        Raises:
            MediaError: the sample cannot be decoded.
        """


@runtime_checkable
class TwoStageLoader(Protocol):
    """A loader whose two stages can be timed separately."""

    def decode(self, item: MediaItem) -> Any:  # noqa: ANN401 - defined by the loader
        """Decode the file of a sample.

        Raises:
            MediaError: the sample cannot be decoded.
        """

    def transform(
        self,
        decoded: Any,  # noqa: ANN401
        item: MediaItem,
        *,
        view: int,
    ) -> "NDArray[Any] | Tensor":
        """Make one input of the encoder from the decoded sample."""
