"""ResNet-50 v1.5 in PyTorch with torchvision's names: what tests and benchmarks compare with."""

import torch
from torch import nn


class Bottleneck(nn.Module):
    """1×1, 3×3 (strided), 1×1 around a shortcut: (n, channels, h, w) → (n, 4 · filters, …)."""

    def __init__(self, channels: int, filters: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, filters, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(filters)
        self.conv3 = nn.Conv2d(filters, 4 * filters, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * filters)
        self.downsample = nn.Identity()
        if channels != 4 * filters:
            projection = nn.Conv2d(channels, 4 * filters, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(4 * filters))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y)).relu()
        return (self.bn3(self.conv3(y)) + self.downsample(x)).relu()


class ResNet50(nn.Module):
    """Preprocessed pictures (n, 3, h, w) → average-pooled features (n, 2048)."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        channels = 64
        groups = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))
        for number, (filters, blocks, stride) in enumerate(groups, 1):
            group = nn.Sequential()
            for block in range(blocks):
                group.append(Bottleneck(channels, filters, stride if block == 0 else 1))
                channels = 4 * filters
            self.add_module(f"layer{number}", group)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.max_pool2d(self.bn1(self.conv1(x)).relu(), 3, 2, 1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return x.mean((2, 3))
