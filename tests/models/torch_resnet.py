"""torchvision's ResNet "v1.5" in PyTorch, written anew for the tests of weight loading.

Attribute names are torchvision's, so that `state_dict()` has its keys and shapes;
`width` and `classes` make small networks.
"""

import torch
from torch import nn

COUNTS = {
    18: (2, 2, 2, 2),
    26: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
}


def convolution(inputs, outputs, size, stride=1):
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)


class Block(nn.Module):
    """Basic (two 3x3) or bottleneck (1x1, strided 3x3, 1x1) residual block."""

    def __init__(self, inputs, width, stride, bottleneck):
        super().__init__()
        outputs = 4 * width if bottleneck else width
        if bottleneck:
            sizes = [(inputs, width, 1), (width, width, 3, stride), (width, outputs, 1)]
        else:
            sizes = [(inputs, width, 3, stride), (width, width, 3)]
        self.count = len(sizes)
        for number, size in enumerate(sizes, start=1):
            setattr(self, f"conv{number}", convolution(*size))
            setattr(self, f"bn{number}", nn.BatchNorm2d(size[1]))
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                convolution(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs)
            )

    def forward(self, x):
        branch = x
        for number in range(1, self.count + 1):
            branch = getattr(self, f"conv{number}")(branch)
            branch = getattr(self, f"bn{number}")(branch)
            branch = torch.relu(branch) if number < self.count else branch
        return torch.relu(
            branch + (x if self.downsample is None else self.downsample(x))
        )


class ResNet(nn.Module):
    """Images `(N, 3, H, W)`, normalised, to class scores."""

    def __init__(self, depth=50, classes=1000, width=64):
        super().__init__()
        bottleneck = depth in (26, 50, 101)
        self.conv1 = convolution(3, width, 7, 2)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels = width
        for stage, count in enumerate(COUNTS[depth]):
            blocks = []
            for index in range(count):
                stride = 2 if index == 0 and stage else 1
                blocks.append(Block(channels, width * 2**stage, stride, bottleneck))
                channels = width * 2**stage * (4 if bottleneck else 1)
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(channels, classes)

    def features(self, x):
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))

    def forward(self, x):
        return self.fc(self.features(x).mean((2, 3)))


def resnet(depth=50, classes=1000, width=64):
    """A network in evaluation mode whose every weight and statistic is random."""
    torch.manual_seed(0)
    network = ResNet(depth, classes, width).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network
