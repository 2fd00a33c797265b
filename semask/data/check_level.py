"""What of a data set is read before the first step; without torch, since settings name it too."""

from typing import Literal

CheckLevel = Literal["full", "labels", "none"]
