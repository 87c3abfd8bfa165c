"""Settings of the model, its text template and its decoding.

This module imports no torch, so that settings are checked before slow imports.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Literal, Self

from epalm.errors import UsageError
from epalm.model.method.injection import Tail
from epalm.model.method.resampler_shape import DEFAULT_RESAMPLER, ResamplerShape
from epalm.number_ranges import DECODING_RANGES, MODEL_RANGES, SOURCE_RANGES, check_ranges
from epalm.plugins import suggestion

Supervision = Literal["all", "answer"]


@dataclass(frozen=True)
class Template:
    """Text format of a prompt and its answer, e.g. "{prompt}?</a>{answer}".

    Attributes:
        text: template that ends in "{answer}" and has "{prompt}" before it; captioning needs no
            "{prompt}".
        supervise: "all" supervises the prompt too (as published), "answer" only the answer.
        begin_token: the token that begins a text: "auto" for what the tokenizer itself adds, or
            its begin or end token where it adds none; "none"; or the text of a token.
        chat: the text before "{answer}" is the user's message in the tokenizer's chat template,
            and the answer is the reply.
    """

    text: str
    supervise: Supervision = "all"
    begin_token: str = "auto"
    chat: bool = False

    def __post_init__(self) -> None:
        """Reject a template that does not end in its answer."""
        if not self.text.endswith("{answer}") or self.text.count("{prompt}") > 1:
            raise UsageError(
                f"template {self.text!r} must end in '{{answer}}', with at most one '{{prompt}}'"
            )
        if self.chat and not self._head.strip():
            raise UsageError(
                f"template {self.text!r} has no text before '{{answer}}', which would be the "
                "user's message of chat=true: give a request, e.g. --set "
                "caption_template='Describe the image in one sentence. {answer}'"
            )

    @property
    def _head(self) -> str:
        return self.text.removesuffix("{answer}")

    def question(self, prompt: str) -> str:
        """The text that generation starts from, without trailing spaces.

        Those belong to the answer's first token.
        """
        return self._head.replace("{prompt}", prompt).rstrip(" ")

    def answer(self, answer: str) -> str:
        """The text that follows `question`."""
        spaces = len(self._head) - len(self._head.rstrip(" "))
        return " " * spaces + answer


@dataclass(frozen=True)
class Decoding:
    """Decoding settings, with the names of Hugging Face's `GenerationConfig`.

    A sampled text depends on `seed`, its image and its prompt, not on the rest of the batch, the
    order of the questions or the number of processes. Another type of device draws other numbers
    from the same seed, and rounding can change a draw as it can change a greedy choice.

    Attributes:
        max_new_tokens: maximum number of tokens after the prompt, the end token included.
        num_beams: number of beams; 1 is greedy, the paper's main results use 3.
        do_sample: sample each token from the language model's distribution, as the paper's
            ablations do, instead of taking the most probable one.
        temperature: divisor of the logits before sampling.
        top_p: sample only from the most probable tokens whose probabilities sum to this value.
        seed: random seed of sampling.
    """

    max_new_tokens: int = 20
    num_beams: int = 1
    do_sample: bool = False
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Reject invalid combinations and values out of range.

        Raises:
            UsageError: names the setting, its value and the valid values.
        """
        check_ranges(self, DECODING_RANGES)
        if self.do_sample and self.num_beams > 1:
            raise UsageError(f"sampling needs num_beams 1, found num_beams {self.num_beams}")
        defaults = {"temperature": 1, "top_p": 1, "seed": 0}
        changed = [name for name, value in defaults.items() if getattr(self, name) != value]
        if changed and not self.do_sample:
            raise UsageError(
                f"{' and '.join(changed)} can only be set for sampling: enable it "
                "(`epalm-eval --sample`, recipe key do_sample), or leave this setting out"
            )

    def changed(self, changes: Mapping[str, object]) -> Self:
        """These settings with some changed.

        Turning sampling on sets the number of beams to 1, and turning it off resets the settings of
        sampling, unless they are among the changes.

        Args:
            changes: names of settings -> values.

        Raises:
            UsageError: an unknown setting, or values that contradict each other.
        """
        known = [field.name for field in fields(self)]
        if unknown := [name for name in changes if name not in known]:
            raise UsageError(
                f"{unknown[0]!r} is no decoding setting: {suggestion(unknown[0], known)}"
            )
        implied: dict[str, object] = {}
        if changes.get("do_sample"):
            implied = {"num_beams": 1}
        elif "do_sample" in changes:
            implied = {"temperature": 1.0, "top_p": 1.0, "seed": 0}
        return replace(self, **(implied | dict(changes)))  # type: ignore[arg-type]


