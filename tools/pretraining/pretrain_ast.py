"""Pretrain the small audio spectrogram transformer as a classifier of synthetic audio clips.

A linear head on the final [CLS] token predicts every fact: kind, pitch, glide and background of the
sounds, and their number. No text is involved.
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
from tools.pretraining.multi_head_loss import multi_head_accuracy, multi_head_loss
from tools.pretraining.pretraining_schedule import cosine_schedule, optimizer_step

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
"""Larger than the 0.02 of published models, which suits widths of hundreds."""

GROUPS: dict[str, tuple[str, ...]] = {
    "kind": tuple(KINDS),
    "pitch": tuple(PITCHES_HZ),
    "glide": tuple(GLIDES),
    "background": BACKGROUNDS,
}
"""Fact -> its values; the number of sounds is another group."""

CLASSES = (*(len(words) for words in GROUPS.values()), SLOTS)
"""Number of classes of each group."""


def build_ast() -> ASTModel:
    """An AST with random weights."""
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
    """The correct class of every group in `CLASSES`."""
    classes = [words.index(getattr(sound, fact)) for fact, words in GROUPS.items()]
    return [*classes, sound.count - 1]


def spectrogram(sound: Sound) -> Tensor:
    """(frames, bins) float32: AST's filter bank, cut or padded with zeros, normalized."""
    wave = torch.from_numpy(synthesize(sound)) / 32768
    cells = filter_bank(wave - wave.mean(), MEL_BINS)[:FRAMES]
    padded = nn.functional.pad(cells, (0, 0, 0, FRAMES - len(cells)))
    return (padded - AUDIOSET_MEAN) / (2 * AUDIOSET_STD)


def sound_batch(stream: str, start: int, count: int) -> tuple[Tensor, Tensor]:
    """Spectrograms and labels of the clips `stream`/start, `stream`/start+1, ...

    Returns:
        (count, frames, bins) float32 spectrograms; (count, groups) int64 classes.
    """
    sounds = [make_sound(f"{stream}/{start + offset}") for offset in range(count)]
    cells = torch.stack([spectrogram(sound) for sound in sounds])
    return cells, torch.tensor([labels(sound) for sound in sounds])


def pretrain_ast(tick: Ticker, *, steps: int = STEPS, seed: int = 0) -> tuple[ASTModel, nn.Linear]:
    """Train from random weights; every batch has new clips.

    Args:
        tick: called once per step.
        steps: number of optimizer steps with `BATCH` clips each.
        seed: random seed of the initial weights.

    Returns:
        The encoder and its classifier.
    """
    torch.manual_seed(seed)
    model, head = build_ast(), nn.Linear(WIDTH, sum(CLASSES))
    weights = [*model.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = cosine_schedule(optimizer, steps, warmup=WARMUP_STEPS)
    for step in range(steps):
        cells, classes = sound_batch("pretrain-ast", step * BATCH, BATCH)
        loss = multi_head_loss(head(model(cells).last_hidden_state[:, 0]), classes, CLASSES)
        optimizer_step(loss, optimizer, schedule)
        tick(1, f"loss {loss.item():.4f}")
    return model, head


def accuracy(model: ASTModel, head: nn.Linear, count: int) -> list[float]:
    """Accuracy of each group on `count` held-out clips."""
    cells, classes = sound_batch("pretrain-ast-held-out", 0, count)
    with torch.inference_mode():
        hidden = [model(part).last_hidden_state[:, 0] for part in cells.split(BATCH)]
        return multi_head_accuracy(head(torch.cat(hidden)), classes, CLASSES).tolist()
