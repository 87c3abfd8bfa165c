"""The YAML header of a model card, in the format of the Hugging Face hub."""

from collections.abc import Sequence
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from epalm.hub.card.base_models import encoder_id, language_model_id, license_of, store_field
from epalm.hub.card.card_scores import CardEvaluation, CardScore, ShownEvaluation
from epalm.hub.card.modality import modality, pipeline_tag
from epalm.model.checkpoints.run_record import RunRecord

LIBRARY = "epalm"

MANIFEST = "manifest"
"""Task of data of one's own, which has no published name."""

CONFIDENCE = 0.95


def card_metadata(record: RunRecord, evaluations: Sequence[ShownEvaluation]) -> dict[str, Any]:
    """The keys of the header, without those that have no value.

    Args:
        record: record of the run.
        evaluations: evaluations of the run.
    """
    lm = language_model_id(record)
    known = license_of(lm)
    base_models = [name for name in (lm, encoder_id(record)) if name]
    headlines = dict.fromkeys(shown.result.headline for shown in evaluations)
    data = ModelCardData(
        library_name=LIBRARY,
        base_model=base_models or None,
        license=known.id if known else None,
        license_name=(known.name if known else "") or None,
        license_link=(known.link if known else "") or None,
        pipeline_tag=pipeline_tag(record),
        tags=_tags(record),
        datasets=None if record.task == MANIFEST else [store_field(record, "dataset")],
        metrics=list(headlines) or None,
        model_name=record.name,
        eval_results=_results(record, evaluations) or None,
    )
    fields: dict[str, Any] = data.to_dict()
    if lm:
        fields["base_model_relation"] = "adapter"
    return fields


def _tags(record: RunRecord) -> list[str]:
    blind = ["blind-control"] if record.blind else []
    return [LIBRARY, "adapter", "frozen-language-model", modality(record), *blind]


def _results(record: RunRecord, evaluations: Sequence[ShownEvaluation]) -> list[EvalResult]:
    """The scores in percent, as papers print them, each followed by that of the blind control."""
    results = []
    for shown in evaluations:
        for name, score in shown.result.scores.items():
            results.append(_result(record, shown, shown.result, name, score))
            if shown.control and name in shown.control.scores:
                results.append(
                    _result(record, shown, shown.control, name, shown.control.scores[name])
                )
    return results


def _result(
    record: RunRecord,
    shown: ShownEvaluation,
    evaluation: CardEvaluation,
    name: str,
    score: CardScore,
) -> EvalResult:
    data = evaluation.dataset or evaluation.task
    shown_data = data if evaluation.task == MANIFEST else f"{evaluation.task} ({data})"
    interval = None
    if score.low is not None and score.high is not None:
        limits = [percent(score.low), percent(score.high)]
        interval = {"confidence_level": CONFIDENCE, "confidence_interval": limits}
    return EvalResult(
        task_type=pipeline_tag(record),
        dataset_type=data,
        dataset_name=shown_data,
        dataset_split=evaluation.split,
        dataset_config=shown.name,
        metric_type=name,
        metric_value=percent(score.value),
        metric_name=f"{name}, blind control" if evaluation.blind else name,
        metric_args=interval,
    )


def percent(fraction: float) -> float:
    """A fraction times 100, with two decimals."""
    return round(100 * fraction, 2)
