"""The published variants by name: what is trained (section 4 of the paper, Figure 3)."""

from dataclasses import dataclass

from epalm.errors import UsageError


@dataclass(frozen=True)
class Variant:
    """What is trained.

    Attributes:
        shared_connector: one connector for all cached vectors instead of one for each.
        prompt: a soft prompt in front of the text.
        prompt_mlp: the prompt passes an MLP.
    """

    shared_connector: bool
    prompt: bool
    prompt_mlp: bool


VARIANTS = {
    "lin": Variant(shared_connector=True, prompt=False, prompt_mlp=False),
    "6-connectors": Variant(shared_connector=False, prompt=False, prompt_mlp=False),
    "pt": Variant(shared_connector=True, prompt=True, prompt_mlp=True),
    "pt-light": Variant(shared_connector=True, prompt=True, prompt_mlp=False),
    "full": Variant(shared_connector=False, prompt=True, prompt_mlp=True),
    "full-light": Variant(shared_connector=False, prompt=True, prompt_mlp=False),
}


def find_variant(name: str) -> Variant:
    """The variant of that name.

    Raises:
        UsageError: there is none; lists the names.
    """
    try:
        return VARIANTS[name]
    except KeyError:
        known = ", ".join(VARIANTS)
        raise UsageError(f"variant {name!r} is unknown; known are {known}") from None
