"""A record of a run that was never trained."""

from epalm.model.checkpoints.run_record import RunRecord
from epalm.model.method.model_settings import Decoding, ModelSettings

RECORD = RunRecord(
    name="run",
    task="vqa2",
    recipe="small",
    model=ModelSettings("opt", "fp32", "full", 8, 2, 2, "auto", "causal", 0.0, "{answer}", "all"),
    decoding=Decoding(),
    features="store.zarr",
    store={"encoder": "tiny", "dataset": "data"},
    data_root="data",
    seed=0,
    blind=False,
    lm_digest="00000000",
    trained=1,
    frozen=2,
)
