"""SeMask FPN computed plainly, as the published code does it: what the speed of ours is measured against.

Written from the papers (SeMask, arXiv 2112.12782; Swin, 2103.14030; Semantic FPN, 1901.02446) in the way that was usual
for dense prediction in 2021. Features are tokens [B, L, C] that become a map [B, H, W, C] inside each block and tokens
again after it; H and W are then those of the map, as n is the number of windows and N that of cells in one. In every
forward pass the shift's mask is built, the position bias gathered, every intermediate is a new tensor, and the semantic
attention holds all its N x N weights. Nothing is optimized, and nothing is slower than that way of writing asks for.

Of semask only the weights are used (`Reference.from_ours`): no line here runs code of the package.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import StochasticDepth


class ReferenceOutput(NamedTuple):
    """What the model gives."""

    logits: Tensor
    """Class scores [B, K, H/4, W/4]."""
    priors: tuple[Tensor, ...]
    """Semantic prior of each stage, [B, K, h_i, w_i]."""
    prior_logits: Tensor | None
    """Sum of the upsampled priors, [B, K, H/4, W/4], in training."""


def cut(x: Tensor, window: int) -> Tensor:
    """Windows [B * n, window, window, C] of a map [B, H, W, C] of whole windows."""
    B, H, W, C = x.shape
    x = x.view(B, H // window, window, W // window, window, C)
    return x.permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, window, window, C)


def join(windows: Tensor, window: int, H: int, W: int) -> Tensor:
    """Undo `cut`."""
    B = windows.shape[0] // ((H // window) * (W // window))
    x = windows.view(B, H // window, W // window, window, window, -1)
    return x.permute(0, 1, 3, 2, 4, 5).contiguous().view(B, H, W, -1)


def pad(x: Tensor, multiple: int) -> Tensor:
    """Pad a map [B, H, W, C] with zeros at the right and the bottom."""
    H, W = x.shape[1:3]
    return F.pad(x, (0, 0, 0, -W % multiple, 0, -H % multiple))


def shift_mask(H: int, W: int, window: int, shift: int, device: torch.device) -> Tensor:
    """What keeps cells apart that only the cyclic shift brought together: 0 or -100, [n, N, N]."""
    H, W = H + -H % window, W + -W % window
    region = torch.zeros(1, H, W, 1, device=device)
    parts = (slice(0, -window), slice(-window, -shift), slice(-shift, None))
    for i, rows in enumerate(parts):
        for j, columns in enumerate(parts):
            region[:, rows, columns, :] = 3 * i + j
    cells = cut(region, window).view(-1, window * window)
    difference = cells.unsqueeze(1) - cells.unsqueeze(2)
    return difference.masked_fill(difference != 0, -100.0).masked_fill(difference == 0, 0.0)


class WindowAttention(nn.Module):
    """Attention with a relative position bias within windows [B * n, N, C]."""

    index: Tensor

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        self.qkv = nn.Linear(channels, 3 * channels)
        self.projection = nn.Linear(channels, channels)
        row, column = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
        down, right = (x.flatten()[:, None] - x.flatten()[None, :] + window - 1 for x in (row, column))
        self.register_buffer("index", down * (2 * window - 1) + right, persistent=False)  # [N, N]

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        windows, N, C = x.shape
        qkv = self.qkv(x).reshape(windows, N, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4)
        query, key, value = qkv[0], qkv[1], qkv[2]
        query = query * (C // self.heads) ** -0.5
        weights = query @ key.transpose(-2, -1)
        bias = self.relative_position_bias_table[self.index.view(-1)].view(N, N, -1).permute(2, 0, 1).contiguous()
        weights = weights + bias.unsqueeze(0)
        if mask is not None:
            n = mask.shape[0]
            weights = weights.view(windows // n, n, self.heads, N, N) + mask.unsqueeze(1).unsqueeze(0)
            weights = weights.view(-1, self.heads, N, N)
        weights = weights.softmax(dim=-1)
        x = (weights @ value).transpose(1, 2).reshape(windows, N, C)
        return self.projection(x)


class Block(nn.Module):
    """Window attention and MLP, each on a residual; tokens [B, H * W, C]."""

    def __init__(self, channels: int, heads: int, window: int, shift: int, drop_path: float) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.norm1 = nn.LayerNorm(channels)
        self.attention = WindowAttention(channels, heads, window)
        self.drop_path = StochasticDepth(drop_path, mode="row")
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels))

    def forward(self, x: Tensor, H: int, W: int, mask: Tensor) -> Tensor:
        B, _, C = x.shape
        residual = x
        x = pad(self.norm1(x).view(B, H, W, C), self.window)
        padded_h, padded_w = x.shape[1:3]
        if self.shift:
            x = torch.roll(x, (-self.shift, -self.shift), dims=(1, 2))
        windows = cut(x, self.window).view(-1, self.window * self.window, C)
        windows = self.attention(windows, mask if self.shift else None)
        x = join(windows.view(-1, self.window, self.window, C), self.window, padded_h, padded_w)
        if self.shift:
            x = torch.roll(x, (self.shift, self.shift), dims=(1, 2))
        x = x[:, :H, :W, :].contiguous().view(B, H * W, C)
        x = residual + self.drop_path(x)
        return x + self.drop_path(self.mlp(self.norm2(x)))


class SemanticAttention(nn.Module):
    """One semantic attention block over tokens [B, N, C]; gives features [B, N, C] and prior [B, N, K]."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.semantic_query = nn.Linear(channels, classes)
        self.semantic_key = nn.Linear(channels, classes)
        self.value = nn.Linear(channels, channels)
        self.projection = nn.Linear(channels, channels)
        self.dropout = nn.Dropout(0.1)
        self.scale = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        prior = self.semantic_query(x)
        weights = (prior @ self.semantic_key(x).transpose(-2, -1)).softmax(dim=-1)
        y = self.dropout(self.projection(weights @ self.value(x)))
        return self.scale * y + x, prior


