"""The charts of a report: which there are, and their titles."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from epalm.evaluate.report.charts.plots import curves_figure, inline_svg, reliability_figure
from epalm.evaluate.report.charts.training_curves import read_curve
from epalm.evaluate.report.tables import label
from epalm.evaluate.scores.calibration import calibrate
from epalm.evaluate.scores.eval_results import Evaluation
from epalm.model.checkpoints.validation_figures import IMAGE_GAIN, LOSS

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Chart:
    """A chart of the report, also saved beside it as <report>-<name>.png."""

    name: str
    title: str
    figure: "Figure"

    @property
    def svg(self) -> Markup:
        """The chart as an `<svg>` element."""
        return Markup(inline_svg(self.figure, self.title))


def curve_charts(
    evaluations: Sequence[Evaluation], metrics_files: Sequence[Path | None]
) -> list[Chart]:
    """Training loss, validation score, loss and image gain over the steps, if any run has them.

    Args:
        evaluations: at least one evaluation; the last one determines the validation score.
        metrics_files: metrics.jsonl of each evaluation, None for one without a curve.

    Raises:
        MalformedFileError: a metrics.jsonl is damaged.
    """
    headline = evaluations[-1].headline
    curves_to_draw = (
        ("loss", "Training loss", "train", "loss", False),
        ("validation", f"Validation {label(headline)}, times 100", "val", headline, True),
        ("validation-loss", "Validation loss, nats per token", "val", LOSS, False),
        ("image-gain", "Image gain, nats per token", "val", IMAGE_GAIN, False),
    )
    charts = []
    for name, title, kind, metric, scaled in curves_to_draw:
        curves = [
            read_curve(file, kind=kind, metric=metric) if file else None for file in metrics_files
        ]
        if any(curves):
            names = [evaluation.run for evaluation in evaluations]
            figure = curves_figure(curves, names, axis=label(metric), percent=scaled)
            charts.append(Chart(name, title, figure))
    return charts


def reliability_charts(evaluations: Sequence[Evaluation]) -> list[Chart]:
    """Mean score over mean confidence, if any evaluation has confidences."""
    calibrations = [calibrate(evaluation) for evaluation in evaluations]
    if not any(calibrations):
        return []
    axis = f"mean {label(evaluations[-1].example_metric)}"
    figure = reliability_figure(
        calibrations, [evaluation.run for evaluation in evaluations], axis=axis
    )
    return [Chart("calibration", f"{axis.capitalize()} over mean confidence", figure)]
