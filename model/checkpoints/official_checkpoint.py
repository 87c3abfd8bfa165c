"""Checkpoints of the released code: the same trained parts under other names.

The released training scripts save a dict with the tensors under "model", beside "optimizer",
"lr_scheduler", "config" (the YAML file's content), "epoch" and the best score. Of the tensors they
keep what is not part of a backbone, and adapters, which stand inside the language model: those are
there twice, since the decoder's layers are registered under two names.
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
from epalm.model.epalm import EPALM, trainable
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
"""Released name -> ours; # is a number, * "weight" or "bias". The names are those of the released
models/epalm.py, connector.py and adapters.py; the adapters are its "normal" ones without norm."""

LAYERS, LAYERS_AGAIN = "transformer.", "model_text.model.decoder.layers."
"""The decoder's layers have both prefixes."""

NESTED = ("model", "state_dict")
"""Keys under which a file may keep its tensors."""

FIXED = {
    "connector_type": "linear",
    "deep": False,
    "select_higher_step": False,
    "special_answer_token": "</a>",
    "special_eo_answer_token": None,
    "use_vis_prefix": True,
}
"""Configuration keys whose other values this project does not reproduce."""


@dataclass(frozen=True)
class OfficialCheckpoint:
    """A released checkpoint.

    Attributes:
        file: where it was read from.
        tensors: the trained tensors under our names, float32, on the CPU.
        unknown: released names that have no place here.
        config: the released configuration; empty if the file holds none.
    """

    file: Path
    tensors: dict[str, Tensor]
    unknown: tuple[str, ...]
    config: Mapping[str, Any]

    def connectors(self) -> int:
        """How many connectors there are."""
        return sum(
            bool(re.fullmatch(r"connectors\.maps\.\d+\.weight", one)) for one in self.tensors
        )

    def prompt_length(self) -> int:
        """P, or 0 without a soft prompt."""
        embedding = self.tensors.get("prompt.embedding")
        return 0 if embedding is None else len(embedding)

    def variant(self) -> str:
        """The variant that has these parts.

        One connector may serve all cached vectors or the last alone, at inner layers or at the
        input: the configuration says which, and without one it is all, as released.

        Raises:
            UsageError: no variant has them.
        """
        down = self.tensors.get("adapters.0.attention.down.weight")
        factor = 0 if down is None else down.shape[1] // down.shape[0]
        prompt = "none"
        if self.prompt_length():
            prompt = "mlp" if "prompt.mlp.0.weight" in self.tensors else "plain"
        found = ("one" if self.connectors() == 1 else "each", prompt, factor)
        vectors = "last" if self.config.get("injected_hidden_states") == 1 else "all"
        span = "input" if self.config.get("end_layer_idx") == 1 else "auto"
        for name, one in VARIANTS.items():
            parts = (one.connectors, one.prompt, one.adapter_factor)
            if parts == found and (one.vectors, one.span) == (vectors, span):
                return name
        raise UsageError(
            f"{self.file} has {self.connectors()} connectors, prompt {prompt!r}, adapter factor "
            f"{factor}, {vectors} vectors at span {span!r}: no variant is like that; name one that "
            f"comes near with --variant, to see what differs: {', '.join(VARIANTS)}"
        )

    def copy_into(self, model: EPALM) -> None:
        """Give a model of the same parts these tensors.

        Raises:
            ModelError: lists every tensor that is unknown, missing or of another shape.
        """
        wanted = {name: tuple(weight.shape) for name, weight in trainable(model)}
        found = {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}
        problems = [f"{name} is unknown" for name in self.unknown]
        problems += [f"{_released(name)} is missing" for name in sorted(wanted.keys() - found)]
        problems += [f"{_released(name)} has no place" for name in sorted(found.keys() - wanted)]
        problems += [
            f"{_released(name)} is {found[name]}, wanted {wanted[name]}"
            for name in sorted(found.keys() & wanted)
            if found[name] != wanted[name]
        ]
        if problems:
            config = model.language_model.config
            raise ModelError(
                f"{self.file} does not fit a language model of {config.num_hidden_layers} layers, "
                f"{config.hidden_size} wide, with this store and variant: {'; '.join(problems)}. "
                "Check --lm, --features and --variant"
            )
        model.load_state_dict(self.tensors, strict=False)


