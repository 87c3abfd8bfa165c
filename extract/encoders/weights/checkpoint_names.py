"""Find a model's tensors in a checkpoint by their names: prefixes, copies, heads."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from torch import Tensor, nn

WRAPPERS = (
    *("state_dict", "model_state_dict", "model", "module", "net", "_orig_mod", "weights"),
    *("backbone", "encoder", "vit", "trunk", "visual", "vision_model", "vision_tower"),
    *("student", "teacher", "target_encoder", "state_dict_ema", "model_ema", "ema"),
)
"""Keys and modules that contain a whole encoder; a name may begin with several of them."""

_AVERAGED = frozenset({"ema", "swa"})

_TEACHER = frozenset({"teacher", "target"})

_SECOND = frozenset({"student", "momentum", "online"})
"""Words of a prefix. Where a file has several copies of a model, the average over the steps of
training is preferred, then the teacher, then any other copy, then a student."""

_HEAD = frozenset(
    {
        *("head", "heads", "fc", "classifier", "classification", "decoder", "projection"),
        *("projector", "projectors", "proj", "predictor", "prototype", "prototypes", "logit"),
        *("logits", "mask", "loss", "criterion", "queue", "pooler", "neck", "contrastive"),
        *("dino", "ibot", "lm", "text"),
    }
)
"""Words of the first part of a name after the encoder: no token depends on these tensors."""

_COMPUTED = re.compile(
    r"(^|\.)(relative_position_index|relative_coords_table|position_ids"
    r"|attn_mask|num_batches_tracked|inv_freq|periods)$"
)
"""Names of tables that models compute themselves."""

_MOST_LISTED = 8


def prefixes(names: Iterable[str], wanted: Iterable[str]) -> list[str]:
    """Prefixes under which a checkpoint may contain a model, most promising first.

    Args:
        names: names in the checkpoint.
        wanted: names of the model's tensors.

    Returns:
        Prefixes such as "" or "teacher.backbone.". First come those under which most of the
        model's names are found, of equal ones the preferred copy; then those of known wrappers,
        the preferred copy first.
    """
    names = list(names)
    votes = _votes(names, set(wanted))
    wrapped: dict[str, None] = {}
    for name in names:
        parts = name.split(".")
        for length in range(1, len(parts)):
            if parts[length - 1] not in WRAPPERS:
                break
            wrapped.setdefault(_joined(parts[:length]))
    voted = sorted(votes, key=lambda prefix: (-votes[prefix], _rank(prefix)))
    return list(dict.fromkeys([*voted[:_MOST_LISTED], "", *sorted(wrapped, key=_rank)]))


def copies(names: Iterable[str], wanted: Collection[str]) -> tuple[str, ...]:
    """Prefixes under which most of a model's names are found, with no rank among them."""
    votes = _votes(names, set(wanted))
    return tuple(prefix for prefix, count in votes.items() if 2 * count > len(wanted))


def _votes(names: Iterable[str], wanted: Collection[str]) -> Counter[str]:
    """Prefix -> number of the wanted names that follow it."""
    votes: Counter[str] = Counter()
    for name in names:
        parts = name.split(".")
        for start in range(len(parts)):
            if ".".join(parts[start:]) in wanted:
                votes[_joined(parts[:start])] += 1
    return votes


def _joined(parts: Sequence[str]) -> str:
    return "".join(f"{part}." for part in parts)


def _rank(prefix: str) -> int:
    words = set(re.split(r"[._]", prefix))
    for rank, preferred in enumerate((_AVERAGED, _TEACHER)):
        if words & preferred:
            return rank
    return 3 if words & _SECOND else 2


def is_unused(name: str, model: nn.Module) -> bool:
    """Whether a tensor that a model lacks can be left out without changing a token.

    These are heads (classifiers, decoders, projections) and tables that the model computes itself.

    Args:
        name: name in the checkpoint, without the encoder's prefix.
        model: model whose weights have no such name.
    """
    words = set(name.partition(".")[0].split("_"))
    return bool(words & _HEAD or _COMPUTED.search(name)) or name in dict(model.named_buffers())


def grouped(names: Iterable[str]) -> str:
    """Names of modules with their number of tensors, e.g. "head (2), decoder_blocks (96)"."""
    groups = Counter(name.partition(".")[0] for name in names)
    return listed([f"{group} ({count})" for group, count in groups.items()])


def listed(names: Sequence[str], most: int = _MOST_LISTED) -> str:
    """The first names and the number of the others."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def wrong_shapes(state: Mapping[str, Tensor], model: nn.Module) -> list[str]:
    """Names of tensors whose shape is not that of the model."""
    own = model.state_dict()
    return [
        name for name, tensor in state.items() if name in own and own[name].shape != tensor.shape
    ]
