"""Checkpoints of the official implementation: the same trained parts under other names.

The official training scripts save a dict with the tensors under "model", next to "optimizer",
"lr_scheduler", "config" (the content of the YAML file), "epoch" and the best score. They keep the
tensors that belong to no backbone, and the adapters inside the language model. Those are there
twice, since the decoder's layers are registered under two names.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from epalm.errors import MalformedFileError, MissingFileError, ModelError, UsageError
from epalm.model.epalm import EPALM, trainable_parameters
from epalm.model.method.variants import VARIANTS
from epalm.untrusted.file_kinds import WANTED, describe_file, not_weights

NAMES = {
    "connector.#.*": "connectors.maps.#.*",
    "prompt_module.prefix_embedding.0.weight": "prompt.embedding",
    "prompt_module.prefix_embedding.1.*": "prompt.mlp.0.*",
    "prompt_module.prefix_embedding.3.*": "prompt.mlp.2.*",
    "transformer.#.self_attn.adapter.0.*": "adapters.#.attention.down.*",
    "transformer.#.self_attn.adapter.2.*": "adapters.#.attention.up.*",
    "transformer.#.fc2.1.adapter.0.*": "adapters.#.ffn.down.*",
    "transformer.#.fc2.1.adapter.2.*": "adapters.#.ffn.up.*",
}
"""Official name -> our name; # is a number, * "weight" or "bias". The official names are those of
models/epalm.py, connector.py and adapters.py, with the "normal" adapters without norm."""

LAYERS, LAYERS_AGAIN = "transformer.", "model_text.model.decoder.layers."
"""The two prefixes of the decoder's layers."""

NESTED = ("model", "state_dict")
"""Keys under which a file may store its tensors."""

SUPPORTED_CONFIG = {
    "connector_type": "linear",
    "deep": False,
    "select_higher_step": False,
    "special_answer_token": "</a>",
    "special_eo_answer_token": None,
    "use_vis_prefix": True,
}
"""Configuration keys of which only one value is supported."""


@dataclass(frozen=True)
class OfficialCheckpoint:
    """A checkpoint of the official implementation.

    Attributes:
        file: the checkpoint's file.
        tensors: trained tensors by our names, float32, on the CPU.
        unknown: official names without a counterpart in our model.
        config: configuration of the official implementation; empty if the file has none.
    """

    file: Path
    tensors: dict[str, Tensor]
    unknown: tuple[str, ...]
    config: Mapping[str, Any]

    def connectors(self) -> int:
        """Number of connectors."""
        return sum(
            bool(re.fullmatch(r"connectors\.maps\.\d+\.weight", name)) for name in self.tensors
        )

    def prompt_length(self) -> int:
        """P, or 0 without a soft prompt."""
        embedding = self.tensors.get("prompt.embedding")
        return 0 if embedding is None else len(embedding)

    def variant(self) -> str:
        """Name of the method variant with these parts.

        A single connector may belong to all cached features or to the last one, at inner layers or
        at the input: the configuration decides. Without one it is all features, as released.

        Raises:
            UsageError: no variant has these parts.
        """
        down = self.tensors.get("adapters.0.attention.down.weight")
        factor = 0 if down is None else down.shape[1] // down.shape[0]
        prompt = "none"
        if self.prompt_length():
            prompt = "mlp" if "prompt.mlp.0.weight" in self.tensors else "plain"
        connectors = "one" if self.connectors() == 1 else "each"
        features = "last" if self.config.get("injected_hidden_states") == 1 else "all"
        span = "input" if self.config.get("end_layer_idx") == 1 else "auto"
        parts = (connectors, prompt, factor, features, span)
        for name, variant in VARIANTS.items():
            if parts == (
                variant.connectors,
                variant.prompt,
                variant.adapter_factor,
                variant.features,
                variant.span,
            ):
                return name
        raise UsageError(
            f"{self.file} has {self.connectors()} connectors, prompt {prompt!r}, adapter factor "
            f"{factor}, {features} features at span {span!r}: no variant has these parts; give a "
            f"similar one with --variant to see the differences: {', '.join(VARIANTS)}"
        )

    def copy_into(self, model: EPALM) -> None:
        """Copy the tensors into a model with the same parts.

        Raises:
            ModelError: lists every tensor that is unknown, missing or of another shape.
        """
        expected = {name: tuple(weight.shape) for name, weight in trainable_parameters(model)}
        shapes = {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}
        problems = [f"{name} is unknown" for name in self.unknown]
        problems += [f"{_official(name)} is missing" for name in sorted(expected.keys() - shapes)]
        problems += [f"{_official(name)} is unused" for name in sorted(shapes.keys() - expected)]
        problems += [
            f"{_official(name)} is {shapes[name]}, expected {expected[name]}"
            for name in sorted(shapes.keys() & expected)
            if shapes[name] != expected[name]
        ]
        if problems:
            config = model.language_model.config
            raise ModelError(
                f"{self.file} does not fit a language model of {config.num_hidden_layers} layers, "
                f"{config.hidden_size} wide, with this store and variant: {'; '.join(problems)}. "
                "Check --lm, --features and --variant"
            )
        model.load_state_dict(self.tensors, strict=False)


