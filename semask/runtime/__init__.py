"""Exported files at work: opened by the engine of their format, called like the model that they were made of."""

from semask.runtime.runtime import Runtime, is_exported, load, weights_beside

__all__ = ["Runtime", "is_exported", "load", "weights_beside"]
