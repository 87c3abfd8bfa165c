"""Loading the frozen language model: weights, precision, memory, error messages."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import google_crc32c
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import OPTConfig, OPTForCausalLM

from epalm.errors import MissingToolError, ModelError
from epalm.model.engine import language_model
from epalm.model.engine.language_model import load_config, load_language_model, weights_digest
from epalm.model.engine.model_batch import Batch
from epalm.model.engine.quantized import QuantizedLinear, weight_count
from epalm.model.epalm import trainable_parameters
from tests.fakes import save_language_model
from tests.model.helpers import tiny_epalm

WORDS = tuple(f"word{number}" for number in range(57))

needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None,
    reason="int4 needs bitsandbytes: pip install 'epalm[quantized]'",
)

QUANTIZED = ["int8", pytest.param("int4", marks=[needs_bitsandbytes, pytest.mark.slow])]
"""Loading bitsandbytes takes seconds."""


def save(folder: Path, width: int = 64) -> str:
    return str(save_language_model(folder, WORDS, width=width))


@pytest.mark.parametrize("saved", [torch.float32, torch.float16])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_weights_equal_those_of_the_stock_loader_in_every_precision(
    tmp_path: Path, saved: torch.dtype, precision: str
) -> None:
    folder = save(tmp_path / "lm", width=16)
    OPTForCausalLM.from_pretrained(folder, dtype=saved).save_pretrained(folder)
    model = load_language_model(folder, precision)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    expected = OPTForCausalLM.from_pretrained(folder, dtype=dtype).state_dict()
    assert model.state_dict().keys() == expected.keys()
    for name, weight in model.state_dict().items():
        assert weight.dtype == dtype
        assert torch.equal(weight, expected[name]), name
    assert model.lm_head.weight is model.model.decoder.embed_tokens.weight


def test_weights_keep_the_dtype_of_their_files_whatever_the_config_states(tmp_path: Path) -> None:
    folder = save(tmp_path / "lm", width=16)
    config = Path(folder) / "config.json"
    digest = weights_digest(load_language_model(folder, "fp32"))
    text = config.read_text().replace('"dtype": "float32"', '"dtype": "float16"')
    assert "float16" in text
    config.write_text(text)
    assert weights_digest(load_language_model(folder, "fp32")) == digest


def test_each_loaded_layer_is_passed_to_shard_before_the_next_one(tmp_path: Path) -> None:
    seen: list[list[torch.dtype]] = []

    def record_dtypes(layer: nn.Module) -> None:
        seen.append([weight.dtype for weight in layer.parameters()])

    load_language_model(save(tmp_path / "lm", width=16), "bf16", shard=record_dtypes)
    assert [set(dtypes) for dtypes in seen] == [{torch.bfloat16}] * 3


def test_a_model_that_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="known are fp32, bf16, fp16, int8, int4"):
        load_language_model(str(tmp_path), "fp8")
    with pytest.raises(ModelError, match=r"expected config.json in the folder, found no files"):
        load_language_model(str(tmp_path), "fp32")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("quantization_config", {"quant_method": "gptq", "bits": 4}, "floating point"),
        ("dropout", 5, "has dropout 5, expected less than 1"),
        ("attention_dropout", -0.5, "has attention_dropout -0.5, expected 0 or more"),
        ("layerdrop", 1.0, "has layerdrop 1.0, expected less than 1"),
        ("num_hidden_layers", 0, "has num_hidden_layers 0, expected 1 or more"),
        ("num_hidden_layers", 10**9, "expected at most 10,000"),
        ("vocab_size", -3, "has vocab_size -3, expected 1 or more"),
        ("hidden_size", 10**12, "expected at most 1,000,000"),
        ("num_attention_heads", 5, "has hidden_size 16, expected a multiple of the 5 heads"),
        ("activation_function", "swoosh", "has activation_function 'swoosh', expected"),
        ("pad_token_id", 10**6, "has pad_token_id 1000000, expected a token below"),
        ("hidden_size", "wide", "hidden_size"),
    ],
)
def test_a_config_with_an_invalid_value_is_rejected_with_its_key(
    tmp_path: Path, key: str, value: object, message: str
) -> None:
    folder = save(tmp_path / "lm", width=16)
    file = Path(folder) / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    with pytest.raises(
        ModelError, match=key if key != "num_attention_heads" else "hidden_size"
    ) as caught:
        load_config(folder, "fp32")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_of_another_shape_are_reported_with_both_shapes(tmp_path: Path) -> None:
    folder = save(tmp_path / "lm", width=16)
    file = Path(folder) / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {"ffn_dim": config["ffn_dim"] + 8}))
    with pytest.raises(ModelError) as caught:
        load_language_model(folder, "fp32")
    message = str(caught.value)
    own, other = config["ffn_dim"], config["ffn_dim"] + 8
    assert f"layers.0.fc1.bias has the shape ({own},), expected ({other},) (and 8 more)" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["fc1.bias"], "3 layers: model.decoder.layers.1.fc1.bias is missing or unused"),
        (["fc1.bias", "fc2.bias"], "layers.1.fc1.bias and 1 more are missing or unused"),
    ],
)
def test_weights_that_are_missing_are_named(tmp_path: Path, keys: list[str], message: str) -> None:
    folder = save(tmp_path / "lm", width=16)
    file = Path(folder) / "model.safetensors"
    missing = {f"model.decoder.layers.1.{key}" for key in keys}
    weights = load_file(file)
    assert missing < weights.keys()
    kept = {name: weight for name, weight in weights.items() if name not in missing}
    save_file(kept, file, metadata={"format": "pt"})
    with pytest.raises(ModelError) as caught:
        load_language_model(folder, "fp32")
    assert message in str(caught.value)


def test_the_digest_is_the_checksum_of_all_names_and_bytes_whatever_the_piece(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = nn.Sequential(nn.Linear(3, 2, bias=False), nn.BatchNorm1d(2, affine=False))
    tensors = module.state_dict()
    data = b""
    for name in ("0.weight", "1.num_batches_tracked", "1.running_mean", "1.running_var"):
        data += name.encode() + tensors.pop(name).numpy().tobytes()
    assert not tensors
    expected = f"{google_crc32c.value(data):08x}"
    for size in (5, 24, 1 << 24):
        monkeypatch.setattr(language_model, "HASHED_BYTES", size)
        assert weights_digest(module) == expected


@pytest.mark.parametrize(
    "name", ["models/old/opt-mini", "./opt-mini", "../opt-mini", "/opt-mini", "opt-mini", "a/"]
)
def test_a_name_that_is_not_a_hub_id_is_reported_as_a_missing_folder(name: str) -> None:
    with pytest.raises(ModelError, match=r"there is no folder /.* is not a hub id: give --lm"):
        load_config(name, "fp32")


def test_a_name_that_could_be_either_is_reported_as_neither_hub_id_nor_folder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def offline(name: str) -> None:
        raise OSError(f"cannot connect for {name}.\nmore lines")

    monkeypatch.setattr(language_model.PretrainedConfig, "get_config_dict", offline)
    message = (
        r"from the hub .*, and there is no folder /.*/models/opt-mni: cannot .*/opt-mni\. Give"
    )
    with pytest.raises(ModelError, match=message):
        load_config("models/opt-mni", "fp32")


@pytest.mark.parametrize("precision", QUANTIZED)
def test_quantized_weights_and_logits_are_close_to_those_in_fp32(
    tmp_path: Path, precision: str
) -> None:
    """Expected relative errors of normal weights follow from the quantization steps: 0.6 % with 127
    steps up to a row's largest weight (int8), 9 % with the 16 values of NF4. The logits are 18
    quantized maps away; independent errors add up to sqrt(18) times the error of one map, if no
    map amplifies its input."""
    folder = save(tmp_path / "lm")
    stock = OPTForCausalLM.from_pretrained(folder)
    for module in stock.model.decoder.layers.modules():
        if isinstance(module, nn.Linear):
            module.weight.data /= module.weight.std() * module.in_features**0.5
    stock.save_pretrained(folder)
    plain, quantized = (load_language_model(folder, name) for name in ("fp32", precision))
    expected = {"int8": 0.007, "int4": 0.1}[precision]
    for name, module in quantized.named_modules():
        if isinstance(module, QuantizedLinear):
            weight = plain.get_parameter(f"{name}.weight")
            assert 1e-3 < distance(module.weight(torch.float32), weight) < expected
    ids = torch.randint(4, 61, (4, 12), generator=torch.Generator().manual_seed(0))
    logits, expected_logits = (model(input_ids=ids).logits.float() for model in (quantized, plain))
    assert 1e-3 < distance(logits, expected_logits) < 18**0.5 * expected


def distance(actual: torch.Tensor, exact: torch.Tensor) -> float:
    return float((actual - exact).norm() / exact.norm())


@pytest.mark.parametrize("shape", [(128, 64), (24, 10)])
@pytest.mark.parametrize("precision", QUANTIZED)
def test_a_quantized_product_and_its_gradient_equal_those_of_the_dequantized_weight(
    precision: str, shape: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(*shape).requires_grad_(requires_grad=False)
    quantized = QuantizedLinear(linear, precision)
    states = torch.randn(5, shape[0], requires_grad=True)
    plain = states.detach().clone().requires_grad_()
    product = quantized(states)
    expected = nn.functional.linear(plain, quantized.weight(torch.float32), linear.bias)
    assert torch.allclose(product, expected, atol=1e-6)
    product.square().sum().backward()
    expected.square().sum().backward()
    assert states.grad is not None and plain.grad is not None
    assert torch.allclose(states.grad, plain.grad, atol=1e-5)


@pytest.mark.parametrize("precision", QUANTIZED)
def test_quantized_layers_take_a_quarter_or_an_eighth_of_the_memory(
    tmp_path: Path, precision: str
) -> None:
    folder = save(tmp_path / "lm")
    sizes = []
    for name in ("fp32", precision):
        model = load_language_model(folder, name)
        maps = [m for m in model.model.decoder.layers.modules() if isinstance(m, nn.Linear)]
        codes = [m for m in model.modules() if isinstance(m, QuantizedLinear)]
        tensors = [m.weight for m in maps] + [part for m in codes for part in m.buffers()]
        sizes.append(sum(tensor.nbytes for tensor in tensors))
    assert sizes[1] < {"int8": 0.27, "int4": 0.15}[precision] * sizes[0]


@pytest.mark.parametrize("precision", QUANTIZED)
def test_training_around_quantized_weights_lowers_the_loss_and_keeps_fp32_parameters(
    tmp_path: Path, precision: str
) -> None:
    lm = load_language_model(save(tmp_path / "lm", width=16), precision)
    model = tiny_epalm(lm).train()
    digest = weights_digest(lm)
    weights = [weight for _, weight in trainable_parameters(model)]
    optimizer = torch.optim.AdamW(weights, lr=0.01)
    ids = torch.randint(4, 61, (4, 6))
    batch = Batch(torch.randn(4, 2, 8), ids, torch.ones_like(ids), ids, torch.arange(4))
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = model(batch).values.mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]
    assert {weight.dtype for weight in weights} == {torch.float32}
    assert weights_digest(lm) == digest


def test_a_quantized_model_has_the_weight_count_of_the_plain_one(tmp_path: Path) -> None:
    folder = save(tmp_path / "lm", width=16)
    plain = load_language_model(folder, "fp32")
    assert weight_count(load_language_model(folder, "int8")) == weight_count(plain)
    assert weight_count(plain) == sum(weight.numel() for weight in plain.parameters())


def test_int4_without_bitsandbytes_names_the_install_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("epalm.model.engine.quantized.find_spec", lambda name: None)
    with pytest.raises(MissingToolError, match=r"pip install 'epalm\[quantized\]'"):
        load_language_model(save(tmp_path / "lm", width=16), "int4")


PEAK = """
import sys
from threading import Event, Thread
from epalm.model.engine.language_model import load_language_model
from transformers import OPTConfig, OPTForCausalLM

def own_bytes():
    lines = open("/proc/self/status").read().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

def watch():
    while not done.wait(0.001):
        peak.append(own_bytes())

OPTConfig(), OPTForCausalLM  # loads the libraries
start, peak, done = own_bytes(), [], Event()
Thread(target=watch, daemon=True).start()
model = load_language_model(sys.argv[1], sys.argv[2])
done.set()
weights = sum(weight.nbytes for weight in model.parameters())
print(max([*peak, own_bytes()]) - start, weights)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs Linux")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_loading_never_needs_a_second_copy_of_the_weights(tmp_path: Path, precision: str) -> None:
    """Measures anonymous memory only: the system can reclaim pages of the mapped file."""
    config = OPTConfig(
        vocab_size=5000, hidden_size=1024, ffn_dim=4096, num_hidden_layers=8, num_attention_heads=16
    )
    with torch.device("meta"):
        model = OPTForCausalLM(config)
    model.to_empty(device="cpu").save_pretrained(tmp_path)
    command = [sys.executable, "-c", PEAK, str(tmp_path), precision]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    peak, weights = map(int, done.stdout.split())
    assert weights > 2e8
    assert peak < 1.25 * weights
