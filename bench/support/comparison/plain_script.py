"""Train a captioner as a script of one file would: timm, transformers, a prefix, LoRA.

    python -m bench.support.comparison.plain_script --data flickr8k --vit vit.safetensors --lm opt

The image encoder is frozen and runs in every step, unless --cache keeps its output in memory. With
--connector cls, the last [CLS] token becomes ten prefix tokens, and LoRA adapts the attention of
the language model. With --connector patches, all patch tokens pass through a pixel shuffle and a
projector, as in nanoVLM; nothing else is trained.
"""

import argparse
import json
import time
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import timm
import torch
from PIL import Image
from timm.data.config import resolve_model_data_config
from timm.data.transforms_factory import create_transform
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pixel_unshuffle
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer

PREFIX, RANK, ALPHA, SHUFFLE, BATCH, WARMUP = 10, 8, 16, 2, 32, 20
"""Prefix tokens, rank and scale of LoRA, sides of a pixel shuffle, batch size, warm-up steps."""

Rows = tuple[Tensor, Tensor, Tensor]


class Captions(Dataset[tuple[Tensor, list[int]]]):
    """Pixels, or what is in `cache`, and token ids of every caption of a split."""

    def __init__(self, data: Path, split: str, tokenizer: Any, transform: Any) -> None:  # noqa: ANN401
        images = json.loads((data / "dataset_flickr8k.json").read_text())["images"]
        images = [image for image in images if image["split"] == split]
        texts = [[each["raw"].strip() for each in image["sentences"]] for image in images]
        texts = texts if split == "train" else [group[:1] for group in texts]
        paths = [data / "images" / image["filename"] for image in images]
        self.paths = [path for path, group in zip(paths, texts, strict=True) for _ in group]
        ids = tokenizer([text for group in texts for text in group])["input_ids"]
        self.ids = [[*one, tokenizer.eos_token_id] for one in ids]
        self.transform, self.cache = transform, dict[Path, Tensor]()

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> tuple[Tensor, list[int]]:
        path = self.paths[index]
        return self.cache[path] if self.cache else self.pixels(path), self.ids[index]

    def pixels(self, path: Path) -> Tensor:
        """(3, 224, 224) normalized pixels of a photo."""
        pixels: Tensor = self.transform(Image.open(path).convert("RGB"))
        return pixels


def collate(rows: list[tuple[Tensor, list[int]]], pad: int) -> Rows:
    """Stacked pictures, and ids and mask (B, T), padded on the right."""
    width = max(len(ids) for _, ids in rows)
    ids = torch.tensor([[*ids, *[pad] * (width - len(ids))] for _, ids in rows])
    mask = torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for _, ids in rows])
    return torch.stack([picture for picture, _ in rows]), ids, mask