def read_released(file: Path) -> OfficialCheckpoint:
    """Read a checkpoint: a torch file, executing nothing from it, or safetensors.

    Raises:
        MissingFileError: no such file.
        MalformedFileError: it cannot be read, or holds no tensors or two versions of one.
        ModelError: its configuration wants what this project does not do.
    """
    if not file.is_file():
        raise MissingFileError(f"{file} is not there: name a checkpoint of the released code")
    saved = _read(file)
    state = next((saved[key] for key in NESTED if isinstance(saved.get(key), Mapping)), saved)
    config = saved.get("config")
    config = config if isinstance(config, Mapping) else {}
    _check(file, config)
    tensors: dict[str, Tensor] = {}
    unknown = []
    for name, tensor in state.items():
        if not isinstance(tensor, Tensor):
            continue  # the state may lie flat beside epoch and optimiser
        ours = _renamed(_plain(name), NAMES)
        if ours is None:
            unknown.append(name)
        elif ours in tensors and not torch.equal(tensors[ours], tensor.float()):
            raise MalformedFileError(f"{file} holds two different tensors for {name}")
        else:
            tensors[ours] = tensor.float()
    if not tensors:
        raise MalformedFileError(
            f"{file} holds no tensor named like {next(iter(NAMES))}, wanted a checkpoint of the "
            f"released code; it holds {', '.join(list(map(str, state))[:5]) or 'nothing'}"
        )
    return OfficialCheckpoint(file, tensors, tuple(unknown), config)


def _read(file: Path) -> Mapping[str, Any]:
    if kind := not_weights(file):
        raise MalformedFileError(f"{file} cannot be read: it is {kind}; {WANTED}")
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        saved = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # bytes that are no pickle raise whatever they spell
        raise MalformedFileError(
            f"{file} cannot be read as tensors and plain values, it is {describe_file(file)}: "
            "where it was made, save its entry 'model' alone, "
            'torch.save({"model": checkpoint["model"]}, ...)'
        ) from error
    if not isinstance(saved, Mapping):
        raise MalformedFileError(f"{file} holds a {type(saved).__name__}, wanted a dict of tensors")
    return saved


def _check_types(file: Path, config: Mapping[str, Any]) -> None:
    """Refuse a configuration whose values are not what the released code writes."""
    layers = [key for key in ("start_layer_idx", "end_layer_idx") if "start_layer_idx" in config]
    wrong = [key for key in ("max_length", *layers) if type(config.get(key, 0)) is not int]
    wrong += [key for key in layers if key not in config]
    adapters = config.get("adapter_config") or {}
    held = adapters.values() if isinstance(adapters, Mapping) else [adapters]
    if not all(isinstance(one, Mapping) for one in held if one):
        wrong.append("adapter_config")
    if wrong:
        found = ", ".join(f"{key} {config.get(key)!r:.60}" for key in wrong)
        raise MalformedFileError(
            f"the configuration in {file} has {found}: save its entry 'model' alone and give the "
            "settings with --set"
        )


def _check(file: Path, config: Mapping[str, Any]) -> None:
    _check_types(file, config)
    other = [
        f"{key} is {config[key]!r}, wanted {value!r}"
        for key, value in FIXED.items()
        if key in config and config[key] != value
    ]
    for place, adapter in (config.get("adapter_config") or {}).items():
        if adapter and adapter.get("adapter_type") != "normal":
            other.append(f"adapter_config.{place} is {adapter.get('adapter_type')!r}, not 'normal'")
    if other:
        raise ModelError(f"{file} was trained in a way that is not reproduced: {'; '.join(other)}")


def _plain(name: str) -> str:
    name = name.removeprefix("module.")
    return LAYERS + name.removeprefix(LAYERS_AGAIN) if name.startswith(LAYERS_AGAIN) else name


def _released(name: str) -> str:
    """What the released code calls one of our tensors."""
    return _renamed(name, {ours: theirs for theirs, ours in NAMES.items()}) or name


def _renamed(name: str, names: Mapping[str, str]) -> str | None:
    """The name by a table of patterns, or none that fits."""
    for pattern, target in names.items():
        places = re.escape(pattern).replace(r"\#", r"(\d+)").replace(r"\*", "(weight|bias)")
        if match := re.fullmatch(places, name):
            for part in match.groups():
                target = re.sub(r"[#*]", part, target, count=1)
            return target
    return None
