"""Memory of connectors, traced on the meta device: tensors with shapes and without data.

There a resampler's attention keeps its weights, which the fused kernels of a CPU or GPU do not
keep, so that the figures are upper bounds.
"""

import torch

from epalm.model.epalm import EPALM
from epalm.model.method.joined_connectors import JoinedConnectors
from epalm.train.estimate.storage_tracking import LiveStorages, SavedStorages


def saved_connector_bytes(model: EPALM, images: int) -> int:
    """Bytes that the connectors of a model on the meta device save for backward.

    Args:
        model: shapes of the model.
        images: number of distinct images in a step, G.
    """
    saved = SavedStorages(model.connectors.parameters())
    with torch.autograd.graph.saved_tensors_hooks(saved, lambda tensor: tensor):
        model.connectors(_features(model, images))
    return saved.nbytes


def working_connector_bytes(model: EPALM, images: int) -> int:
    """Bytes that exist at one time while the connectors compute without a gradient.

    Args:
        model: shapes of the model.
        images: number of images, G.
    """
    features = _features(model, images)
    live = LiveStorages([features, *model.connectors.parameters()])
    with torch.no_grad(), live:
        model.connectors(features)
    return live.peak


def _features(model: EPALM, images: int) -> torch.Tensor:
    """(G, features that the connectors read, D), or (G, 1, W) where rows are joined."""
    indices, connectors = model.feature_indices, model.connectors
    if isinstance(connectors, JoinedConnectors):
        return torch.empty(images, 1, connectors.row_width, device="meta")
    count = model.plan.feature_count * model.visual_tokens if indices is None else len(indices)
    return torch.empty(images, count, connectors.encoder_width, device="meta")
