"""What a format is: the layout of a data set on disk, described in one row by its file in `semask/data/formats/`."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from semask.data.dataset import SegmentationDataset
from semask.data.listing import Listing

Split = Literal["train", "val"]


@dataclass(frozen=True)
class Format:
    """The layout of a data set on disk; a file in `semask/data/formats/` describes it as `FORMAT`.

    Args:
        find: Finds the files of a split: (root, name of the split) -> `SegmentationDataset`. Its keyword-only arguments
            are the options of `Data` that the format has, with the same names and defaults. Without splits on disk the
            name is None, and all files are found.
        splits: Names that the splits for training and for validation have on disk; {} if there are none; or a function
            that looks: root -> these names.
        title: Name of the public data set, for model cards; "" for a layout that any data set may have.
        recognize: Looks at a folder and says in words what shows that it has this layout; None if nothing does. Reads
            little: a few files at most.
        resembles: Likewise for a folder in which a part of the layout is missing, where no format is recognized:
            finding its files says which.
        general: Whether the layout says little, so that another format that recognizes the folder goes first.
        remote: Whether the root may be a URL, which `find` gets as text.
    """

    find: Callable[..., SegmentationDataset]
    splits: Mapping[Split, str] | Callable[[Path], Mapping[Split, str]]
    title: str = ""
    recognize: Callable[[Listing], str | None] | None = None
    resembles: Callable[[Listing], str | None] | None = None
    general: bool = False
    remote: bool = False

    @property
    def options(self) -> frozenset[str]:
        """Options of `Data` that the format has."""
        parameters = inspect.signature(self.find).parameters.values()
        return frozenset(parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY)

    def splits_in(self, root: Path) -> Mapping[Split, str]:
        """Names of the splits that a folder has; {} if it has none."""
        return self.splits(root) if callable(self.splits) else self.splits
