"""Gated attention over a bag of images (Ilse et al. 2018), whose instances' shares add up.

Of many slices, patches or views one label is known. Attention says how much each instance counts,
and the same instance's evidence what it says; their product is what the instance adds to the
decision. Where the backbone gives a map, it is known for each place of each instance.
"""

import torch
from torch import Tensor, nn

from ai.hybrids.additive import summed
from ai.hybrids.backbones import width_of


class GatedAttentionHead(nn.Module):
    """Turns the features of a bag's instances into logits.

    With h the mean of an instance's map, its attention is a = softmax over the instances of
    w (tanh(V h) sigmoid(U h)), as in the paper. The logit of a class is prior + sum of a r h, r a
    linear reader without a constant. As both sums are linear in the map, they part into places.

    Parameters
    ----------
    channels
        Of the features.
    classes
        Output channels.
    hidden
        Width of the attention's hidden layer.
    prior
        Where the logits start; learned.
    """

    def __init__(
        self, channels: int, classes: int, *, hidden: int = 128, prior: float = 0.0
    ) -> None:
        super().__init__()
        self.content = nn.Linear(channels, hidden)
        self.gate = nn.Linear(channels, hidden)
        self.score = nn.Linear(hidden, 1, bias=False)
        self.reader = nn.Linear(channels, classes, bias=False)
        self.prior = nn.Parameter(torch.full((classes,), prior))
        self.of_bags = True

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits [B, classes] of features [B, N, K, *s]."""
        return summed(self.contributions(features), self.prior)

    def attention(self, features: Tensor) -> Tensor:
        """Return how much each instance counts, [B, N]; an entry's sum is 1."""
        means = features.flatten(3).mean(dim=3) if features.ndim > 3 else features
        hidden = torch.tanh(self.content(means)) * torch.sigmoid(self.gate(means))
        return torch.softmax(self.score(hidden)[:, :, 0], dim=1)

    def contributions(self, features: Tensor) -> Tensor:
        """Return what each place of each instance adds, float64 [B, classes, N, *s]."""
        evidence: Tensor = self.reader(features.movedim(2, -1)).movedim(-1, 1).double()
        places = torch.Size(features.shape[3:]).numel()
        share = self.attention(features).double() / places
        return evidence * share.reshape(len(share), 1, -1, *[1] * (evidence.ndim - 3))


class BagNetwork(nn.Module):
    """A backbone for each instance of a bag, and gated attention over them.

    Parameters
    ----------
    backbone
        Returns a map [R, K, *s], or features [R, K], of R instances [R, C, *S].
    head
        Of as many channels.
    """

    def __init__(self, backbone: nn.Module, head: GatedAttentionHead) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits [B, classes] of bags [B, N, C, *S]."""
        maps: Tensor = self.backbone(x.flatten(0, 1))
        logits: Tensor = self.head(maps.reshape(*x.shape[:2], *maps.shape[1:]))
        return logits


def bag_network(
    backbone: nn.Module, x: Tensor, *, classes: int, hidden: int = 128, prior: float = 0.0
) -> BagNetwork:
    """Return a backbone with gated attention that fits its map, ready to be trained.

    Parameters
    ----------
    backbone
        As in ``evidence_network``, of one instance.
    x
        float [B, N, C, *S], a bag like those to come; the backbone runs on it once.
    classes, hidden, prior
        As in ``GatedAttentionHead``.

    Raises
    ------
    UnsuitableLayerError
        If the backbone returns no map.
    """
    channels = width_of(backbone, x.flatten(0, 1))
    return BagNetwork(backbone, GatedAttentionHead(channels, classes, hidden=hidden, prior=prior))
