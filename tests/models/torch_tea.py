"""TEA in PyTorch, written anew for the tests, with the official names of its weights.

Res2Net-50 26w4s with ME and MTA, from the formulas of the official code.
"""

import torch
from torch import nn

from tests.models.torch_resnet import COUNTS


class ME(nn.Module):
    """`x + x * (sigmoid(motion) - 0.5)`."""

    def __init__(self, channels, frames, reduction=16):
        super().__init__()
        self.frames = frames
        reduced = max(1, channels // reduction)
        self.conv1 = nn.Conv2d(channels, reduced, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(reduced)
        self.conv2 = nn.Conv2d(
            reduced, reduced, 3, padding=1, groups=reduced, bias=False
        )
        self.conv3 = nn.Conv2d(reduced, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)

    def forward(self, x):
        z = self.bn1(self.conv1(x))
        following = self.conv2(z).unflatten(0, (-1, self.frames))[:, 1:]
        motion = following - z.unflatten(0, (-1, self.frames))[:, :-1]
        motion = torch.cat([motion, torch.zeros_like(motion[:, :1])], 1).flatten(0, 1)
        pooled = motion.mean((2, 3), keepdim=True)
        return x + x * (self.bn3(self.conv3(pooled)).sigmoid() - 0.5)


class OverTime(nn.Module):
    """Depthwise convolution over time; its weights are called `conv.*`."""

    def __init__(self, channels, frames):
        super().__init__()
        self.frames = frames
        self.conv = nn.Conv1d(
            channels, channels, 3, padding=1, groups=channels, bias=False
        )

    def forward(self, x):
        clips = x.unflatten(0, (-1, self.frames)).permute(0, 3, 4, 2, 1)
        mixed = self.conv(clips.flatten(0, 2)).view_as(clips)
        return mixed.permute(0, 4, 3, 1, 2).flatten(0, 1)


class Block(nn.Module):
    """Bottleneck with ME and a cascade of fragments for its 3x3 convolution."""

    def __init__(self, inputs, planes, stride, first, frames, base=26, scale=4):
        super().__init__()
        width, outputs = planes * base // 64, 4 * planes
        self.width, self.first = width, first
        self.conv1 = nn.Conv2d(inputs, scale * width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(scale * width)
        self.me = ME(scale * width, frames)
        self.convs = nn.ModuleList(
            nn.Conv2d(width, width, 3, stride, 1, bias=False) for _ in range(scale - 1)
        )
        self.bns = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(scale - 1))
        self.shifts = nn.ModuleList(OverTime(width, frames) for _ in range(scale))
        self.pool = nn.AvgPool2d(3, stride, 1)
        self.conv3 = nn.Conv2d(scale * width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride > 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False),
                nn.BatchNorm2d(outputs),
            )

    def fragments(self, x):
        *parts, last = x.split(self.width, 1)
        done = []
        for part, shift, conv, bn in zip(
            parts, self.shifts, self.convs, self.bns, strict=False
        ):
            if done and not self.first:
                part = part + done[-1]
            done.append(bn(conv(shift(part))).relu())
        last = self.shifts[-1](last)
        return torch.cat([*done, self.pool(last) if self.first else last], 1)

    def forward(self, x):
        branch = self.me(self.bn1(self.conv1(x)).relu())
        branch = self.bn3(self.conv3(self.fragments(branch)))
        shortcut = x if self.downsample is None else self.downsample(x)
        return (branch + shortcut).relu()


class TEA(nn.Module):
    """Stem and stages of torchvision's ResNet, of TEA's blocks."""

    def __init__(self, depth, width, frames):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels = width
        for stage, count in enumerate(COUNTS[depth]):
            planes, blocks = width * 2**stage, []
            for index in range(count):
                stride = 2 if index == 0 and stage else 1
                blocks.append(Block(channels, planes, stride, index == 0, frames))
                channels = 4 * planes
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(channels, 1)

    def features(self, x):
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))
