"""EncNet: what is in the whole image decides which channels count."""

from collections.abc import Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semask.decoders.fcn import AuxiliaryHead, refuse_single_cell
from semask.decoders.fpn import ConvNormReLU, classifier
from semask.files.schema import Range
from semask.outputs import PixelOutput, resize

FINEST_STRIDE = 8


class EncNet(nn.Module):
    """Context Encoding: the image's features are encoded as one vector, which weighs the channels of all cells.

    Context Encoding for Semantic Segmentation (Zhang et al., arXiv 1803.08904), section 3. In training the same vector
    tells which classes are in the image (`PixelOutput.presence`, the SE-loss), and a small FCN head on the map before
    the last one gives auxiliary scores.

    Where we depart from it: the paper's backbone is dilated and its last maps have stride 8, ours come from
    `GatheredMaps`; the presence is scored once, not at two stages. No published parameters or FLOPs were compared.

    Args:
        in_channels: Channels of the maps.
        strides: Image pixels per cell of the maps, rising.
        num_classes: Classes K.
        channels: Width of the decoder; the paper's is 512.
        dropout: Share of the channels that is dropped in training.
        codewords: Number of codewords.

    >>> import torch
    >>> decoder = EncNet((8, 16), (4, 8), num_classes=5, channels=4)
    >>> output = decoder((torch.randn(2, 8, 12, 10), torch.randn(2, 16, 6, 5)))
    >>> output.logits.shape, output.presence.shape
    (torch.Size([2, 5, 6, 5]), torch.Size([2, 5]))
    """

    size_divisor = 1
    makes_masks = False
    prior_align_corners = False
    skips_maps = True

    def __init__(
        self,
        in_channels: Sequence[int],
        strides: Sequence[int],
        *,
        num_classes: int,
        channels: int = 256,
        dropout: float = 0.1,
        codewords: Annotated[int, Range(1, 1024)] = 32,
    ) -> None:
        super().__init__()
        self.gather = GatheredMaps(in_channels, strides, channels=channels)
        self.context = ContextEncoding(channels, codewords=codewords)
        self.presence_classifier = nn.Linear(channels, num_classes)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = classifier(channels, num_classes)
        self.auxiliary = AuxiliaryHead(in_channels[-2:][0], channels, num_classes=num_classes, dropout=dropout)

    def forward(self, maps: Sequence[Tensor]) -> PixelOutput:
        """Decode the maps [B, C_i, h_i, w_i] to class scores [B, K, h, w], at stride 8 where there is such a map.

        Raises:
            ValueError: If the coarsest map is a single cell of a single image, in training.
        """
        x, code = self.context(self.gather(maps))
        logits = self.classifier(self.dropout(x))
        if not self.training:
            return PixelOutput(logits)
        return PixelOutput(logits, (self.auxiliary(maps[-2:][0]),), self.presence_classifier(code))


class ContextEncoding(nn.Module):
    """The Context Encoding Module: encodes a map as one vector and weighs its channels by it.

    The normalised residual encoders are averaged over the codewords, not summed: the next layer's weights
    absorb the factor, and the sigmoid does not start saturated.

    Args:
        channels: Channels of the map.
        codewords: Number of codewords.
    """

    def __init__(self, channels: int, *, codewords: int) -> None:
        super().__init__()
        self.project = PointNormReLU(channels, channels)
        self.encoding = Encoding(channels, codewords=codewords)
        self.norm = nn.BatchNorm1d(codewords)
        self.gate = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Weigh the channels of a map [B, C, h, w].

        Returns:
            x + gate * x, rectified, [B, C, h, w], with the gate from 0 to 1; and the code of the image, [B, C].
        """
        residuals = self.encoding(self.project(x).flatten(2).transpose(1, 2))  # [B, D, C], D codewords
        code = F.relu(self.norm(residuals)).mean(1)
        gate = self.gate(code).sigmoid()[..., None, None]
        return F.relu(x + gate * x), code


class Encoding(nn.Module):
    """Residual encoding: N cells become one residual vector a codeword.

    Equation 1 of the paper: a cell belongs to codeword d_k by the share softmax_k(-s_k |x - d_k|²), and the residual of
    the codeword is the sum of the shares times x - d_k.

    Args:
        channels: Channels C of cells and codewords.
        codewords: Number of codewords D.
    """

    def __init__(self, channels: int, *, codewords: int) -> None:
        super().__init__()
        bound = (codewords * channels) ** -0.5
        self.codewords = nn.Parameter(torch.empty(codewords, channels).uniform_(-bound, bound))
        self.smoothing = nn.Parameter(torch.rand(codewords))

    def forward(self, x: Tensor) -> Tensor:
        """Encode cells [B, N, C]: -> [B, D, C]."""
        device = "cpu" if x.is_meta else x.device.type  # torch has no autocast for the device that counts FLOPs
        with torch.autocast(device, enabled=False):  # the distance is a difference of large numbers
            x = x.to(self.codewords.dtype)
            shares = self.shares(x)
            return shares.mT @ x - shares.sum(1)[..., None] * self.codewords

    def shares(self, x: Tensor) -> Tensor:
        """How much each cell of [B, N, C] belongs to each codeword, [B, N, D]; each cell's shares sum to 1."""
        # |x - d|² without the [B, N, D, C] of all differences
        distances = x.square().sum(-1, keepdim=True) - 2 * x @ self.codewords.T + self.codewords.square().sum(-1)
        return (-self.smoothing * distances).softmax(-1)


class GatheredMaps(nn.Module):
    """Brings the maps of stride 8 and more together at the finest of them: what a dilated backbone gives at its end.

    Args:
        in_channels: Channels of the maps.
        strides: Image pixels per cell of the maps, rising.
        channels: Channels of the result.
    """

    def __init__(self, in_channels: Sequence[int], strides: Sequence[int], *, channels: int) -> None:
        super().__init__()
        self.first = next((i for i, stride in enumerate(strides) if stride >= FINEST_STRIDE), len(strides) - 1)
        *laterals, last = in_channels[self.first :]
        self.laterals = nn.ModuleList([PointNormReLU(width, channels) for width in laterals])
        self.last = ConvNormReLU(last, channels)
        self.fuse = ConvNormReLU(channels * (len(laterals) + 1), channels) if laterals else nn.Identity()

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Gather the maps [B, C_i, h_i, w_i]: -> [B, channels, h, w].

        Raises:
            ValueError: If the coarsest map is a single cell of a single image, in training.
        """
        if self.training:
            refuse_single_cell(maps[-1])
        *laterals, last = maps[self.first :]
        gathered = [lateral(x) for lateral, x in zip(self.laterals, laterals, strict=True)] + [self.last(last)]
        fused: Tensor = self.fuse(torch.cat([resize(x, gathered[0].shape[-2:]) for x in gathered], dim=1))
        return fused


class PointNormReLU(nn.Sequential):
    """1 x 1 convolution without bias, BatchNorm, ReLU: [B, C, h, w] -> [B, C', h, w]."""

    def __init__(self, in_channels: int, channels: int) -> None:
        conv = nn.Conv2d(in_channels, channels, 1, bias=False)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        super().__init__(conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True))


DECODERS = {"encnet": EncNet}
