"""Cached text states: hidden states of the text below the first injected layer, computed once.

Where nothing is trained below that layer, these states depend on the text alone. They are kept in
ordinary feature stores: each distinct text is a record whose key is its token ids, and texts of the
same length share a store, whose records have one hidden state per token.
"""

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from epalm.cache.create_store import create_store
from epalm.cache.formats.dtype_cast import cast_features
from epalm.cache.formats.store_format import Features
from epalm.cache.readers.feature_source import StoreReader
from epalm.cache.readers.open_reader import index_store, select_subset
from epalm.cache.readers.reader_choice import ram_budget
from epalm.cache.spec import StoreSpec, fit_shard_rows
from epalm.cache.store import Store
from epalm.console import byte_size, progress
from epalm.errors import UsageError
from epalm.model.epalm import EPALM
from epalm.train.data.shared_parts import SharedParts
from epalm.train.data.tokenized_texts import Text, TokenizedTexts
from epalm.train.options.preflight_checks import NEEDED_BY_TEXT_STATES
from epalm.train.options.train_config import RuntimeConfig
from epalm.train.parallel.distributed import ALONE, Group

BATCH_TOKENS = 4096
"""Largest number of tokens per batch while states are computed."""

logger = logging.getLogger(__name__)


class CachedTextStates:
    """StoreReader of cached text states.

    Where padding is attended to (the official tail), each record has one more state than its text
    has tokens: all padding after a text has the same state.
    """

    def __init__(self, readers: dict[int, StoreReader], padding: int) -> None:
        """Read from finished stores.

        Args:
            readers: number of tokens -> reader of the texts of that length.
            padding: states stored after those of each text, 0 or 1.
        """
        self._readers = readers
        self._padding = padding

    def read(self, texts: Sequence[Text]) -> Tensor:
        """(tokens, H): result of `EPALM.lower_text_states` for right-padded texts."""
        lengths = np.array([len(head) + len(tail) for head, tail in texts])
        longest = int(lengths.max())
        rows = np.full(len(texts), longest) if self._padding else lengths
        first = np.cumsum(rows) - rows
        spec = self._readers[longest].spec
        out = np.empty((int(rows.sum()), spec.width), spec.dtype)
        for length in np.unique(lengths).tolist():
            places = np.flatnonzero(lengths == length)
            keys = [text_key(texts[place]) for place in places.tolist()]
            states = self._readers[length].read(keys)
            columns = np.arange(rows[places[0]])
            out[first[places, None] + columns] = states[:, np.minimum(columns, length)]
        return torch.from_numpy(out)


def text_key(text: Text) -> str:
    """The ids of begin token, prompt, answer and end token, separated by blanks."""
    return " ".join(map(str, (*text[0], *text[1])))


def open_text_states(
    folder: Path,
    model: EPALM,
    texts: Sequence[Text],
    *,
    digest: str,
    group: Group = ALONE,
    quiet: bool = False,
) -> CachedTextStates:
    """Compute the states that are not in the folder yet, and open all of them.

    Args:
        folder: folder of all cached text states; each set of texts has a folder of its own in it.
        model: model that computes the states, on its device.
        texts: every text that will be read.
        digest: digest of the language model's weights.
        group: processes that train together; rank 0 computes while the others wait.
        quiet: show no progress.

    Raises:
        UsageError: the states depend on what is trained.
        StoreError: a store cannot be written or read.
    """
    if group.leads:
        make_stores(folder, model, texts, digest=digest, quiet=quiet)
    group.gather(None)
    stores = make_stores(folder, model, texts, digest=digest, quiet=True)
    budget = ram_budget("auto")
    needed = sum(store.spec.nbytes for store in stores.values())
    reader = "ram" if needed <= budget else "pread"
    count = sum(store.spec.count for store in stores.values())
    logger.info(
        "cached states of %d texts in %s, %s, reader %s", count, folder, byte_size(needed), reader
    )
    readers = {
        length: select_subset(store, index_store(store)).open(reader, budget)
        for length, store in stores.items()
    }
    return CachedTextStates(readers, padding=int(model.plan.visual_sees_all))


def shared_text_states(
    runtime: RuntimeConfig,
    model: EPALM,
    texts: TokenizedTexts,
    *,
    digest: str,
    shared: SharedParts,
) -> CachedTextStates | None:
    """The cached states of a run's texts, open already if an earlier training has used them.

    Args:
        runtime: folder of all cached text states, processes.
        model: model that computes the states, on its device.
        texts: token ids of the training texts.
        digest: digest of the language model's weights.
        shared: parts that earlier trainings in this process have loaded.

    Returns:
        None if states are not cached.
    """
    folder = runtime.text_states
    if folder is None:
        return None

    def opened() -> CachedTextStates:
        return open_text_states(
            folder,
            model,
            texts.possible(),
            digest=digest,
            group=runtime.group,
            quiet=runtime.quiet,
        )

    plan = model.plan
    key = (folder, texts, digest, model.parts.dtype, plan.first, plan.visual_sees_all)
    states: CachedTextStates = shared.text_states.get(key, opened)
    return states


