"""Pretrain the micro audio spectrogram transformer: how many sounds, of which kind, over what.

A plain supervised classifier over synthesized recordings: a linear head on the final [CLS] answers
one small question per fact. No text is involved.
"""

import torch
from torch import Tensor, nn
from transformers import ASTConfig, ASTModel

from epalm.console import Ticker
from epalm.demo.worlds.sounds import (
    BACKGROUNDS,
    GLIDES,
    KINDS,
    PITCHES_HZ,
    SLOTS,
    Sound,
    make_sound,
    synthesize,
)
from epalm.extract.transforms.filter_bank import AUDIOSET_MEAN, AUDIOSET_STD, filter_bank
from tools.pretraining.multi_head_loss import grouped_accuracy, grouped_loss
from tools.pretraining.pretraining_schedule import cosine_schedule, descend

STEPS = 1600
BATCH = 32
LEARNING_RATE = 1.5e-3
WARMUP_STEPS = 200
WEIGHT_DECAY = 0.05

WIDTH = 64
DEPTH = 6
HEADS = 4
INNER_WIDTH = 96
PATCH_CELLS = 16
FRAMES = 128
MEL_BINS = 128

INITIAL_STD = 0.08
"""Wider than the 0.02 of published models, which suits widths of some hundreds."""

GROUPS: dict[str, tuple[str, ...]] = {
    "kind": tuple(KINDS),
    "pitch": tuple(PITCHES_HZ),
    "glide": tuple(GLIDES),
    "background": BACKGROUNDS,
}
"""Fact of a sound -> its words; the number of sounds is a further group."""

CLASSES = (*(len(words) for words in GROUPS.values()), SLOTS)
"""Sizes of the softmax groups."""


def build_ast() -> ASTModel:
    """The architecture with random weights."""
    config = ASTConfig(
        hidden_size=WIDTH,
        num_hidden_layers=DEPTH,
        num_attention_heads=HEADS,
        intermediate_size=INNER_WIDTH,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=INITIAL_STD,
        patch_size=PATCH_CELLS,
        frequency_stride=PATCH_CELLS,
        time_stride=PATCH_CELLS,
        max_length=FRAMES,
        num_mel_bins=MEL_BINS,
    )
    return ASTModel(config)


def labels(sound: Sound) -> list[int]:
    """The right class of every softmax group in `CLASSES`."""
    named = [words.index(getattr(sound, fact)) for fact, words in GROUPS.items()]
    return [*named, sound.count - 1]


def spectrogram(sound: Sound) -> Tensor:
    """(frames, bins) float32: the published filter bank, cut or padded with 0, normalized."""
    wave = torch.from_numpy(synthesize(sound)) / 32768
    cells = filter_bank(wave - wave.mean(), MEL_BINS)[:FRAMES]
    padded = nn.functional.pad(cells, (0, 0, 0, FRAMES - len(cells)))
    return (padded - AUDIOSET_MEAN) / (2 * AUDIOSET_STD)


def sound_batch(stream: str, start: int, count: int) -> tuple[Tensor, Tensor]:
    """Recordings `stream`/start, `stream`/start+1, ... as the model takes them.

    Returns:
        (count, frames, bins) float32; classes (count, groups) int64.
    """
    sounds = [make_sound(f"{stream}/{start + offset}") for offset in range(count)]
    cells = torch.stack([spectrogram(sound) for sound in sounds])
    return cells, torch.tensor([labels(sound) for sound in sounds])


def pretrain_ast(tick: Ticker, *, steps: int = STEPS, seed: int = 0) -> tuple[ASTModel, nn.Linear]:
    """Train from random weights; every batch is made of fresh recordings.

    Args:
        tick: called once per step.
        steps: optimiser steps of `BATCH` recordings.
        seed: of the initial weights.

    Returns:
        The encoder and its classifier.
    """
    torch.manual_seed(seed)
    model, head = build_ast(), nn.Linear(WIDTH, sum(CLASSES))
    weights = [*model.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(weights, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = cosine_schedule(optimiser, steps, warmup=WARMUP_STEPS)
    for step in range(steps):
        cells, classes = sound_batch("pretrain-ast", step * BATCH, BATCH)
        loss = grouped_loss(head(model(cells).last_hidden_state[:, 0]), classes, CLASSES)
        descend(loss, optimiser, schedule)
        tick(1, f"loss {loss.item():.4f}")
    return model, head


def accuracy(model: ASTModel, head: nn.Linear, count: int) -> list[float]:
    """Share of right classes of each group, over `count` recordings of another stream."""
    cells, classes = sound_batch("pretrain-ast-held-out", 0, count)
    with torch.inference_mode():
        hidden = [model(part).last_hidden_state[:, 0] for part in cells.split(BATCH)]
        return grouped_accuracy(head(torch.cat(hidden)), classes, CLASSES).tolist()
