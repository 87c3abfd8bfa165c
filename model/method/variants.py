"""Method variants and baselines by name: what is trained, and where visual tokens enter.

Sources: section 4 of the paper, its Figure 3, and Table 14 for those named after layers. The
baselines insert the encoder's last feature before the input of the language model.
"""

from dataclasses import dataclass, replace
from typing import Literal

from epalm.errors import UsageError
from epalm.plugins import suggestion

INPUT_SPAN = (0, 1)
"""Span (first, stop) of a plain prefix: inserted before layer 0, then processed by all layers."""

ADAPTER_FACTOR = 8
"""Reduction factor of the paper's adapters."""


@dataclass(frozen=True)
class Variant:
    """Method variant: the trained parts and the features they use.

    Attributes:
        connectors: "each" for one connector per cached feature, "one" for a shared connector,
            "resampler" for a resampler of all tokens in place of connectors.
        prompt: "plain" vectors before the text, such vectors through an "mlp", or "deep" for new
            vectors at every layer.
        late: nothing is trained below the first injected layer, where the prompt enters together
            with the visual tokens, and tokens whose output nothing reads are computed as keys and
            values only.
        adapter_factor: reduction factor of the adapters in every layer, of a late variant in the
            layers from the first injected one on; 0 for no adapters.
        features: "all" cached features are injected, only the encoder's "last" one, or all
            "tokens" of its last block, from a store that keeps them.
        blocks: encoder blocks by default: "last" for the last six, "stages" for the last of each of
            four stages.
        span: default span if the recipe's `inject` is "auto": "auto" is the published span,
            "upper" the part of it in the upper half of the layers, "input" is `INPUT_SPAN`.
        language_model: "trained" also trains the language model (upper bound in the paper's
            Table 11).
    """

    connectors: Literal["each", "one", "resampler"]
    prompt: Literal["none", "plain", "mlp", "deep"] = "none"
    adapter_factor: int = 0
    features: Literal["all", "last", "tokens"] = "all"
    blocks: Literal["last", "stages"] = "last"
    span: Literal["auto", "upper", "input"] = "auto"
    language_model: Literal["frozen", "trained"] = "frozen"
    late: bool = False


_ADAPTED_PREFIX = Variant("one", adapter_factor=ADAPTER_FACTOR, features="last", span="input")

VARIANTS = {
    "lin": Variant("one"),
    "6-connectors": Variant("each"),
    "pt": Variant("one", "mlp"),
    "pt-light": Variant("one", "plain"),
    "full": Variant("each", "mlp"),
    "full-light": Variant("each", "plain"),
    "multi-stage": Variant("each", "mlp", blocks="stages"),
    "ada": Variant("each", adapter_factor=ADAPTER_FACTOR),
    "deep-prompt": Variant("one", "deep", features="last", span="input"),
    "promptfuse": Variant("one", "plain", features="last", span="input"),
    "limber": Variant("one", features="last", span="input"),
    "limber-all": Variant("one", features="tokens", span="input"),
    "magma": _ADAPTED_PREFIX,
    "magma-all-tokens": replace(_ADAPTED_PREFIX, features="tokens"),
    "frozenbilm-like": _ADAPTED_PREFIX,
    "l19-31+adapter": Variant("one", adapter_factor=ADAPTER_FACTOR, features="last"),
    "l19-31+deep-prompt": Variant("one", "deep", features="last"),
    "resampler": Variant("resampler", features="tokens", span="input"),
    "resampler-inner": Variant("resampler", features="tokens"),
    "resampler+adapter": Variant(
        "resampler", adapter_factor=ADAPTER_FACTOR, features="tokens", span="input"
    ),
    "finetune-lm": Variant("each", "mlp", language_model="trained"),
    "late": Variant("each", "mlp", span="upper", late=True),
    "late-light": Variant("each", "plain", span="upper", late=True),
    "late-deep": Variant("each", "deep", span="upper", late=True),
    "late-ada": Variant("each", adapter_factor=ADAPTER_FACTOR, span="upper", late=True),
}
"""`frozenbilm-like` is `magma` on a video's features. The names with layers state OPT-2.7B's span;
with any other depth they use its published span. `resampler-inner` also uses it, `resampler` the
input. The variants `late` are this project's own."""


def find_variant(name: str) -> Variant:
    """The method variant of that name.

    Raises:
        UsageError: the name is unknown; the message suggests known ones.
    """
    try:
        return VARIANTS[name]
    except KeyError:
        raise UsageError(f"variant {name!r} is unknown; {suggestion(name, VARIANTS)}") from None
