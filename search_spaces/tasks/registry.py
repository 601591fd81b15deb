"""Tasks by name."""

from __future__ import annotations

from collections.abc import Mapping

from search_spaces.settings import TaskName
from search_spaces.tasks.base import Task
from search_spaces.tasks.classification import Classification
from search_spaces.tasks.pixels import Segmentation

TASKS: Mapping[TaskName, Task] = {"segmentation": Segmentation(), "classification": Classification()}
