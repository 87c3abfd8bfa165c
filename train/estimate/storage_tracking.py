"""Counts the storages that a computation allocates and that autograd keeps for backward.

Both work on the meta device, where tensors have shapes but no data.
"""

import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class SavedStorages:
    """Pack hook of `torch.autograd.graph.saved_tensors_hooks` that counts what is kept.

    Attributes:
        nbytes: bytes of the distinct storages that were saved.
    """

    def __init__(self, excluded: Iterable[Tensor] = ()) -> None:
        """Count nothing yet.

        Args:
            excluded: tensors whose storages are not counted, such as a model's parameters.
        """
        self._tensors = list(excluded)  # kept, so that no other storage gets their addresses
        self._seen = {_address(tensor) for tensor in self._tensors}
        self.nbytes = 0

    def __call__(self, tensor: Tensor) -> Tensor:
        """Count the storage of a tensor that autograd saves."""
        self._tensors.append(tensor)
        if _address(tensor) not in self._seen:
            self._seen.add(_address(tensor))
            self.nbytes += tensor.untyped_storage().nbytes()
        return tensor


class LiveStorages(TorchDispatchMode):
    """Counts the bytes that are allocated at one time by the operations in its context.

    Attributes:
        peak: largest number of bytes at one time.
    """

    def __init__(self, excluded: Iterable[Tensor] = ()) -> None:
        """Count nothing yet.

        Args:
            excluded: tensors whose storages are not counted; they must outlive the context.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self._excluded = {_address(tensor) for tensor in excluded}
        self._live: dict[int, int] = {}
        self._now = self.peak = 0

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - results of any operation
        """Run an operation and count the storages of its results."""
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._count(leaf)
        return result

    def _count(self, tensor: Tensor) -> None:
        address, storage = _address(tensor), tensor.untyped_storage()
        if address in self._live or address in self._excluded:
            return
        self._live[address] = storage.nbytes()
        self._now += storage.nbytes()
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._release, address)

    def _release(self, address: int) -> None:
        self._now -= self._live.pop(address)


def _address(tensor: Tensor) -> int:
    """Address of the tensor's storage object, which is unique while the storage exists."""
    address: int = StorageWeakRef(tensor.untyped_storage()).cdata
    return address
