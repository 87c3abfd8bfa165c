"""The published variants and baselines by name: what is trained, and how the picture gets in.

Section 4 of the paper, its Figure 3, and Table 14 for those named after layers. The baselines put
the encoder's last vector before the input of the language model.
"""

from dataclasses import dataclass, replace
from typing import Literal

from epalm.errors import UsageError
from epalm.plugins import suggestion

INPUT_SPAN = (0, 1)
"""(first, stop) of a plain prefix: inserted before layer 0 and carried through all others."""

ADAPTER_FACTOR = 8
"""Width over inner width of the paper's adapters."""


@dataclass(frozen=True)
class Variant:
    """What is trained.

    Attributes:
        connectors: "each" cached vector has a connector, or all share "one".
        prompt: "plain" vectors before the text, such vectors through an "mlp", or "deep": new ones
            at every layer.
        adapter_factor: width over inner width of adapters in every layer; 0 for none.
        vectors: "all" cached vectors are injected, or the encoder's "last" only, or all "tokens" of
            its last block, of a store that keeps them.
        span: where, unless the recipe's `inject` says it: "auto" is the published span, "input"
            is `INPUT_SPAN`.
        language_model: "trained" too is the upper bound of the paper's Table 11.
    """

    connectors: Literal["each", "one"]
    prompt: Literal["none", "plain", "mlp", "deep"] = "none"
    adapter_factor: int = 0
    vectors: Literal["all", "last", "tokens"] = "all"
    span: Literal["auto", "input"] = "auto"
    language_model: Literal["frozen", "trained"] = "frozen"


_ADAPTED_PREFIX = Variant("one", adapter_factor=ADAPTER_FACTOR, vectors="last", span="input")

VARIANTS = {
    "lin": Variant("one"),
    "6-connectors": Variant("each"),
    "pt": Variant("one", "mlp"),
    "pt-light": Variant("one", "plain"),
    "full": Variant("each", "mlp"),
    "full-light": Variant("each", "plain"),
    "ada": Variant("each", adapter_factor=ADAPTER_FACTOR),
    "deep-prompt": Variant("one", "deep", vectors="last", span="input"),
    "promptfuse": Variant("one", "plain", vectors="last", span="input"),
    "limber": Variant("one", vectors="last", span="input"),
    "magma": _ADAPTED_PREFIX,
    "magma-all-tokens": replace(_ADAPTED_PREFIX, vectors="tokens"),
    "frozenbilm-like": _ADAPTED_PREFIX,
    "l19-31+adapter": Variant("one", adapter_factor=ADAPTER_FACTOR, vectors="last"),
    "l19-31+deep-prompt": Variant("one", "deep", vectors="last"),
    "finetune-lm": Variant("each", "mlp", language_model="trained"),
}
"""`frozenbilm-like` is `magma` over a video's vectors. The names with layers give OPT-2.7B's span,
and stand for the published span of any other depth."""


def find_variant(name: str) -> Variant:
    """The variant of that name.

    Raises:
        UsageError: there is none; lists the names.
    """
    try:
        return VARIANTS[name]
    except KeyError:
        raise UsageError(f"variant {name!r} is unknown; {suggestion(name, VARIANTS)}") from None
