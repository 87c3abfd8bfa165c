"""The models in the package: their size, and what the language model can answer."""

import hashlib
import re
from pathlib import Path

import pytest
from transformers import OPTForCausalLM, PreTrainedTokenizerFast

from epalm.demo.demo_dataset import sample_name, without_name
from epalm.demo.encoder import WEIGHTS
from epalm.demo.modalities import MODALITIES
from epalm.demo.stages import LANGUAGE_MODEL
from epalm.demo.worlds.clip_questions import all_clip_questions
from epalm.demo.worlds.clips import make_clip
from epalm.demo.worlds.scene_questions import all_scene_questions
from epalm.demo.worlds.scenes import make_scene
from epalm.model.engine.language_model import load_language_model
from epalm.model.text.tokenizer import load_tokenizer
from tools.pretraining.pretrain_opt import answer_accuracy, collate_texts, encode_text
from tools.pretraining.pretrain_vit import BATCH, STEPS
from tools.pretraining.pretraining_texts import TEXT_MAKERS, Text, make_text, make_text_of


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
        Path("timesformer-micro/model.safetensors"),
        Path("ast-micro/model.safetensors"),
        Path("opt-micro/model.safetensors"),
    }
    assert sum(path.stat().st_size for path in files) < 5_000_000


def test_the_weights_have_the_recorded_digests() -> None:
    recorded = dict(
        reversed(line)
        for line in re.findall(r"`([0-9a-f]{64})` \| `(.+?)`", (WEIGHTS / "README.md").read_text())
    )
    actual = {
        str(path.relative_to(WEIGHTS)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in WEIGHTS.rglob("*")
        if path.is_file() and path.name != "README.md"
    }
    assert recorded == actual


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


def accuracy(opt: OPTForCausalLM, tokenizer: PreTrainedTokenizerFast, texts: list[Text]) -> float:
    batch = collate_texts([encode_text(tokenizer, text) for text in texts], tokenizer.pad_token_id)
    opt.set_attn_implementation("eager")
    return answer_accuracy(opt, batch)


@pytest.mark.parametrize("world", TEXT_MAKERS)
def test_the_language_model_answers_from_held_out_descriptions(
    world: str, opt: OPTForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    texts = [make_text_of(world, f"held-out-text/{number}") for number in range(40)]
    described = accuracy(opt, tokenizer, [text for text in texts if text.opening])
    guessed = accuracy(opt, tokenizer, [Text("", text.questions) for text in texts])
    assert described > guessed + 0.2


def test_the_pretraining_texts_have_every_kind_of_question() -> None:
    seen = " ".join(make_text(f"survey/{number}").plain() for number in range(300))
    questions = all_scene_questions(make_scene("survey")) + all_clip_questions(make_clip("survey"))
    for question in questions:
        assert " ".join(question.text.split()[:2]) in seen, question.kind


@pytest.mark.slow
def test_no_scene_of_the_demo_was_used_in_pretraining() -> None:
    sizes = MODALITIES["image"].sizes
    demo = {
        without_name(make_scene(sample_name(0, split, number)))
        for split, count in (("train", sizes.train), ("val", sizes.val), ("test", sizes.test))
        for number in range(count)
    }
    for number in range(BATCH * STEPS):
        assert without_name(make_scene(f"pretrain-vit/{number}")) not in demo