@dataclass(frozen=True)
class SourceSettings:
    """The features of one store, and which of them are used.

    Attributes:
        encoder_width: D.
        features: number of features of a row, L: blocks x positions.
        blocks: indices of the store's encoder blocks that are used, ascending.
        positions: number of tokens that the store has per block.
        injected_tokens: number of a block's tokens, from its first one, that are injected together.
    """

    encoder_width: int
    features: int
    blocks: tuple[int, ...]
    positions: int = 1
    injected_tokens: int = 1

    def __post_init__(self) -> None:
        """Reject numbers out of range.

        Raises:
            UsageError: names the setting, its value and the valid range.
        """
        check_ranges(self, SOURCE_RANGES)
        stored = self.features // self.positions
        if not self.blocks or not all(0 <= block < stored for block in self.blocks):
            raise UsageError(
                f"blocks is {self.blocks}, expected indices of the store's {stored} encoder blocks"
            )
        if self.injected_tokens > self.positions:
            raise UsageError(
                f"injected_tokens is {self.injected_tokens}, expected at most {self.positions}, "
                "the number of tokens of a block"
            )


@dataclass(frozen=True)
class ModelSettings:
    """Everything needed to build the model around its frozen parts.

    Attributes:
        lm: hub id or local folder of the language model.
        precision: precision of the frozen weights, a key of
            `epalm.model.engine.language_model.PRECISIONS`.
        variant: method variant, a key of `epalm.model.method.variants.VARIANTS`.
        encoder_width: D.
        cached: number of encoder blocks whose features are used.
        prompt_length: P, used by variants with a soft or deep prompt.
        inject: injected span: "auto" for the variant's default, "FIRST:STOP" or "FIRST:end".
        tail: treatment of the visual token after the span, see
            `epalm.model.method.injection.Tail`.
        lm_dropout: hidden dropout of the frozen language model in training.
        template: text format, see `Template.text`.
        supervise: supervised part of the text, see `Template.supervise`.
        text_step: distance of injected layers, see
            `epalm.model.method.injection.plan_injection`.
        blocks: indices of the store's encoder blocks that are used, ascending; empty for all.
        positions: number of tokens that the store has per block.
        injected_tokens: number of a block's tokens, from its first one, that are injected together.
            Variants that read all tokens of a block ignore it.
        begin_token: token that begins every text, see `Template.begin_token`.
        chat: whether texts are in the chat template, see `Template.chat`.
        resampler: shape of the resampler, where the variant has one.
        sources: the stores whose rows are joined; empty for a single store. Numbers about a store
            outside of it are those of the first one.
    """

    lm: str
    precision: str
    variant: str
    encoder_width: int
    cached: int
    prompt_length: int
    inject: str
    tail: Tail
    lm_dropout: float
    template: str
    supervise: Supervision
    text_step: int = 1
    blocks: tuple[int, ...] = ()
    positions: int = 1
    injected_tokens: int = 1
    begin_token: str = "auto"
    chat: bool = False
    resampler: ResamplerShape = DEFAULT_RESAMPLER
    sources: tuple[SourceSettings, ...] = ()

    def __post_init__(self) -> None:
        """Reject numbers out of range.

        Raises:
            UsageError: names the setting, its value and the valid range.
        """
        check_ranges(self, MODEL_RANGES)
        self.first_source()

    def first_source(self) -> SourceSettings:
        """The features of the single store, or of the first one."""
        blocks = self.blocks or tuple(range(self.cached))
        return SourceSettings(
            encoder_width=self.encoder_width,
            features=self.positions * (1 + max(blocks)),
            blocks=blocks,
            positions=self.positions,
            injected_tokens=self.injected_tokens,
        )

    @property
    def answers_questions(self) -> bool:
        """Whether texts have a question before the answer; otherwise they are captions."""
        return "{prompt}" in self.template

    def text_template(self) -> Template:
        """The text template of prompts and answers."""
        return Template(self.template, self.supervise, begin_token=self.begin_token, chat=self.chat)
