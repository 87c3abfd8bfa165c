"""An encoder with a token policy: what extraction stores of each block."""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from epalm.cache.layer_selection import parse_layers
from epalm.cache.spec import CLASS_TOKEN, NO_CLASS_TOKEN, TOKEN
from epalm.cache.token_policy import ALL, AUTO, CLS, MAP, MEAN, POOL, TokenPolicy, parse_tokens
from epalm.errors import UsageError
from epalm.extract.decoding.sample_loader import Loader
from epalm.extract.encoders.encoder_registry import Encoder
from epalm.extract.encoders.tokens.block_tokens import (
    BlockTokens,
    cells_of,
    identity,
    mean_patch,
    pool_patches,
)
from epalm.extract.encoders.tokens.token_source import (
    TokenSource,
    outputs_of,
)
from epalm.tasks.types import Modality

DEFAULT_BLOCKS = 6
"""Number of last blocks that are kept of single tokens: the paper injects six [CLS] tokens. Of
several tokens the last block is kept, as in the paper's MAGMA* baseline."""


class TokenEncoder:
    """An encoder whose `blocks` are the tokens that a policy keeps.

    Single encoder tokens are normed by `norm`, as in earlier versions. Averages are of normed
    tokens, and `norm` changes nothing.
    """

    def __init__(self, encoder: Encoder, policy: TokenPolicy, layers: tuple[int, ...]) -> None:
        """Apply a policy to some blocks of an encoder.

        Args:
            encoder: the encoder.
            policy: which tokens to keep.
            layers: 0-based numbers of the blocks to keep, all with tokens of the same shape.
        """
        self.name = encoder.name
        self.policy = policy
        self.layers = layers
        self.depth = encoder.depth
        self.modality: Modality = encoder.modality
        self.load: Loader = encoder.load
        self._encoder = encoder
        self._outputs = outputs_of(encoder)
        self._last = self._outputs[layers[-1]]
        self.width = self._last.width
        self._cells = cells_of(self._last, policy.grid, name=self.name) if policy.grid else ()
        self.positions = _stored_positions(policy, self._last, self._cells)
        plain = policy.kind in (CLS, ALL)
        self.norm: nn.Module = self._last.norm if plain else identity()

    def blocks(
        self, batch: Tensor, *, layers: Sequence[int] | None = None, positions: int = 1
    ) -> list[Tensor]:
        """Compute the tokens to store of each block.

        Args:
            batch: (B, ...) stacked inputs, on any device.
            layers: 0-based ascending numbers of the blocks; None for the kept ones.
            positions: number of tokens per block, at most those that the policy keeps.

        Returns:
            One (B, positions, D) per block, float32, before `norm`.
        """
        numbers = self.layers if layers is None else layers
        if self.policy.kind in (CLS, ALL):
            return self._encoder.blocks(batch, layers=numbers, positions=positions)
        if self.policy.kind == MAP:
            assert isinstance(self._encoder, TokenSource)
            return [self._encoder.attention_pool(batch)[:, None]]
        every = self._last.positions
        states = self._encoder.blocks(batch, layers=numbers, positions=every)
        return [
            self._keep(tokens, self._outputs[layer])[:, :positions]
            for tokens, layer in zip(states, numbers, strict=True)
        ]

    def fingerprint(self) -> dict[str, str]:
        """The encoder's fingerprint with the token policy."""
        inner = self._encoder.fingerprint()
        if self.policy.kind == CLS:
            return inner
        changed = {TOKEN: str(self.policy)}
        if self.policy.kind in (MEAN, POOL) and _has_norm(self._last.pooled_norm):
            changed["norm"] = "after pooling"
        if self.policy.kind == MAP:
            changed["norm"] = "of the pooling"
        if self.policy.kind == ALL and not self._last.class_token:
            changed[CLASS_TOKEN] = NO_CLASS_TOKEN
        return inner | changed

    def describe(self) -> str:
        """The kept tokens and their norm in words, for the log."""
        kind, last = self.policy.kind, self._last
        words = {
            CLS: "[CLS] only",
            MEAN: f"mean of {last.patches} patch tokens",
            POOL: f"{self.positions} averages of {last.patches} patch tokens ({self.policy})",
            ALL: f"all {self.positions} tokens",
            MAP: "the model's own attention pooling",
        }[kind]
        return f"{words}, {self._norm_in_words()}"

    def _norm_in_words(self) -> str:
        if self.policy.kind == MAP:
            return "with its own norm"
        if self.policy.kind in (MEAN, POOL) and _has_norm(self._last.pooled_norm):
            return "normed after the average, as in the model"
        return "final norm" if _has_norm(self._last.norm) else "no norm"

    def _keep(self, states: Tensor, block: BlockTokens) -> Tensor:
        tokens: Tensor = block.norm(states)
        pooled = mean_patch(tokens, block)
        if self.policy.kind == POOL:
            pooled = pool_patches(tokens, block, self._cells)
        normed: Tensor = block.pooled_norm(pooled)
        return normed


