"""A Hugging Face model as an encoder: finding its blocks, its tokens and its final norm.

What the tokens are is found by running the model, not by its name.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, TypeGuard

from torch import Tensor, nn
from transformers import PreTrainedModel

from epalm.errors import ModelError
from epalm.extract.decoding.sample_loader import Loader
from epalm.extract.encoders.encoder_registry import CODE_VERSION
from epalm.extract.encoders.frozen_forward import capture_outputs, frozen_pass
from epalm.extract.encoders.inputs.model_input import ModelInput
from epalm.extract.encoders.tokens.block_tokens import BlockTokens, identity
from epalm.extract.encoders.tokens.describe import Run, describe
from epalm.extract.encoders.tokens.model_norms import Norms, find_norms, norm_name
from epalm.extract.encoders.tokens.probe import Runnable
from epalm.tasks.types import Modality

ATTENTION_POOLS = ("AttentionPoolingHead", "AttentionPoolHead")
"""Ends of the names of classes whose output is a model's own attention pooling."""


class HiddenStatesEncoder:
    """A frozen Hugging Face model as an `Encoder`."""

    def __init__(
        self,
        name: str,
        model: PreTrainedModel,
        model_input: ModelInput,
        *,
        digest: str,
        precision: str,
    ) -> None:
        """Find the blocks, the tokens and the final norm by running the model.

        Args:
            name: name on the command line.
            model: model with its weights, on its device.
            model_input: the input of the model.
            digest: digest of the weights.
            precision: precision of matrix products, see `EncoderSettings`.

        Raises:
            ModelError: the model has no list of blocks, its runs differ, or its output cannot be
                computed from its last block.
        """
        self.name = name
        self.modality: Modality = model_input.modality
        self.load: Loader = model_input.load
        self.model = model.eval().requires_grad_(requires_grad=False)
        self._input = model_input
        self._digest = digest
        self._precision = precision
        self._blocks = find_blocks(model, name)
        self.depth = len(self._blocks)
        self.outputs: Sequence[BlockTokens] = self._describe(model_input)
        self.width, self.positions = self.outputs[-1].width, self.outputs[-1].positions
        self.norm = self.outputs[-1].norm
        self.has_attention_pool = any(
            type(module).__name__.endswith(ATTENTION_POOLS) for module in model.modules()
        )

    def blocks(
        self, batch: Tensor, *, layers: Sequence[int] | None = None, positions: int = 1
    ) -> list[Tensor]:
        """Compute the outputs of blocks, before the final norm.

        Args:
            batch: (B, ...) stacked inputs of `load`.
            layers: 0-based ascending numbers of the blocks; None for all blocks.
            positions: number of tokens per block. The order is [CLS], further class tokens and
                registers if there are any, then patches as `outputs` describes them.

        Returns:
            One (B, positions, D) per block, float32, on the encoder's device.
        """
        blocks = self._blocks if layers is None else [self._blocks[layer] for layer in layers]
        with (
            capture_outputs(blocks, positions, as_tokens) as outputs,
            frozen_pass(self._precision, self.model.device),
        ):
            self._run(batch)
        return outputs

    def attention_pool(self, batch: Tensor) -> Tensor:
        """The output of the model's own attention pooling, (B, D) float32."""
        with frozen_pass(self._precision, self.model.device):
            pooled: Tensor = self._run(batch).pooler_output
        return pooled.float()

    def fingerprint(self) -> dict[str, str]:
        """Architecture, digest of the weights, precision, code version, settings of the loader."""
        return {
            "architecture": f"transformers {self.model.config.model_type}",
            "weights_sha256": self._digest,
            "token": "cls",
            "norm": norm_name(self.outputs),
            "precision": self._precision,
            "code": CODE_VERSION,
            **self._input.load.fingerprint(),
            **self._input.more,
        }

    def _describe(self, model_input: ModelInput) -> Sequence[BlockTokens]:
        probed = Runnable(self.name, self.model, self._blocks, self._run, as_tokens)
        find = partial(find_block_norms, self.model, self._blocks)
        try:
            return describe(probed, model_input, find)
        except LookupError as error:
            raise ModelError(
                f"{self.name} has no final norm that gives its own output from the last block: "
                "choose another --encoder"
            ) from error

    def _run(self, batch: Tensor) -> Any:  # noqa: ANN401 - each model has its own output class
        return self.model(**self._input.arguments(batch))


def as_tokens(states: Tensor) -> Tensor:
    """(B, tokens, D) of a block's output; convolutional models have (B, D, rows, columns)."""
    return states.flatten(2).transpose(1, 2) if states.dim() == 4 else states


def find_blocks(model: nn.Module, name: str) -> Sequence[nn.Module]:
    """Find the blocks of a model, in order; those of all stages if it has stages.

    Raises:
        ModelError: there are none.
    """
    config: Any = model.config
    depths = getattr(config, "depths", None) or [
        getattr(config, "num_hidden_layers", None) or getattr(config, "encoder_layers", None)
    ]
    lists = [module for module in model.modules() if _is_list_of_blocks(module)]
    blocks: list[nn.Module] = []
    for depth in depths:
        found = next((number for number, modules in enumerate(lists) if len(modules) == depth), -1)
        if found < 0:
            raise ModelError(f"{name} has no list of {depth} blocks: choose another --encoder")
        blocks += lists[found]
        lists = lists[found + 1 :]
    return blocks


def _is_list_of_blocks(module: nn.Module) -> TypeGuard[nn.ModuleList]:
    """Whether a module is a list of modules of one class; a list of stages is none."""
    return (
        isinstance(module, nn.ModuleList)
        and len({type(block) for block in module}) == 1
        and not any(isinstance(child, nn.ModuleList) for child in module[0].children())
    )


def find_block_norms(model: nn.Module, blocks: Sequence[nn.Module], run: Run) -> list[Norms]:
    """The norms of every block; those before the last stage have none.

    Raises:
        LookupError: the model's own output cannot be computed from its last block.
    """
    last = run.states[-1]
    norms = find_norms(
        model,
        blocks,
        states=last,
        output=run.output,
        special=run.special,
        class_token=run.class_token,
    )
    if norms is None:
        raise LookupError
    none = Norms(identity(), identity())
    return [norms if states.shape == last.shape else none for states in run.states]
