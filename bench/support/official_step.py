"""The training step of the official implementation, on Hugging Face's stock OPT layers.

This is a new implementation of the same computation. Texts are padded to the longest of the batch,
and the soft prompt is computed for every sample. The visual token is inserted at the first injected
layer and overwritten at the others; its query attends to all positions. All positions get logits. A
test compares losses and gradients with those of `epalm.model.epalm`.
"""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path

import timm
import torch
from timm.data.config import resolve_model_data_config
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, embedding, pad
from transformers import OPTConfig, OPTForCausalLM, PreTrainedModel

from epalm.extract.encoders.timm_vit import ARCHITECTURES
from epalm.extract.transforms.image_augment import AugmentedViews
from epalm.extract.transforms.image_preset import official_preset
from epalm.extract.transforms.image_transform import ImageLoader
from epalm.model.engine.model_batch import IGNORED, Batch
from epalm.model.epalm import EPALM
from epalm.model.families.family import FAMILIES
from epalm.model.method.prompt import SoftPrompt
from epalm.tasks.types import MediaItem

OPT_POSITION_OFFSET = FAMILIES["opt"].position_offset


class OfficialModel(nn.Module):
    """The official forward pass and loss, with the shared modules of a model."""

    def __init__(self, model: EPALM) -> None:
        """Share the language model, connectors, soft prompt (if any) and plan of `model`."""
        super().__init__()
        self.language_model = stock(model.language_model)
        self.connectors = model.connectors
        self.prompt = model.prompt
        self.plan = model.plan
        self.feature_indices = model.feature_indices

    def forward(self, batch: Batch) -> Tensor:
        """(B) float32: sum of the cross-entropies of each sample."""
        logits = self.language_model.lm_head(self.states(batch))
        labels = pad(batch.labels, (logits.shape[1] - batch.labels.shape[1], 0), value=IGNORED)
        losses = cross_entropy(
            logits[:, :-1].contiguous().float().view(-1, logits.shape[-1]),
            labels[:, 1:].contiguous().view(-1),
            ignore_index=IGNORED,
            reduction="none",
        )
        return losses.view(len(labels), -1).sum(1)

    def states(self, batch: Batch) -> Tensor:
        """(B, 1 + P + T, word width) states after the final norm and projection."""
        decoder = self.language_model.model.decoder
        hidden, mask = self._embed(batch)
        tokens = batch.features[batch.image_index]
        chosen = (
            tokens if self.feature_indices is None else tokens.index_select(1, self.feature_indices)
        )
        vectors = self.connectors(chosen)
        visual = [rows.unsqueeze(1).to(hidden.dtype) for rows in vectors]
        inserted = False
        for source, layer in zip(self.plan.feature_of_layer, decoder.layers, strict=True):
            if source is not None and inserted:
                hidden = torch.cat([visual[source], hidden[:, 1:]], dim=1)
            elif source is not None:
                hidden, mask = torch.cat([visual[source], hidden], dim=1), pad(mask, (1, 0, 1, 0))
                inserted = True
            hidden = layer(hidden, attention_mask=mask)
        for part in (decoder.final_layer_norm, decoder.project_out):
            hidden = hidden if part is None else part(hidden)
        return hidden

    def _embed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(B, P + T, H) rows, and the additive mask (B, 1, P + T, P + T)."""
        decoder = self.language_model.model.decoder
        rows, prompt = decoder.embed_tokens(batch.input_ids), 0
        if isinstance(self.prompt, SoftPrompt):
            repeated = self.prompt.embedding.expand(len(rows), -1, -1)
            vectors = repeated if self.prompt.mlp is None else self.prompt.mlp(repeated)
            rows, prompt = torch.cat([vectors.to(rows.dtype), rows], dim=1), vectors.shape[1]
        if decoder.project_in is not None:
            rows = decoder.project_in(rows)
        text_mask = batch.attention_mask
        positions = text_mask.cumsum(1) * text_mask - 1 + OPT_POSITION_OFFSET
        places = embedding(positions, decoder.embed_positions.weight)
        rows = rows + pad(places, (0, 0, prompt, 0))
        seen = pad(text_mask.bool(), (prompt, 0), value=True)
        causal = torch.ones(2 * (seen.shape[1],), dtype=torch.bool, device=seen.device).tril()
        lowest = torch.finfo(rows.dtype).min
        mask = torch.zeros(len(rows), 1, *causal.shape, dtype=rows.dtype, device=rows.device)
        return rows, mask.masked_fill(~(causal & seen[:, None, None, :]), lowest)


def stock(language_model: PreTrainedModel) -> OPTForCausalLM:
    """Hugging Face's own OPT with eager attention over the same weights, frozen."""
    assert isinstance(language_model.config, OPTConfig)
    with torch.device("meta"):
        model = OPTForCausalLM(copy.deepcopy(language_model.config))
    model.load_state_dict(language_model.state_dict(), assign=True)
    model.tie_weights()
    model.set_attn_implementation("eager")
    model.requires_grad_(requires_grad=False)
    model.train(mode=False)
    return model


class OnlineEncoder:
    """Loads images from files, applies the training transform and encodes them with a ViT."""

    def __init__(
        self,
        dtype: torch.dtype,
        device: str,
        name: str = "vit-b16",
        *,
        weights: Path | None = None,
    ) -> None:
        """Create the encoder.

        Args:
            dtype: dtype of weights and activations.
            device: device of the encoder.
            name: key of `ARCHITECTURES`, or a model name of timm.
            weights: file of the weights; None for random ones.
        """
        overlay = {"file": str(weights)} if weights else None
        model = timm.create_model(
            ARCHITECTURES.get(name, name),
            pretrained=weights is not None,
            pretrained_cfg_overlay=overlay,
            num_classes=0,
        )
        self._layers: Callable[..., list[tuple[Tensor, Tensor]]] = model.get_intermediate_layers  # type: ignore[assignment]
        model.to(device, dtype).eval().requires_grad_(requires_grad=False)
        preset = official_preset(resolve_model_data_config(model)["input_size"][-1])
        self._load = ImageLoader(preset, AugmentedViews(count=2))
        self._dtype = dtype
        self._mean = torch.tensor(preset.mean, device=device).reshape(3, 1, 1)
        self._std = torch.tensor(preset.std, device=device).reshape(3, 1, 1)

    def encode(self, items: Sequence[MediaItem], keep: int = 6, *, view: int = 1) -> Tensor:
        """(B, keep, D) normalized [CLS] tokens of the last blocks, first block first.

        View 0 is the test transform, view 1 an augmentation.
        """
        pixels = torch.stack([torch.from_numpy(self._load(item, view)) for item in items])
        pixels = pixels.to(self._mean.device)
        normalized = (pixels.float() / 255 - self._mean) / self._std
        with torch.no_grad():
            outputs = self._layers(
                normalized.to(self._dtype), n=keep, return_prefix_tokens=True, norm=True
            )
        return torch.stack([prefix[:, 0] for _, prefix in outputs], dim=1)