class SemanticLayer(nn.Module):
    """LayerNorm and semantic attention in windows, or over the whole map where `window` is None."""

    def __init__(self, channels: int, classes: int, window: int | None, depth: int) -> None:
        super().__init__()
        self.window = window
        self.norm = nn.LayerNorm(channels)
        self.attentions = nn.ModuleList(SemanticAttention(channels, classes) for _ in range(depth))

    def forward(self, x: Tensor, H: int, W: int) -> tuple[Tensor, Tensor]:
        x = self.norm(x)
        if self.window is None:
            return self.attend(x)
        B, _, C = x.shape
        x = pad(x.view(B, H, W, C), self.window)
        padded_h, padded_w = x.shape[1:3]
        parts = self.attend(cut(x, self.window).view(-1, self.window * self.window, C))
        maps = [
            join(part.view(-1, self.window, self.window, part.shape[-1]), self.window, padded_h, padded_w)
            for part in parts
        ]
        x, prior = (part[:, :H, :W, :].contiguous().view(B, H * W, -1) for part in maps)
        return x, prior

    def attend(self, x: Tensor) -> tuple[Tensor, Tensor]:
        for attention in self.attentions:
            x, prior = attention(x)
        return x, prior


class PatchEmbedding(nn.Module):
    """4 x 4 patches of the image as tokens."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(in_channels, channels, 4, 4)
        self.norm = nn.LayerNorm(channels)

    def forward(self, image: Tensor) -> tuple[Tensor, int, int]:
        image = F.pad(image, (0, -image.shape[3] % 4, 0, -image.shape[2] % 4))
        x = self.projection(image)
        H, W = x.shape[2:]
        return self.norm(x.flatten(2).transpose(1, 2)), H, W


class PatchMerging(nn.Module):
    """Halves the map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * channels)
        self.reduction = nn.Linear(4 * channels, 2 * channels, bias=False)

    def forward(self, x: Tensor, H: int, W: int) -> tuple[Tensor, int, int]:
        B, _, C = x.shape
        x = pad(x.view(B, H, W, C), 2)
        x = torch.cat([x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]], dim=-1)
        H, W = x.shape[1:3]
        return self.reduction(self.norm(x.view(B, -1, 4 * C))), H, W