def read_official_checkpoint(file: Path) -> OfficialCheckpoint:
    """Read a checkpoint, a safetensors file or a torch file, without executing code from it.

    Raises:
        MissingFileError: the file does not exist.
        MalformedFileError: the file cannot be read, has no tensors, or has two versions of one.
        ModelError: the configuration of the checkpoint is not supported.
    """
    if not file.is_file():
        raise MissingFileError(f"{file} is missing: give a checkpoint of the official code")
    saved = _read(file)
    state = next((saved[key] for key in NESTED if isinstance(saved.get(key), Mapping)), saved)
    config = saved.get("config")
    config = config if isinstance(config, Mapping) else {}
    _check(file, config)
    tensors: dict[str, Tensor] = {}
    unknown = []
    for name, tensor in state.items():
        if not isinstance(tensor, Tensor):
            continue  # tensors may be at the top level, next to epoch and optimizer
        our_name = _renamed(_plain(name), NAMES)
        if our_name is None:
            unknown.append(name)
        elif our_name in tensors and not torch.equal(tensors[our_name], tensor.float()):
            raise MalformedFileError(f"{file} has two different tensors for {name}")
        else:
            tensors[our_name] = tensor.float()
    if not tensors:
        raise MalformedFileError(
            f"{file} has no tensor named like {next(iter(NAMES))}, expected a checkpoint of the "
            f"official code; its entries are {', '.join(list(map(str, state))[:5]) or 'none'}"
        )
    return OfficialCheckpoint(file, tensors, tuple(unknown), config)


def _read(file: Path) -> Mapping[str, Any]:
    if kind := not_weights(file):
        raise MalformedFileError(f"{file} cannot be read: it is {kind}; {WANTED}")
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        saved = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # bytes that are not a pickle can raise any error
        raise MalformedFileError(
            f"{file} cannot be read as tensors and plain values, it is {describe_file(file)}: "
            "on the machine that wrote it, save its entry 'model' alone, "
            'torch.save({"model": checkpoint["model"]}, ...)'
        ) from error
    if not isinstance(saved, Mapping):
        raise MalformedFileError(
            f"{file} contains a {type(saved).__name__}, expected a dict of tensors"
        )
    return saved


def _check_types(file: Path, config: Mapping[str, Any]) -> None:
    """Reject a configuration with values that the official implementation does not write."""
    layers = [key for key in ("start_layer_idx", "end_layer_idx") if "start_layer_idx" in config]
    wrong = [key for key in ("max_length", *layers) if type(config.get(key, 0)) is not int]
    wrong += [key for key in layers if key not in config]
    adapters = config.get("adapter_config") or {}
    entries = adapters.values() if isinstance(adapters, Mapping) else [adapters]
    if not all(isinstance(entry, Mapping) for entry in entries if entry):
        wrong.append("adapter_config")
    if wrong:
        values = ", ".join(f"{key} {config.get(key)!r:.60}" for key in wrong)
        raise MalformedFileError(
            f"the configuration in {file} has {values}: save its entry 'model' alone and give the "
            "settings with --set"
        )


def _check(file: Path, config: Mapping[str, Any]) -> None:
    _check_types(file, config)
    unsupported = [
        f"{key} is {config[key]!r}, expected {value!r}"
        for key, value in SUPPORTED_CONFIG.items()
        if key in config and config[key] != value
    ]
    for sublayer, adapter in (config.get("adapter_config") or {}).items():
        if adapter and adapter.get("adapter_type") != "normal":
            unsupported.append(
                f"adapter_config.{sublayer} is {adapter.get('adapter_type')!r}, not 'normal'"
            )
    if unsupported:
        raise ModelError(f"{file} has unsupported settings: {'; '.join(unsupported)}")


def _plain(name: str) -> str:
    """The official name without wrappers, with the first of the layers' two prefixes."""
    name = name.removeprefix("module.")
    return LAYERS + name.removeprefix(LAYERS_AGAIN) if name.startswith(LAYERS_AGAIN) else name


def _official(name: str) -> str:
    """The official name of one of our tensors."""
    return _renamed(name, {ours: theirs for theirs, ours in NAMES.items()}) or name


def _renamed(name: str, names: Mapping[str, str]) -> str | None:
    """The new name by the first matching pattern, or None."""
    for pattern, target in names.items():
        regex = re.escape(pattern).replace(r"\#", r"(\d+)").replace(r"\*", "(weight|bias)")
        if match := re.fullmatch(regex, name):
            for part in match.groups():
                target = re.sub(r"[#*]", part, target, count=1)
            return target
    return None
