"""Which parameter is trained how: rules by name pattern, freezing, low-rank adapters."""

from trainrun.parameters.parameters import ParamConfig, Parameters

__all__ = ["ParamConfig", "Parameters"]
