"""Another try for the media that could not be encoded, without touching the others."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from epalm.cache.media_check import read_media_record
from epalm.cache.records.media_record import MediaRecord
from epalm.cache.spec import StoreSpec
from epalm.cache.store import Store
from epalm.console import Ticker, progress
from epalm.devices import AUTO
from epalm.errors import StoreError
from epalm.extract.decoding.decode_pool import load_batches
from epalm.extract.decoding.media_files import described
from epalm.extract.planning.extract_options import Settings, read_inputs
from epalm.extract.planning.extraction_plan import Plan, make_plan
from epalm.extract.run_extraction import batch_requests, encode_into


@dataclass(frozen=True)
class RetryReport:
    """What a second try gave.

    Attributes:
        tried: records that had failed.
        mended: those of them that have vectors now.
        failed: key -> reason of the others.
    """

    tried: int
    mended: int
    failed: Mapping[str, str]


def retry_failed(
    store: Store,
    *,
    encoder: str = "",
    dataset: str = "",
    weights: Path | None = None,
    data_root: Path | None = None,
    device: str = AUTO,
    allow_outside: bool = False,
    quiet: bool = False,
) -> RetryReport:
    """Encode the failed records of a finished store again and rewrite their shards.

    A shard is withdrawn before it is rewritten: should this be killed, the same extraction makes
    that shard again.

    Args:
        store: finished.
        encoder: of the store; empty for what it names, which is no code then.
        dataset: likewise its set of media.
        weights: of the encoder; None for where they lay when the store was made.
        data_root: where the media lie; None for where they lay then.
        device: as for `epalm.devices.pick_device`.
        allow_outside: see `load_media`.
        quiet: no progress display.

    Raises:
        UnfinishedStoreError: shards are missing.
        CacheMismatchError: encoder or media are no longer those of the store.
    """
    store.check_complete()
    tried = store.failed_samples()
    if not tried:
        return RetryReport(0, 0, {})
    named = _settings(store.spec, encoder=encoder, dataset=dataset, weights=weights)
    wanted = replace(
        named,
        out=store.location,
        data_root=data_root or named.data_root,
        device=device,
        allow_outside=allow_outside,
        quiet=quiet,
    )
    plan = make_plan(read_inputs(wanted))
    mend = "Name the encoder's weights and the data of that extraction with --weights, --data-root."
    store.spec.check_same(plan.spec, where=store.location, hint=mend)
    with progress("encoding", total=len(tried), unit=plan.unit, quiet=quiet) as tick:
        for shard in range(store.spec.shards):
            if store.commit_record(shard).errors:
                _retry_shard(store, shard, plan=plan, tick=tick)
    store.finish()
    failed = store.failed_samples()
    return RetryReport(len(tried), len(tried) - len(failed), failed)


def _settings(spec: StoreSpec, *, encoder: str, dataset: str, weights: Path | None) -> Settings:
    """The settings of the extraction that made the store; see `retry_failed`."""
    made_with = spec.fingerprint
    known = Path(spec.weights) if spec.weights else None
    return Settings(
        encoder=encoder or spec.encoder,
        dataset=dataset or spec.media,
        weights=weights or known,
        preprocessing=made_with.get("preprocessing.name", "official"),
        frames=_asked_frames(made_with),
        frames_pool=made_with.get("frames_pool", ""),
        tokens="cls" if spec.positions == 1 else "all",
        source_layers=",".join(map(str, spec.layers)),
        views=spec.views,
        augmentation=made_with.get("views.augmentation", "official"),
        seed=_number(made_with, "views.seed") or 0,
        dtype=spec.dtype,
        precision=made_with.get("precision", "fp32"),
        data_root=Path(spec.data_root),
        limit=spec.count,
    )


def _asked_frames(made_with: Mapping[str, str]) -> int | None:
    """What --frames was; encoders of clips have one for photos, which is not asked for."""
    asked = made_with.get("media") == "video" and "frames" in made_with
    return _number(made_with, "frames") if asked else None


def _number(made_with: Mapping[str, str], name: str) -> int | None:
    text = made_with.get(name)
    if text is None:
        return None
    if not text.isdecimal():
        raise StoreError(
            f"the store's fingerprint has {name} {text!r}, wanted a number: a store that was "
            "merged from several is extracted again with --fresh"
        )
    return int(text)


def _retry_shard(store: Store, shard: int, *, plan: Plan, tick: Ticker) -> None:
    rows = store.spec.rows_of(shard)
    errors = store.commit_record(shard).errors
    tokens = store.load_shard(shard)
    keys = store.keys[rows.start : rows.stop]
    again = [(row, plan.items[rows.start + row]) for row, key in enumerate(keys) if key in errors]
    requests = batch_requests(again, store.spec.views, batch_size=plan.pace.batch_size)
    unknown = MediaRecord.unknown(len(rows), hashed=store.spec.content_hash)
    media = read_media_record(store, shard) or unknown
    watched = described(requests, media, root=plan.root)
    batches = load_batches(watched, plan.encoder.load, workers=plan.pace.workers)
    with closing(batches):
        found = encode_into(tokens, plan.encoder, batches, spec=store.spec, keys=keys, tick=tick)
    store.uncommit_shard(shard)
    store.write_shard(shard, tokens, found, media=media)
