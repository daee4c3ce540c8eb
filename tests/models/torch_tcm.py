"""TCM in PyTorch, written anew for the tests, with the official names of its weights.

From the formulas: fast and slow frame pairs, local correlation, window around its
argmax, soft argmax, light convolutions, gate over time.
"""

import math

import torch
from torch import nn
from torch.nn import functional

from tests.models.torch_resnet import ResNet
from tests.models.torch_tsm import shift


def normalized(*layers):
    """Every convolution followed by BN and ReLU."""
    modules = []
    for layer in layers:
        modules += [layer, nn.BatchNorm2d(layer.out_channels), nn.ReLU()]
    return nn.Sequential(*modules)


def convolution(inputs, outputs, size=1, groups=1):
    return nn.Conv2d(
        inputs, outputs, size, padding=size // 2, groups=groups, bias=False
    )


class MTDM(nn.Module):
    """Frames to u, v, confidence of the fast and the slow tempo, 6 channels."""

    def __init__(self, channels, frames, patch):
        super().__init__()
        self.frames, self.patch = frames, patch
        self.chnl_reduction = normalized(convolution(channels, 64))

    def forward(self, x):
        z = self.chnl_reduction(x)
        z = z / (z.square().sum(1, keepdim=True) + 1e-6).sqrt()
        clips = z.unflatten(0, (-1, self.frames))
        following = clips[:, 1:]
        fast = self.displacement(clips[:, :-1], following)
        slow = self.displacement(clips[:, :1].expand_as(following), following)
        motion = torch.cat([fast, slow], 2)
        return torch.cat([motion, motion[:, -1:]], 1).flatten(0, 1)

    def displacement(self, query, key):
        """`(N, T - 1, C, H, W)` pairs to `(N, T - 1, 3, H, W)`."""
        size, radius = self.patch, self.patch // 2
        query, pairs = query.flatten(0, 1), query.shape[:2]
        count, channels, height, width = query.shape
        patches = functional.unfold(key.flatten(0, 1), size, padding=radius)
        patches = patches.view(count, channels, size, size, height, width)
        match = torch.einsum("bchw,bcijhw->bijhw", query, patches).relu()

        confidence, best = match.flatten(1, 2).max(1)
        index = torch.arange(size, dtype=match.dtype)
        rows, columns = index.view(1, -1, 1, 1, 1), index.view(1, 1, -1, 1, 1)
        best = best[:, None, None]
        distance = (rows - best // size) ** 2 + (columns - best % size) ** 2
        weighted = match * torch.exp(-distance / 50.0)
        p = (100.0 * weighted).flatten(1, 2).softmax(1).view_as(match)
        u = (p * (columns - radius)).sum((1, 2)) / radius
        v = (p * (rows - radius)).sum((1, 2)) / radius
        return torch.stack([u, v, confidence], 1).unflatten(0, pairs)


class ETA(nn.Module):
    """Gate of every frame and channel from the pooled frames around it."""

    def __init__(self, frames):
        super().__init__()
        self.frames = frames
        size = int(math.log(frames, 2))
        size += 1 - size % 2
        self.conv = nn.Conv1d(1, 1, size, padding=size // 2, bias=False)

    def forward(self, x):
        pooled = x.mean((2, 3)).unflatten(0, (-1, self.frames)).transpose(1, 2)
        gate = self.conv(pooled.reshape(-1, 1, self.frames)).sigmoid()
        gate = gate.view_as(pooled).transpose(1, 2).flatten(0, 1)
        return x * gate[..., None, None]


class TAM(nn.Module):
    """From the 6 channels of the motion to those of the network."""

    def __init__(self, channels, frames):
        super().__init__()
        self.conv1 = normalized(
            *(convolution(6, 6, 3, groups=3) for _ in range(3)), convolution(6, 16)
        )
        self.conv2 = normalized(convolution(16, 16, 3, 16), convolution(16, 32))
        self.conv3 = normalized(convolution(32, 32, 3, 32), convolution(32, 64))
        self.conv4 = normalized(convolution(64, 64, 3, 64), convolution(64, channels))
        self.ETA = ETA(frames)

    def forward(self, x):
        return self.ETA(self.conv4(self.conv3(self.conv2(self.conv1(x)))))


class TCM(nn.Module):
    """`x + TAM(MTDM(x))`."""

    def __init__(self, channels, frames, patch=15):
        super().__init__()
        self.mtdm = MTDM(channels, frames, patch)
        self.tam = TAM(channels, frames)

    def forward(self, x):
        return x + self.tam(self.mtdm(x))


class TCMResNet(ResNet):
    """TSM's ResNet, its shift without a name of its own, with one TCM after res3."""

    def __init__(self, depth, width, frames):
        super().__init__(depth, 1, width)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            for block in stage:
                block.conv1.register_forward_pre_hook(
                    lambda _, inputs: shift(inputs[0], frames)
                )
        channels = self.layer3[0].conv1.in_channels
        self.tcm_layer = TCM(channels, frames)

    def features(self, x):
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        x = self.tcm_layer(self.layer2(self.layer1(x)))
        return self.layer4(self.layer3(x))
