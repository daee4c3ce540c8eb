"""TSM in PyTorch, written anew for the tests, with the official names of its weights.

`classifier(...)` wraps a frame network as the official TSN class of TSM, TEA and TCM
does: `base_model` without its last layer, then `new_fc` per frame, then the mean.
"""

import torch
from torch import nn

from tests.models.torch_resnet import ResNet


def shift(x, frames, parts=8):
    """An eighth of the channels takes the next frame, an eighth the previous one."""
    clips = x.unflatten(0, (-1, frames))
    fold = x.shape[1] // parts
    nothing = torch.zeros_like(clips[:, :1, :fold])
    following = torch.cat([clips[:, 1:, :fold], nothing], 1)
    previous = torch.cat([nothing, clips[:, :-1, fold : 2 * fold]], 1)
    return torch.cat([following, previous, clips[:, :, 2 * fold :]], 2).flatten(0, 1)


class Shifted(nn.Module):
    """A layer behind the shift; its weights are called `net.*`."""

    def __init__(self, net, frames):
        super().__init__()
        self.net, self.frames = net, frames

    def forward(self, x):
        return self.net(shift(x, self.frames))


class TSM(ResNet):
    """ResNet whose residual branches ("blockres") or whole blocks ("block") shift."""

    def __init__(self, depth, width, frames, place="blockres"):
        super().__init__(depth, 1, width)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            every = 2 if len(self.layer3) >= 23 else 1
            for index, block in enumerate(stage):
                if place == "block":
                    stage[index] = Shifted(block, frames)
                elif index % every == 0:
                    block.conv1 = Shifted(block.conv1, frames)


class Classifier(nn.Module):
    """Clips `(N, T, 3, H, W)`, normalised, to logits."""

    def __init__(self, base_model, classes, convolutional=False):
        super().__init__()
        features = base_model.fc.in_features
        del base_model.fc
        self.base_model = base_model
        # TCM's classifier is a convolution over one position.
        self.new_fc = (
            nn.Conv1d(features, classes, 1)
            if convolutional
            else nn.Linear(features, classes)
        )

    def forward(self, clips):
        pooled = self.base_model.features(clips.flatten(0, 1)).mean((2, 3))
        if isinstance(self.new_fc, nn.Conv1d):
            logits = self.new_fc(pooled[..., None])[..., 0]
        else:
            logits = self.new_fc(pooled)
        return logits.unflatten(0, clips.shape[:2]).mean(1)

    def checkpoint(self):
        """What the official code saves: trained under `DataParallel`."""
        state = {f"module.{key}": value for key, value in self.state_dict().items()}
        return {"epoch": 50, "arch": "resnet50", "state_dict": state, "best_prec1": 1.0}


def classifier(base_model, classes, clips, convolutional=False):
    """A `Classifier` in evaluation mode with random weights.

    The statistics are those of `clips`, normalised as for the network: with random ones
    the logits would hardly depend on the frames, let alone on what moves in them.
    """
    torch.manual_seed(0)
    network = Classifier(base_model, classes, convolutional).train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
        elif isinstance(module, nn.Conv1d):
            nn.init.normal_(module.weight, std=0.3)
    with torch.no_grad():
        network(clips)
    return network.eval()
