"""Build the network of a learned task from its config and its weights; no data set is needed."""
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config
from mmseg.registry import MODELS

from ..models.segmentors import IncrementalSegmentor
from ..work_dir.layout import WEIGHTS
from ..work_dir.weights import TaskWeights, fill, read_weights
from .config_faults import config_faults
from .task_config import bare_network_config


@dataclass(frozen=True)
class LearnedNetwork:
    """The network of a learned task.

    Args:
        model: the network with its weights, in evaluation mode.
        config: the task's config.
        weights: the weights, with names and colours of the classes.
    """

    model: IncrementalSegmentor
    config: Config
    weights: TaskWeights


def learned_network(cfg: Config, task: int) -> LearnedNetwork:
    """Build the network of a learned task.

    Args:
        cfg: a scenario's config with ``work_dir``.
        task: index of the task.

    Raises:
        InputError: the task's weights are missing, damaged, or do not fit the config.
    """
    with config_faults(cfg):
        config = bare_network_config(cfg, task)
        model = MODELS.build(config.model)
    path = Path(config.work_dir) / WEIGHTS
    weights = read_weights(path, task)
    fill(model, weights.state_dict, path, cfg.filename)
    return LearnedNetwork(model.eval(), config, weights)
