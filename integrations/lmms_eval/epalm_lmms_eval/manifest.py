"""The entry point that lmms-eval reads, in the group "lmms_eval.models"."""

from lmms_eval.models.registry_v2 import ModelManifest


def manifest() -> ModelManifest:
    """The name of the model and the class that lmms-eval imports when it is used."""
    return ModelManifest(model_id="epalm", simple_class_path="epalm_lmms_eval.model.EpalmModel")
