"""Trajectories of network weights: what they are, where they lie, how they are made and split."""

from typing import TYPE_CHECKING

from weightcast.datasets.lazily import names_from

if TYPE_CHECKING:
    from weightcast.datasets.dataset import DataSet, GeneratedDataSet, RecordedDataSet
    from weightcast.datasets.errors import InputError
    from weightcast.datasets.evaluator import evaluator_for, rebuild
    from weightcast.datasets.history import History
    from weightcast.datasets.opening import open_trajectory
    from weightcast.datasets.own.network import OwnNetwork
    from weightcast.datasets.recipe import Recipe
    from weightcast.datasets.recording.trajectory_recorder import TrajectoryRecorder
    from weightcast.datasets.registry import all_datasets, get_dataset, register_dataset
    from weightcast.datasets.task import ForecastTask, Pair, make_task
    from weightcast.datasets.trajectory import Block, Metadata, TensorInfo, Trajectory

__all__ = [
    "Block",
    "DataSet",
    "ForecastTask",
    "GeneratedDataSet",
    "History",
    "InputError",
    "Metadata",
    "OwnNetwork",
    "Pair",
    "Recipe",
    "RecordedDataSet",
    "TensorInfo",
    "Trajectory",
    "TrajectoryRecorder",
    "all_datasets",
    "evaluator_for",
    "get_dataset",
    "make_task",
    "open_trajectory",
    "rebuild",
    "register_dataset",
]

_PLACES = {
    "Block": "trajectory",
    "DataSet": "dataset",
    "ForecastTask": "task",
    "GeneratedDataSet": "dataset",
    "History": "history",
    "InputError": "errors",
    "Metadata": "trajectory",
    "OwnNetwork": "own.network",
    "Pair": "task",
    "Recipe": "recipe",
    "RecordedDataSet": "dataset",
    "TensorInfo": "trajectory",
    "Trajectory": "trajectory",
    "TrajectoryRecorder": "recording.trajectory_recorder",
    "all_datasets": "registry",
    "evaluator_for": "evaluator",
    "get_dataset": "registry",
    "make_task": "task",
    "open_trajectory": "opening",
    "rebuild": "evaluator",
    "register_dataset": "registry",
}
__getattr__ = names_from(__name__, _PLACES)
