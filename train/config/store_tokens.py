"""Which of a store's tokens the language model sees."""

from epalm.cache.spec import StoreSpec
from epalm.cache.token_policy import ALL
from epalm.errors import CacheMismatchError
from epalm.model.method.variants import find_variant


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