def with_tokens(encoder: Encoder, tokens: str, layers: str = "") -> TokenEncoder:
    """Apply a token policy to an encoder.

    Args:
        encoder: the encoder.
        tokens: value of --tokens; "auto" is [CLS] if there is one, else the mean.
        layers: value of --source-layers; "" for the last blocks whose tokens have the same shape,
            at most six of a single token and one of several.

    Raises:
        UsageError: the encoder has no such tokens or blocks.
    """
    outputs = outputs_of(encoder)
    kind = CLS if outputs[-1].class_token else MEAN
    policy = TokenPolicy(kind) if tokens == AUTO else parse_tokens(tokens)
    _check_policy(encoder, policy)
    numbers = _choose_layers(outputs, policy, layers, name=encoder.name)
    return TokenEncoder(encoder, policy, numbers)


def _check_policy(encoder: Encoder, policy: TokenPolicy) -> None:
    last = outputs_of(encoder)[-1]
    if policy.kind == CLS and not last.class_token:
        raise UsageError(
            f"{encoder.name} has no class token among its tokens: use --tokens mean, the default "
            "for this encoder"
        )
    if policy.kind in (MEAN, POOL) and not last.patches:
        raise UsageError(f"{encoder.name} has no patch tokens: use --tokens cls")
    if policy.kind == MAP and not (isinstance(encoder, TokenSource) and encoder.has_attention_pool):
        raise UsageError(f"{encoder.name} has no attention pooling of its own: use --tokens mean")


def _choose_layers(
    outputs: Sequence[BlockTokens], policy: TokenPolicy, text: str, *, name: str
) -> tuple[int, ...]:
    last = len(outputs) - 1
    if policy.kind == MAP:
        if text and parse_layers(text, range(len(outputs))) != (last,):
            raise UsageError(
                "--tokens map is the model's pooling of its last block: leave out --source-layers"
            )
        return (last,)
    same = [number for number, block in enumerate(outputs) if _same_shape(block, outputs[last])]
    count = min(DEFAULT_BLOCKS if policy.single else 1, len(same))
    layers = parse_layers(text, range(len(outputs))) if text else tuple(same[-count:])
    if not all(_same_shape(outputs[layer], outputs[layers[0]]) for layer in layers):
        raise UsageError(
            f"--source-layers {text}: blocks of {name} have tokens of different shapes, "
            f"{_stages(outputs)}: keep blocks of one of these groups"
        )
    return layers


def _same_shape(one: BlockTokens, other: BlockTokens) -> bool:
    return (one.width, one.positions) == (other.width, other.positions)


def _stages(outputs: Sequence[BlockTokens]) -> str:
    """The ranges of blocks with tokens of the same shape, in words."""
    starts = [
        number
        for number, block in enumerate(outputs)
        if not number or not _same_shape(block, outputs[number - 1])
    ]
    stops = [*starts[1:], len(outputs)]
    return ", ".join(
        f"{start}-{stop - 1} of width {outputs[start].width}"
        for start, stop in zip(starts, stops, strict=True)
    )


def _stored_positions(policy: TokenPolicy, block: BlockTokens, cells: tuple[int, ...]) -> int:
    if policy.single:
        return 1
    if policy.kind == ALL:
        return block.positions
    return math.prod(cells)


def _has_norm(norm: nn.Module) -> bool:
    return not isinstance(norm, nn.Identity)
