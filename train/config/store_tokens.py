"""Which of a store's blocks and tokens the language model sees."""

from epalm.cache.layer_selection import parse_layers
from epalm.cache.spec import StoreSpec
from epalm.cache.token_policy import ALL
from epalm.errors import CacheMismatchError, UsageError
from epalm.model.method.model_settings import SourceSettings
from epalm.model.method.variants import find_variant

AUTO = "auto"

PUBLISHED_BLOCKS = 6
"""Blocks of the encoder whose [CLS] is injected (section 3.2 of the paper)."""

STAGES = 4
"""Stages that an encoder is divided into, as in hierarchical vision transformers."""


def source_settings(spec: StoreSpec, variant: str, source_layers: str) -> SourceSettings:
    """The features of a store, and which of them a variant uses.

    Args:
        spec: the store.
        variant: name of the method variant.
        source_layers: the recipe's choice of encoder blocks.

    Raises:
        UsageError: the variant is unknown, or the store lacks a block.
        CacheMismatchError: the variant cannot use the store's tokens, see `injected_tokens`.
    """
    selected = auto_layers(spec, variant) if source_layers == AUTO else source_layers
    return SourceSettings(
        encoder_width=spec.width,
        features=len(spec.layers) * spec.positions,
        blocks=tuple(spec.layers.index(layer) for layer in parse_layers(selected, spec.layers)),
        positions=spec.positions,
        injected_tokens=injected_tokens(spec, variant),
    )


def auto_layers(spec: StoreSpec, variant: str) -> str:
    """The encoder blocks that a variant uses where the recipe leaves them to it.

    The last six, as published, or the last of each stage. The last stored block counts as that of
    the encoder.

    Raises:
        UsageError: the variant is unknown, or the store lacks a stage.
    """
    if find_variant(variant).blocks == "last":
        return f"last-{min(PUBLISHED_BLOCKS, len(spec.layers))}"
    depth = spec.layers[-1] + 1
    wanted = sorted({-(-depth * stage // STAGES) - 1 for stage in range(1, STAGES + 1)})
    text = ",".join(map(str, wanted))
    if set(wanted) <= set(spec.layers):
        return text
    raise UsageError(
        f"variant {variant!r} reads the last block of each of {STAGES} stages, {text}, and the "
        f"store has the blocks {', '.join(map(str, spec.layers))}: run `epalm-extract --encoder "
        f"{spec.encoder} --dataset {spec.dataset} --source-layers {text}` with another --out, or "
        "name blocks of this store with --source-layers"
    )


def injected_tokens(spec: StoreSpec, variant: str) -> int:
    """Number of tokens of a block that are injected together at a layer.

    A class token represents its block, and so does the only token of a store of means or of
    attention pooling. The cells of a grid represent it only together.

    Args:
        spec: the store.
        variant: name of the method variant.

    Raises:
        CacheMismatchError: the variant reads one token of each block, and the store has all tokens
            of an encoder without a class token.
        UsageError: the variant is unknown.
    """
    if find_variant(variant).features == "tokens" or spec.tokens != ALL:
        return spec.positions
    if spec.class_token_first or spec.positions == 1:
        return 1
    extract = f"`epalm-extract --encoder {spec.encoder} --dataset {spec.dataset} --tokens"
    raise CacheMismatchError(
        f"the store has all {spec.positions} tokens of each block, none of which is a class token, "
        f"and variant {variant!r} reads one for each block: run {extract} mean` for their mean, "
        f"{extract} pool:2x2` for a grid whose cells are all injected, or train with `--variant "
        "resampler`, `limber-all` or `magma-all-tokens`, which read all tokens of the last block"
    )
