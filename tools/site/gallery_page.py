"""The table of the adapters whose model cards are in docs/gallery, from the cards' headers."""

from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard

from tools.site.markdown import cell, code, table

ADDRESS = "gallery/index.md"

CONTROL = ", blind control"
"""What `epalm.hub.card.card_metadata` adds to the name of a control's metric."""

INTRODUCTION = """\
# Gallery

After reading this page you know which adapters are made by one script, and how good they are.

`python -m tools.gallery OUT --data DATA --models MODELS` extracts the features, trains each adapter
and its blind control, evaluates both, and writes the files that `epalm-push` would upload to
`OUT/hub`. The commands are in `tools/gallery.toml`. This table is made from the model cards that
the script wrote. The models are small and were trained on two CPU cores: the scores show that the
method works, not how good a large model is.

Neither epalm nor these adapters are published yet. The cards are written for the hub: where they
say `pip install epalm`, install from the source folder as README does, and where they load
`epalm/NAME`, load the folder that the script wrote:

```python
import epalm

model = epalm.load("OUT/hub/epalm/NAME")  # e.g. OUT/hub/epalm/esc10
```

The folder names the language model and the encoder's weights by their paths on the machine that
trained. Elsewhere, give them: `epalm.load("OUT/hub/epalm/NAME", lm="FOLDER", weights="FILE")`.

"""

HEAD = ("adapter", "input", "data", "metric x 100", "score", "95 % interval", "blind control")


def gallery_pages(cards: Path) -> dict[str, str]:
    """Address of the page -> its Markdown; none without cards.

    Args:
        cards: folder of the model cards, NAME.md.
    """
    rows = [_row(file) for file in sorted(cards.glob("*.md"))]
    return {ADDRESS: INTRODUCTION + table(HEAD, rows)} if rows else {}


def _row(file: Path) -> list[str]:
    data: Any = ModelCard.load(file).data  # of another class for each type of repository
    results: list[EvalResult] = data.eval_results or []
    headline, control = _headline(results, data.metrics[0])
    low, high = (headline.metric_args or {}).get("confidence_interval", ("", ""))
    (modality,) = {"image", "video", "audio"} & set(data.tags)
    return [
        f"[{cell(data.model_name)}]({file.name})",
        modality,
        f"{cell(headline.dataset_name)}, {code(headline.dataset_config)}",
        cell(headline.metric_type),
        f"{headline.metric_value:.2f}",
        f"{low:.2f} to {high:.2f}" if low != "" else "",
        f"{control.metric_value:.2f}" if control else "not evaluated",
    ]


def _headline(results: list[EvalResult], metric: str) -> tuple[EvalResult, EvalResult | None]:
    """The result of a metric in the first evaluation that has it, and that of its control."""
    own = [result for result in results if result.metric_type == metric]
    score = next(one for one in own if one.metric_name == metric)
    same = (one for one in own if one.dataset_config == score.dataset_config)
    return score, next((one for one in same if one.metric_name == metric + CONTROL), None)
