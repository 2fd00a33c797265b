"""EncNet: what is in the whole image decides which channels count."""

from collections.abc import Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semask.decoders.blocks import AuxiliaryHead, GatheredMaps, PointNormReLU, classifier
from semask.decoders.decoder import Decoder
from semask.files.schema import Range
from semask.outputs import PixelOutput


class EncNet(Decoder):
    """Context Encoding: the image's features are encoded as one vector, which weighs the channels of all locations.

    Context Encoding for Semantic Segmentation (Zhang et al., arXiv 1803.08904), section 3. In training the same vector
    tells which classes are in the image (`PixelOutput.presence`, the SE-loss), and a small FCN head on the map before
    the last one gives auxiliary scores.

    Where we depart from it: the paper's backbone is dilated and its last maps have stride 8, ours come from
    `GatheredMaps`; the presence is scored once, not at two stages. No published parameters or FLOPs were compared.

    Args:
        in_channels: Channels of the maps.
        strides: Image pixels per location of the maps, rising.
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
        super().__init__(num_classes)
        self.gather = GatheredMaps(in_channels, strides, channels=channels)
        self.context = ContextEncoding(channels, codewords=codewords)
        self.presence_classifier = nn.Linear(channels, num_classes)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = classifier(channels, num_classes)
        self.auxiliary = AuxiliaryHead(in_channels[-2:][0], channels, num_classes=num_classes, dropout=dropout)

    def forward(self, maps: Sequence[Tensor]) -> PixelOutput:
        """Decode the maps [B, C_i, h_i, w_i] to class scores [B, K, h, w], at stride 8 where there is such a map.

        Raises:
            ValueError: If the coarsest map is a single location of a single image, in training.
        """
        x, code = self.context(self.gather(maps))
        logits = self.classifier(self.dropout(x))
        if not self.training:
            return PixelOutput(logits)
        return PixelOutput(logits, (self.auxiliary(maps[-2:][0]),), self.presence_classifier(code))


class ContextEncoding(nn.Module):
    """The Context Encoding Module: encodes a map as one vector and weighs its channels by it.

    The normalized residual encoders are averaged over the codewords, not summed: the next layer's weights
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
    """Residual encoding: N locations become one residual vector a codeword.

    Equation 1 of the paper: x belongs to codeword d_k by the share softmax_k(-s_k |x - d_k|²), and the residual of
    the codeword is the sum of the shares times x - d_k.

    Args:
        channels: Channels C of locations and codewords.
        codewords: Number of codewords D.
    """

    def __init__(self, channels: int, *, codewords: int) -> None:
        super().__init__()
        bound = (codewords * channels) ** -0.5
        self.codewords = nn.Parameter(torch.empty(codewords, channels).uniform_(-bound, bound))
        self.smoothing = nn.Parameter(torch.rand(codewords))

    def forward(self, x: Tensor) -> Tensor:
        """Encode locations [B, N, C]: -> [B, D, C]."""
        device = "cpu" if x.is_meta else x.device.type  # torch has no autocast for the device that counts FLOPs
        with torch.autocast(device, enabled=False):  # the distance is a difference of large numbers
            x = x.to(self.codewords.dtype)
            shares = self.shares(x)
            return shares.mT @ x - shares.sum(1)[..., None] * self.codewords

    def shares(self, x: Tensor) -> Tensor:
        """How much each location of [B, N, C] belongs to each codeword, [B, N, D]; each location's shares sum to 1."""
        # |x - d|² without the [B, N, D, C] of all differences
        distances = x.square().sum(-1, keepdim=True) - 2 * x @ self.codewords.T + self.codewords.square().sum(-1)
        return (-self.smoothing * distances).softmax(-1)


DECODERS = {"encnet": EncNet}
