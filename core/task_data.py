"""The data of a trial, by the kind of its task."""

from __future__ import annotations

from core.algorithmic import AlgorithmicData
from core.config import TrialConfig
from core.markov import MarkovData
from core.task_terms import AlgorithmicTask, MarkovTask, TextTask
from core.tasks import TaskData
from core.text import TextData


def task_data(config: TrialConfig) -> TaskData:
    """The data that a trial is trained and validated on."""
    match config.task:
        case MarkovTask() as task:
            return MarkovData(task, data_seed=config.data_seed, batch=config.train.batch)
        case AlgorithmicTask() as task:
            return AlgorithmicData(task, data_seed=config.data_seed, batch=config.train.batch)
        case TextTask() as task:
            return TextData(task, data_seed=config.data_seed, batch=config.train.batch)
