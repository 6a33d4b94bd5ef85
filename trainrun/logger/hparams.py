"""A run as a row of TensorBoard's HParams tab: its settings at the start, and that it came to its end.

No run says which columns the tab has, for TensorBoard would take the first one's word: without, it takes
all settings and curves of all runs, and shows those that differ.
"""

from __future__ import annotations

import time
from typing import Any

import yaml
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import metadata
from tensorboard.plugins.hparams.api_pb2 import STATUS_SUCCESS
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo

from trainrun.logger.settings import flat

_NO_SETTINGS = ("name", "run_dir", "resume")  # of what the run does


def session_start(config: str) -> Summary:
    """The settings of a run, from its YAML. Null has no type in the tab and is left out; lists are text."""
    info = SessionStartInfo(start_time_secs=time.time())
    for key, value in flat(yaml.safe_load(config) or {}).items():
        if value is None or key in _NO_SETTINGS or key.startswith("logger."):
            continue
        if isinstance(value, bool):
            info.hparams[key].bool_value = value
        elif isinstance(value, (int, float)):
            info.hparams[key].number_value = value
        else:
            info.hparams[key].string_value = str(value)
    return _summary(metadata.SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=info))


def session_end() -> Summary:
    """That the run is complete. Of one that failed nothing is said: a resume could not take it back."""
    info = SessionEndInfo(status=STATUS_SUCCESS, end_time_secs=time.time())
    return _summary(metadata.SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=info))


def _summary(tag: str, content: Any) -> Summary:
    about = metadata.create_summary_metadata(content)
    return Summary(value=[Summary.Value(tag=tag, metadata=about, tensor=metadata.NULL_TENSOR)])
