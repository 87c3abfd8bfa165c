"""Pretrain the demo's models: `python -m tools.pretraining vit|timesformer|ast|opt`.

Each model is trained on its own modality only: the encoders on generated samples with class labels,
the OPT on texts. Samples, texts, initial weights and the order of batches depend only on fixed
names and seeds, and everything runs on one thread. The same versions of torch and this code on the
same kind of processor therefore give the same bytes. With other processors or versions, rounding
differs and after some hundred steps all weights differ, but they are as good.
`demo/weights/README.md` has the digests of the files in the package and how they were trained.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, cast

import torch
import typer
from safetensors.torch import save_file
from transformers import PreTrainedModel

from epalm.console import progress, run_app, say
from epalm.demo.encoder import AST_WEIGHTS, TIMESFORMER_WEIGHTS, VIT_WEIGHTS, WEIGHTS
from tools.pretraining.pretrain_ast import STEPS as AST_STEPS
from tools.pretraining.pretrain_ast import accuracy as ast_accuracy
from tools.pretraining.pretrain_ast import pretrain_ast
from tools.pretraining.pretrain_opt import STEPS as OPT_STEPS
from tools.pretraining.pretrain_opt import (
    answer_accuracy,
    collate_texts,
    encode_text,
    pretrain_opt,
    save_opt,
    train_tokenizer,
)
from tools.pretraining.pretrain_timesformer import STEPS as TIMESFORMER_STEPS
from tools.pretraining.pretrain_timesformer import accuracy as timesformer_accuracy
from tools.pretraining.pretrain_timesformer import pretrain_timesformer
from tools.pretraining.pretrain_vit import HEAD, accuracy, pretrain_vit
from tools.pretraining.pretrain_vit import STEPS as VIT_STEPS
from tools.pretraining.pretraining_texts import TEXT_MAKERS, make_text_of

OPT_FOLDER = "opt-micro"

app = typer.Typer(add_completion=False)


@app.command()
def command(
    model: Annotated[
        Literal["vit", "timesformer", "ast", "opt"], typer.Argument(help="Model to pretrain.")
    ],
    out: Annotated[Path, typer.Option(help="Output folder.")] = WEIGHTS,
) -> None:
    """Pretrain one of the demo's frozen models from scratch, in 10 to 70 minutes on one core."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)
    makers: dict[str, Callable[[Path], list[Path]]] = {
        "vit": make_vit,
        "timesformer": make_timesformer,
        "ast": make_ast,
        "opt": make_opt,
    }
    for path in makers[model](out):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        say(f"{digest}  {path.relative_to(out)}")


def make_vit(out: Path) -> list[Path]:
    """Pretrain and write the vision transformer in float16, without its classifier."""
    with progress("pretraining vit", total=VIT_STEPS, unit="steps") as tick:
        model = pretrain_vit(tick)
    fraction = accuracy(model, "pretrain-vit-held-out", 1000)
    say(f"held-out images: {100 * fraction:.2f} % of the classes correct")
    state = {
        name: tensor.half().contiguous()
        for name, tensor in model.state_dict().items()
        if not name.startswith(HEAD)
    }
    path = out / VIT_WEIGHTS.name
    save_file(state, path)
    return [path]


def make_timesformer(out: Path) -> list[Path]:
    """Pretrain and write the TimeSformer in float16, without its classifier."""
    with progress("pretraining timesformer", total=TIMESFORMER_STEPS, unit="steps") as tick:
        model, head = pretrain_timesformer(tick)
    _print_accuracy("videos", timesformer_accuracy(model.eval(), head, 1000))
    return _save(model, out / TIMESFORMER_WEIGHTS.name)


def make_ast(out: Path) -> list[Path]:
    """Pretrain and write the audio spectrogram transformer in float16, without its classifier."""
    with progress("pretraining ast", total=AST_STEPS, unit="steps") as tick:
        model, head = pretrain_ast(tick)
    _print_accuracy("audio clips", ast_accuracy(model.eval(), head, 1000))
    return _save(model, out / AST_WEIGHTS.name)


def _save(model: PreTrainedModel, folder: Path) -> list[Path]:
    model.half().save_pretrained(folder)
    return sorted(folder.iterdir())


def _print_accuracy(samples: str, fractions: list[float]) -> None:
    each = ", ".join(f"{100 * fraction:.1f}" for fraction in fractions)
    mean = 100 * sum(fractions) / len(fractions)
    say(f"held-out {samples}: {mean:.2f} % of the classes correct, by group {each}")


def make_opt(out: Path) -> list[Path]:
    """Pretrain and write the OPT in float16, and its tokenizer."""
    tokenizer = train_tokenizer()
    with progress("pretraining opt", total=OPT_STEPS, unit="steps") as tick:
        model = pretrain_opt(tokenizer, tick)
    for modality in TEXT_MAKERS:
        texts = [make_text_of(modality, f"held-out-text/{number}") for number in range(200)]
        encoded = [encode_text(tokenizer, text) for text in texts if text.opening]
        fraction = answer_accuracy(model, collate_texts(encoded, cast(int, tokenizer.pad_token_id)))
        say(f"held-out {modality} texts: {100 * fraction:.1f} % of the answer tokens correct")
    folder = out / OPT_FOLDER
    save_opt(model, tokenizer, folder)
    return sorted(folder.iterdir())


if __name__ == "__main__":
    run_app(app)