class LoRA(nn.Module):
    """A frozen linear layer with a trained update of low rank."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.down = nn.Linear(base.in_features, RANK, bias=False)
        self.up = nn.Linear(RANK, base.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, rows: Tensor) -> Tensor:
        """(..., out) of (..., in)."""
        update: Tensor = self.up(self.down(rows))
        return torch.add(self.base(rows), update, alpha=ALPHA / RANK)


class Captioner(nn.Module):
    """A frozen encoder and a frozen language model with a trained connector."""

    def __init__(self, vit: Any, lm: Any, connector: str) -> None:  # noqa: ANN401
        super().__init__()
        self.vit, self.lm, self.connector = vit.eval(), lm.eval(), connector
        self.requires_grad_(requires_grad=False)
        self.words = lm.get_input_embeddings()
        width, word_width = vit.num_features, self.words.embedding_dim
        if connector == "cls":
            self.project = nn.Linear(width, PREFIX * word_width)
            for layer in lm.model.decoder.layers:
                layer.self_attn.q_proj = LoRA(layer.self_attn.q_proj)
                layer.self_attn.v_proj = LoRA(layer.self_attn.v_proj)
        else:
            self.project = nn.Linear(SHUFFLE**2 * width, word_width, bias=False)

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """(B, D) [CLS] tokens, or (B, 49, 4 D) shuffled patch tokens."""
        tokens: Tensor = self.vit.forward_features(pixels)
        if self.connector == "cls":
            return tokens[:, 0]
        side = int((tokens.shape[1] - 1) ** 0.5)
        grid = tokens[:, 1:].transpose(1, 2).unflatten(2, (side, side))
        return pixel_unshuffle(grid, SHUFFLE).flatten(2).transpose(1, 2)

    def forward(self, encoded: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """Mean cross-entropy of captions and end tokens."""
        words = self.words(ids)
        prefix = self.project(encoded).view(len(ids), -1, words.shape[-1])
        seen = torch.cat([mask.new_ones(prefix.shape[:2]), mask], dim=1)
        rows = torch.cat([prefix, words], dim=1)
        logits = self.lm(inputs_embeds=rows, attention_mask=seen).logits[:, prefix.shape[1] : -1]
        labels = ids[:, 1:].masked_fill(mask[:, 1:] == 0, -100)
        return cross_entropy(logits.transpose(1, 2), labels)


def load_vit(arch: str, file: Path) -> tuple[nn.Module, Any]:
    """A ViT without a head, and the transform of its images."""
    weights = {"file": str(file)}
    vit = timm.create_model(arch, pretrained=True, pretrained_cfg_overlay=weights, num_classes=0)
    return vit, create_transform(**resolve_model_data_config(vit), is_training=False)


@torch.no_grad()
def validate(model: Captioner, batches: list[Rows]) -> float:
    """Mean cross-entropy over all tokens of encoded batches."""
    counts = [int(mask[:, 1:].sum()) for _, _, mask in batches]
    losses = [float(model(*rows)) for rows in batches]
    return sum(loss * n for loss, n in zip(losses, counts, strict=True)) / sum(counts)


def train(args: argparse.Namespace) -> Iterator[tuple[int, float, float]]:
    """Train; yields steps, CPU seconds of training so far and validation loss."""
    torch.manual_seed(args.seed)
    vit, transform = load_vit(args.arch, args.vit)
    tokenizer = AutoTokenizer.from_pretrained(args.lm)
    model = Captioner(vit, AutoModelForCausalLM.from_pretrained(args.lm), args.connector)
    captions, held_out = (
        Captions(args.data, split, tokenizer, transform) for split in ("train", "val")
    )
    together = partial(collate, pad=tokenizer.pad_token_id)
    load = partial(DataLoader[Any], batch_size=BATCH, collate_fn=together)
    started = time.process_time()
    if args.cache:
        for path in captions.paths:
            if path not in captions.cache:
                captions.cache[path] = model.encode(captions.pixels(path)[None])[0]
    spent = time.process_time() - started
    batches = islice(load(held_out), -(-args.val // BATCH))
    checked = [(model.encode(pixels), ids, mask) for pixels, ids, mask in batches]
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=args.lr, weight_decay=0.0)
    schedule = LambdaLR(optimizer, lambda step: min(1, (step + 1) / WARMUP))
    yield 0, spent, validate(model, checked)
    started = time.process_time()
    for step, (pixels, ids, mask) in enumerate(load(captions, shuffle=True), start=1):
        loss = model(pixels if args.cache else model.encode(pixels), ids, mask)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        if step % args.every == 0:
            spent += time.process_time() - started
            yield step, spent, validate(model, checked)
            started = time.process_time()


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser()
    for name in ("data", "vit", "lm"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--arch", default="vit_tiny_patch16_224")
    parser.add_argument("--connector", choices=("cls", "patches"), default="cls")
    parser.add_argument("--cache", action="store_true")
    parser.add_argument("--lr", type=float, default=3e-3)
    for name, default in (("every", 20), ("val", 400), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    return parser.parse_args(words)


if __name__ == "__main__":
    for point in train(parse()):
        print("step {} CPU s {:.1f} loss {:.4f}".format(*point), flush=True)  # noqa: T201