def check_text_independent(model: EPALM) -> None:
    """Refuse a model whose text states below the injection depend on trained parameters.

    Raises:
        UsageError: names the settings that work.
    """
    if not model.can_cache_text_states:
        raise UsageError(NEEDED_BY_TEXT_STATES)


def text_states_bytes(model: EPALM, texts: Sequence[Text], itemsize: int) -> int:
    """Bytes of the cached states of all texts, which are kept in main memory if they fit there.

    Args:
        model: model on any device.
        texts: every text that will be read.
        itemsize: bytes of a number of the language model's hidden states.
    """
    padding, width = int(model.plan.visual_sees_all), int(model.language_model.config.hidden_size)
    tokens = {text_key(text): len(text[0]) + len(text[1]) + padding for text in texts}
    return sum(tokens.values()) * width * itemsize


def make_stores(
    folder: Path, model: EPALM, texts: Sequence[Text], *, digest: str, quiet: bool
) -> dict[int, Store]:
    """Compute what is missing; the finished store of each text length."""
    check_text_independent(model)
    keys: dict[int, list[str]] = {}
    for key in sorted({text_key(text) for text in texts}):
        keys.setdefault(key.count(" ") + 1, []).append(key)
    specs = {length: _spec(model, length, len(keys[length]), digest) for length in sorted(keys)}
    own_folder = folder / _folder_name(specs, keys)
    stores = {
        length: create_store(own_folder / f"{length:03d}.zarr", spec, keys[length])
        for length, spec in specs.items()
    }
    missing = [(store, shard) for store in stores.values() for shard in store.missing_shards()]
    count = sum(len(store.spec.rows_of(shard)) for store, shard in missing)
    with progress("texts", total=count, unit="texts", quiet=quiet or not missing) as tick:
        for store, shard in missing:
            rows = store.spec.rows_of(shard)
            keys_of_shard = store.keys[rows.start : rows.stop]
            store.write_shard(shard, _compute(model, keys_of_shard, store.spec), {})
            tick(len(rows))
    for store in stores.values():
        store.finish()
    return stores


def _compute(model: EPALM, keys: Sequence[str], spec: StoreSpec) -> Features:
    """(records, 1, states per text, H) of a shard."""
    device = next(model.parameters()).device
    padding = int(model.plan.visual_sees_all)
    pad = int(model.language_model.config.pad_token_id or 0)
    size = max(BATCH_TOKENS // spec.positions, 1)
    out = np.empty((len(keys), *spec.row_shape), spec.dtype)
    for start in range(0, len(keys), size):
        lists = [[*map(int, key.split()), *[pad] * padding] for key in keys[start : start + size]]
        ids = torch.tensor(lists, device=device)
        mask = torch.ones_like(ids)
        if padding:
            mask[:, -1] = 0
        states = model.lower_text_states(ids, mask).float().view(*ids.shape, -1).cpu().numpy()
        valid = np.ones(len(ids), np.bool_)
        names = keys[start : start + size]
        out[start : start + size, 0] = cast_features(states, spec.dtype, keys=names, valid=valid)
    return out


def _spec(model: EPALM, length: int, count: int, digest: str) -> StoreSpec:
    config = model.language_model.config
    padding = int(model.plan.visual_sees_all)
    dtype = str(next(model.language_model.parameters()).dtype).removeprefix("torch.")
    width = int(config.hidden_size)
    stored = "float32" if dtype == "float32" else "float16"
    row_bytes = (length + padding) * width * (4 if stored == "float32" else 2)
    return StoreSpec(
        dataset=f"texts of {length} tokens",
        encoder=str(config.model_type),
        fingerprint={"lm": digest, "precision": dtype, "padding": str(padding)},
        layers=(model.plan.first - 1,),
        width=width,
        count=count,
        positions=length + padding,
        dtype=stored,
        shard_rows=fit_shard_rows(count, row_bytes),
    )


def _folder_name(specs: dict[int, StoreSpec], keys: dict[int, list[str]]) -> str:
    """Name of the folder for these texts, this layer and this language model."""
    digests = [spec.digest(keys[length]) for length, spec in specs.items()]
    return hashlib.blake2b("".join(digests).encode(), digest_size=8).hexdigest()
