"""The shipped models: how large they are, and that each knows its own modality."""

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import OPTForCausalLM, PreTrainedTokenizerFast

from epalm.demo.dataset import without_name
from epalm.demo.encoder import WEIGHTS
from epalm.demo.pretrain_opt import answer_accuracy, collate_texts, encode_text
from epalm.demo.pretrain_vit import labels, scene_batch
from epalm.demo.questions import QUESTION_KINDS, ask_all
from epalm.demo.scenes import draw_scene, make_scene
from epalm.demo.stages import ENCODER, LANGUAGE_MODEL
from epalm.demo.texts import Text, make_text
from epalm.extract.encoder import last_cls_tokens, make_encoder
from epalm.model.language_model import load_language_model, load_tokenizer
from epalm.tasks.records import MediaItem


@pytest.fixture(scope="module")
def opt() -> OPTForCausalLM:
    return load_language_model(str(LANGUAGE_MODEL), "fp32")


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return load_tokenizer(str(LANGUAGE_MODEL))


def test_all_weights_together_are_smaller_than_five_megabytes() -> None:
    files = [path for path in WEIGHTS.rglob("*.safetensors")]
    assert {path.relative_to(WEIGHTS) for path in files} == {
        Path("vit-micro.safetensors"),
        Path("opt-micro/model.safetensors"),
    }
    assert sum(path.stat().st_size for path in files) < 5_000_000


def test_the_shipped_files_are_the_recorded_ones() -> None:
    recorded = dict(
        reversed(line)
        for line in re.findall(r"`([0-9a-f]{64})` \| `(.+?)`", (WEIGHTS / "README.md").read_text())
    )
    found = {
        str(path.relative_to(WEIGHTS)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in WEIGHTS.rglob("*")
        if path.is_file() and path.name != "README.md"
    }
    assert recorded == found


def test_the_tokenizer_keeps_the_conventions_of_opt(
    tokenizer: PreTrainedTokenizerFast, opt: OPTForCausalLM
) -> None:
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (2, 2, 1)
    ids = tokenizer("are the circles left or right?").input_ids
    assert ids[0] == 2
    assert tokenizer.decode(ids, skip_special_tokens=True) == "are the circles left or right?"
    assert tokenizer.decode(tokenizer("Ünseen wörds!").input_ids[1:]) == "Ünseen wörds!"
    assert opt.config.vocab_size - len(tokenizer) == 8
    assert tokenizer.add_tokens(["</a>"], special_tokens=True) == 1


def told_right(opt: OPTForCausalLM, tokenizer: PreTrainedTokenizerFast, texts: list[Text]) -> float:
    batch = collate_texts([encode_text(tokenizer, text) for text in texts], tokenizer.pad_token_id)
    opt.set_attn_implementation("eager")
    return answer_accuracy(opt, batch, tokenizer.eos_token_id)


def test_the_language_model_answers_from_a_description_it_never_saw(
    opt: OPTForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    texts = [make_text(f"held-out-text/{number}") for number in range(60)]
    told = told_right(opt, tokenizer, [text for text in texts if text.opening])
    guessed = told_right(opt, tokenizer, [Text("", text.questions) for text in texts])
    assert guessed < 0.45
    assert told > guessed + 0.2


def test_the_texts_teach_every_kind_of_question() -> None:
    seen = " ".join(make_text(f"survey/{number}").plain() for number in range(300))
    for kind in QUESTION_KINDS:
        examples = [one for one in ask_all(make_scene("survey")) if one.kind == kind]
        assert " ".join(examples[0].text.split()[:2]) in seen


def test_the_encoder_gives_six_finite_cls_tokens_that_depend_on_the_photo(tmp_path: Path) -> None:
    encoder = make_encoder(ENCODER)
    inputs = []
    for number in range(2):
        path = tmp_path / f"{number}.png"
        draw_scene(make_scene(f"photo/{number}")).save(path)
        inputs.append(encoder.load(MediaItem.at(path, path.name), 0))
    with torch.inference_mode():
        tokens = last_cls_tokens(encoder.blocks(torch.stack(inputs)), encoder.norm)
    assert tokens.shape == (2, 6, encoder.width)
    assert torch.isfinite(tokens).all()
    assert ((tokens[0] - tokens[1]).norm(dim=1) / tokens[0].norm(dim=1) > 0.1).all()


def test_photos_prepared_by_extraction_are_those_of_pretraining(tmp_path: Path) -> None:
    encoder = make_encoder(ENCODER)
    path = tmp_path / "0.png"
    draw_scene(make_scene("same/0")).save(path)
    loaded = encoder.load(MediaItem.at(path, path.name), 0)
    pixels, _ = scene_batch("same", 0, 1)
    preset = encoder.preset
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (preset.mean, preset.std))
    torch.testing.assert_close((loaded / 255 - mean) / std, pixels[0])


def test_the_last_cls_token_tells_linearly_which_colour_each_shape_has() -> None:
    encoder = make_encoder(ENCODER)
    paths = [make_scene(f"probe/{number}") for number in range(600)]
    pixels = torch.stack([torch.from_numpy(np.array(draw_scene(scene))) for scene in paths])
    with torch.inference_mode():
        blocks = encoder.blocks(pixels.permute(0, 3, 1, 2).to(torch.uint8))
        tokens = last_cls_tokens(blocks, encoder.norm)[:, -1]
    wanted = torch.tensor([labels(scene)[0] for scene in paths])
    ones = torch.cat([tokens, torch.ones(len(tokens), 1)], dim=1)
    targets = torch.nn.functional.one_hot(wanted).float()
    solution = torch.linalg.lstsq(ones[:500], targets[:500]).solution
    guesses = (ones[500:] @ solution).argmax(dim=1)
    present = wanted[500:] > 0
    assert (guesses == wanted[500:])[present].float().mean() > 0.8


@pytest.mark.slow
def test_no_scene_of_the_demo_was_seen_in_pretraining() -> None:
    demo = {
        without_name(make_scene(f"demo-0/{split}/{number}"))
        for split, count in (("train", 1400), ("val", 50), ("test", 300))
        for number in range(count)
    }
    from epalm.demo.pretrain_vit import BATCH, STEPS

    for number in range(BATCH * STEPS):
        assert without_name(make_scene(f"pretrain-vit/{number}")) not in demo
