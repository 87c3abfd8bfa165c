"""Make the shipped weights: `python -m tools.pretraining vit|timesformer|ast|opt`.

Each model sees its own modality alone: the encoders drawn media and class numbers, the OPT texts.
Media, texts, initial weights and the order of batches follow from fixed names and seeds, and all
run on one thread, so the same versions of torch and of this code on the same kind of processor give
the same bytes. Other processors or versions round differently: their weights differ in every digit
after some hundred steps, but serve as well. `weights/README.md` records the digests of the shipped
files and what made them.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

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
from tools.pretraining.pretrain_opt import pretrain_opt, save_opt, train_tokenizer
from tools.pretraining.pretrain_timesformer import STEPS as TIMESFORMER_STEPS
from tools.pretraining.pretrain_timesformer import accuracy as timesformer_accuracy
from tools.pretraining.pretrain_timesformer import pretrain_timesformer
from tools.pretraining.pretrain_vit import HEAD, accuracy, pretrain_vit
from tools.pretraining.pretrain_vit import STEPS as VIT_STEPS

OPT_FOLDER = "opt-micro"

app = typer.Typer(add_completion=False)


@app.command()
def command(
    model: Annotated[
        Literal["vit", "timesformer", "ast", "opt"], typer.Argument(help="Which one.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = WEIGHTS,
) -> None:
    """Pretrain one of the demo's frozen models from scratch; tens of minutes on one core."""
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
    share = accuracy(model, "pretrain-vit-held-out", 1000)
    say(f"held-out scenes: {100 * share:.2f} % of the classes right")
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
    _say_accuracy("clips", timesformer_accuracy(model.eval(), head, 1000))
    return _save(model, out / TIMESFORMER_WEIGHTS.name)


def make_ast(out: Path) -> list[Path]:
    """Pretrain and write the audio spectrogram transformer, likewise."""
    with progress("pretraining ast", total=AST_STEPS, unit="steps") as tick:
        model, head = pretrain_ast(tick)
    _say_accuracy("recordings", ast_accuracy(model.eval(), head, 1000))
    return _save(model, out / AST_WEIGHTS.name)


def _save(model: PreTrainedModel, folder: Path) -> list[Path]:
    model.half().save_pretrained(folder)
    return sorted(folder.iterdir())


def _say_accuracy(media: str, shares: list[float]) -> None:
    each = ", ".join(f"{100 * share:.1f}" for share in shares)
    mean = 100 * sum(shares) / len(shares)
    line = f"held-out {media}: {mean:.2f} % of the classes right, by group {each}"
    say(line)


def make_opt(out: Path) -> list[Path]:
    """Pretrain and write the OPT in float16, and its tokenizer."""
    tokenizer = train_tokenizer()
    with progress("pretraining opt", total=OPT_STEPS, unit="steps") as tick:
        model = pretrain_opt(tokenizer, tick)
    folder = out / OPT_FOLDER
    save_opt(model, tokenizer, folder)
    return sorted(folder.iterdir())


if __name__ == "__main__":
    run_app(app)
