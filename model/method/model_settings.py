"""What a model is built from, its texts and its decoding: settings alone, without torch.

They are checked before anything heavy is imported.
"""

from dataclasses import dataclass
from typing import Literal

from epalm.errors import UsageError
from epalm.model.method.injection import Tail
from epalm.number_ranges import DECODING_RANGES, MODEL_RANGES, check_ranges

Supervision = Literal["all", "answer"]


@dataclass(frozen=True)
class Template:
    """How a prompt and an answer become one text, e.g. "{prompt}?</a>{answer}".

    Attributes:
        text: ends in "{answer}"; "{prompt}" before it, or nothing for captioning.
        supervise: "all" supervises the prompt too (as published), "answer" the answer only.
    """

    text: str
    supervise: Supervision = "all"

    def __post_init__(self) -> None:
        """Refuse a template that does not end in its answer."""
        if not self.text.endswith("{answer}") or self.text.count("{prompt}") > 1:
            raise UsageError(
                f"template {self.text!r} must end in '{{answer}}', with at most one '{{prompt}}'"
            )

    @property
    def _head(self) -> str:
        return self.text.removesuffix("{answer}")

    def question(self, prompt: str) -> str:
        """What generation starts from; blanks at the end belong to the answer's first token."""
        return self._head.replace("{prompt}", prompt).rstrip(" ")

    def answer(self, answer: str) -> str:
        """What follows it."""
        blanks = len(self._head) - len(self._head.rstrip(" "))
        return " " * blanks + answer


@dataclass(frozen=True)
class Decoding:
    """How text is generated, in Hugging Face's words.

    A sampled text depends on `seed`, its picture and its prompt, not on what else is in the batch,
    the order of the questions or the number of processes; on another type of device the same seed
    draws other numbers, and rounding can tip a draw as it can tip a greedy choice.

    Attributes:
        max_new_tokens: tokens after the prompt, the end token included.
        num_beams: 1 is greedy; the paper's main results use 3.
        do_sample: draw each token from the language model's distribution, as the paper's ablations
            do, in place of the most probable one.
        temperature: the logits are divided by it before a draw.
        top_p: draw only from the most probable tokens that have this much probability together.
        seed: of all draws.
    """

    max_new_tokens: int = 20
    num_beams: int = 1
    do_sample: bool = False
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be generated with.

        Raises:
            UsageError: names the setting, what was found and what was wanted.
        """
        check_ranges(self, DECODING_RANGES)
        if self.do_sample and self.num_beams > 1:
            raise UsageError(f"sampling keeps one text, found num_beams {self.num_beams}: give 1")
        idle = {"temperature": 1, "top_p": 1, "seed": 0}
        changed = [name for name, value in idle.items() if getattr(self, name) != value]
        if changed and not self.do_sample:
            raise UsageError(
                f"{' and '.join(changed)} would change sampling only: sample "
                "(`epalm-eval --sample`, recipe key do_sample), or leave it out"
            )


@dataclass(frozen=True)
class ModelSettings:
    """Everything needed to build the model around its frozen parts.

    Attributes:
        lm: hub id or local folder of the OPT.
        precision: of the frozen weights, a key of `epalm.model.engine.language_model.PRECISIONS`.
        variant: a name of `epalm.model.method.variants.VARIANTS`.
        encoder_width: D.
        cached: blocks of the encoder whose vectors are used.
        prompt_length: P, used by variants with a soft or deep prompt.
        inject: "auto" for the variant's own span, "FIRST:STOP" or "FIRST:end".
        tail: see `epalm.model.method.injection.Tail`.
        lm_dropout: hidden dropout of the frozen OPT in training.
        template: see `Template`.
        supervise: likewise.
        text_step: see `epalm.model.method.injection.plan_injection`.
        blocks: which of the blocks in the store are used, oldest first; empty for all.
        positions: vectors that the store keeps of each block, [CLS] first.
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

    def __post_init__(self) -> None:
        """Refuse numbers that no model can have.

        Raises:
            UsageError: names the number, what was found and what was wanted.
        """
        check_ranges(self, MODEL_RANGES)

    def text_template(self) -> Template:
        """How prompts and answers become text."""
        return Template(self.template, self.supervise)
