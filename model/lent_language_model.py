"""A frozen language model that several models use one after the other, loaded once."""

from collections.abc import Callable

from torch import nn
from transformers import PreTrainedModel

from epalm.model.engine.activation_checkpointing import checkpoint_no_layers
from epalm.model.engine.language_model import load_language_model
from epalm.model.families.decoder_parts import decoder_parts
from epalm.model.method.adapter import detach_adapters
from epalm.model.method.model_settings import ModelSettings


class LanguageModelLender:
    """Keeps the language model of the last borrower.

    A model that trains the language model, shards or compiles its layers gets one of its own.
    """

    def __init__(self) -> None:
        """Keep nothing yet."""
        self._key: tuple[str, str, str] | None = None
        self._kept: PreTrainedModel | None = None

    def borrow(
        self,
        settings: ModelSettings,
        device: str,
        *,
        own: bool,
        shard: Callable[[nn.Module], object] | None = None,
    ) -> PreTrainedModel:
        """The frozen language model as it was loaded; earlier borrowers must not use it any more.

        Args:
            settings: name and precision of the language model.
            device: device of its weights.
            own: load it for this borrower alone, who changes it.
            shard: called with each loaded decoder layer, see `load_language_model`.

        Raises:
            ModelError: `load_language_model` refuses the model.
        """
        key = (settings.lm, settings.precision, device)
        if own or self._kept is None or self._key != key:
            self.clear()  # before the next one is in memory
            loaded = load_language_model(settings.lm, settings.precision, device, shard=shard)
            if own:
                return loaded
            self._key, self._kept = key, loaded
        restore(self._kept)
        return self._kept

    def clear(self) -> None:
        """Keep no language model."""
        self._key = self._kept = None


def restore(language_model: PreTrainedModel) -> None:
    """Remove all that a model has attached to its frozen language model.

    Weights in oneDNN layout stay: they are a copy of the frozen ones.
    """
    parts = decoder_parts(language_model)
    detach_adapters(parts)
    checkpoint_no_layers(parts.layers)
    parts.set_dropout(0.0)
    language_model.requires_grad_(requires_grad=False)
    language_model.train(mode=False)
