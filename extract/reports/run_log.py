"""The time and memory of a run, in the log beside its store."""

from epalm.cache.records.extraction_log import ExtractionLogEntry, log_extraction
from epalm.devices import peak_device_memory, pick_device
from epalm.extract.planning.extraction_plan import Plan
from epalm.extract.planning.extraction_result import ExtractionReport
from epalm.system_memory import peak_memory


def note_report(report: ExtractionReport, plan: Plan, device: str) -> None:
    """Record time and memory of a run beside its store; evaluation reports show them.

    Args:
        report: report of the run.
        plan: plan of the run.
        device: name of the device, see `epalm.devices.pick_device`.
    """
    work = ExtractionLogEntry(
        encoded=report.encoded,
        seconds=round(report.seconds, 1),
        memory=peak_memory(),
        device=pick_device(device),
        device_memory=peak_device_memory(),
    )
    log_extraction(plan.out, work)