class Stage(nn.Module):
    """Patch merging where there is one, then blocks with plain and shifted windows in turn."""

    def __init__(self, channels: int, heads: int, window: int, drop_paths: Sequence[float], *, first: bool) -> None:
        super().__init__()
        self.window = window
        self.merge = None if first else PatchMerging(channels // 2)
        self.blocks = nn.ModuleList(
            Block(channels, heads, window, window // 2 * (i % 2), rate) for i, rate in enumerate(drop_paths)
        )

    def forward(self, x: Tensor, H: int, W: int) -> tuple[Tensor, int, int]:
        if self.merge is not None:
            x, H, W = self.merge(x, H, W)
        mask = shift_mask(H, W, self.window, self.window // 2, x.device)
        for block in self.blocks:
            x = block(x, H, W, mask)
        return x, H, W


def level(in_channels: int, channels: int, doublings: int) -> nn.Sequential:
    """Convolutions of one level of the FPN, each followed by a doubling where the level needs some."""
    layers: list[nn.Module] = []
    for i in range(max(doublings, 1)):
        conv = nn.Conv2d(channels if i else in_channels, channels, 3, padding=1, bias=False)
        layers.append(nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)))
        if doublings:
            layers.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
    return nn.Sequential(*layers)


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Resize maps bilinearly, corners not aligned."""
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


class Reference(nn.Module):
    """SeMask FPN on a Swin Transformer.

    Args:
        swin: `channels`, `depths`, `heads`, `window` and `drop_path` of the Swin Transformer.
        config: Settings of `semask.SeMask`, of which the plain ones are known here.
    """

    def __init__(self, swin: Any, config: dict[str, Any]) -> None:
        super().__init__()
        classes, stages = config["num_classes"], len(swin.depths)
        widths = [swin.channels * 2**i for i in range(stages)]
        rates = torch.linspace(0, swin.drop_path, sum(swin.depths)).split(list(swin.depths))
        semantic_depths = config["semantic_depths"]
        if isinstance(semantic_depths, int):
            semantic_depths = [semantic_depths] * stages
        self.stem = PatchEmbedding(config["in_channels"], swin.channels)
        self.stages = nn.ModuleList(
            Stage(width, swin.heads[i], swin.window, rates[i].tolist(), first=i == 0) for i, width in enumerate(widths)
        )
        self.semantic_layers = nn.ModuleList(
            SemanticLayer(width, classes, config["semantic_window"][i], semantic_depths[i])
            for i, width in enumerate(widths)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in widths)
        self.levels = nn.ModuleList(level(width, config["channels"], i) for i, width in enumerate(widths))
        self.dropout = nn.Dropout2d(config["dropout"])
        self.classifier = nn.Conv2d(config["channels"], classes, 1)

    @classmethod
    def from_ours(cls, model: Any) -> "Reference":
        """Build the same model from a `semask.SeMask` and copy its weights.

        Raises:
            ValueError: If it is not the published SeMask FPN on a Swin Transformer.
        """
        if model.config["decoder"] != "fpn" or model.config["residual"] != "normed":
            raise ValueError("the reference is SeMask FPN with residual=normed: it has no other decoder and residual")
        weights = model.state_dict()
        for part in ("encoder.backbone.", "encoder.", "decoder."):
            weights = {name.removeprefix(part): weight for name, weight in weights.items()}
        reference = cls(model.encoder.backbone.size, model.config).to(next(model.parameters()))
        reference.load_state_dict(weights)
        return reference.train(model.training)

    def forward(self, image: Tensor, *, with_prior: bool | None = None) -> ReferenceOutput:
        """Segment images [B, 3, H, W]; the priors are decoded in training, or when asked for."""
        maps, priors = [], []
        x, H, W = self.stem(image)
        for stage, semantic_layer, norm in zip(self.stages, self.semantic_layers, self.norms, strict=True):
            x, H, W = stage(x, H, W)
            x, prior = semantic_layer(x, H, W)
            maps.append(self.as_map(norm(x), H, W))
            priors.append(self.as_map(prior, H, W))
        total = self.levels[0](maps[0])
        for features, chain in zip(maps[1:], list(self.levels)[1:], strict=True):
            total = total + resize(chain(features), total.shape[2:])
        logits = self.classifier(self.dropout(total))
        decode = self.training if with_prior is None else with_prior
        return ReferenceOutput(logits, tuple(priors), self.decode_priors(priors) if decode else None)

    @staticmethod
    def as_map(tokens: Tensor, H: int, W: int) -> Tensor:
        """Tokens [B, H * W, C] as a map [B, C, H, W]."""
        return tokens.view(len(tokens), H, W, -1).permute(0, 3, 1, 2).contiguous()

    @staticmethod
    def decode_priors(priors: Sequence[Tensor]) -> Tensor:
        """Sum the priors at the size of the first one."""
        total = priors[0]
        for i, prior in enumerate(priors[1:], start=1):
            for _ in range(i):
                prior = F.interpolate(prior, scale_factor=2, mode="bilinear", align_corners=False)
            total = total + resize(prior, priors[0].shape[2:])
        return total


def loss(output: ReferenceOutput, label: Tensor) -> Tensor:
    """Cross-entropy of the scores + 0.4 x that of the priors, over all pixels; label [B, H, W], 255 is ignored."""
    assert output.prior_logits is not None
    main, prior = (
        F.cross_entropy(resize(logits, label.shape[1:]), label, ignore_index=255, reduction="none").mean()
        for logits in (output.logits, output.prior_logits)
    )
    return main + 0.4 * prior
