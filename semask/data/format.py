"""What a format is: the layout of a data set on disk, described in one row by its file in `semask/data/formats/`."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from semask.data.dataset import SegmentationDataset

Split = Literal["train", "val"]


@dataclass(frozen=True)
class Format:
    """The layout of a data set on disk; a file in `semask/data/formats/` describes it as `FORMAT`.

    Args:
        find: Finds the files of a split: (root, name of the split) -> `SegmentationDataset`. Its keyword-only arguments
            are the options of `Data` that the format has, with the same names and defaults.
        splits: Names that the splits for training and for validation have on disk.
        title: Name of the public data set, for model cards; "" for a layout that any data set may have.
    """

    find: Callable[..., SegmentationDataset]
    splits: Mapping[Split, str]
    title: str = ""

    @property
    def options(self) -> frozenset[str]:
        """Options of `Data` that the format has."""
        parameters = inspect.signature(self.find).parameters.values()
        return frozenset(parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY)
