"""The evidence head: each place of a feature map votes, and the votes are the decision.

A classifier usually pools its map and then decides; an explanation has to guess what came from
where. Here every place first says how much it speaks for each class, and the logit is the mean of
what they said, or a smooth maximum. Nothing lies between the map and the decision, so that the map
explains it completely, by construction.
"""

from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ai.hybrids.additive import summed
from ai.hybrids.backbones import width_of

_CONVOLUTIONS: Mapping[int, type[nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class EvidenceHead(nn.Module):
    """Turns a feature map into one vote a place and class, and these into logits.

    The logit of a class is prior + sum of w e over all places, e the evidence of a place, a linear
    function of its features without a constant: a place without features has none. The weights w
    are softmax(sharpness e). With a sharpness of 0 they are equal, and the logit is a mean: right
    where a finding fills a part of the image that matters in itself. The greater it is, the more
    the strongest places count: right where one small lesion is enough.

    Parameters
    ----------
    channels
        Of the feature map.
    classes
        Output channels.
    spatial_dims
        Axes of the map in space, 1 to 3.
    sharpness
        0 for the mean; in units of 1 / evidence.
    prior
        Where the logits start, and stay where there is no evidence; learned.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        *,
        spatial_dims: int,
        sharpness: float = 0.0,
        prior: float = 0.0,
    ) -> None:
        super().__init__()
        self.reader = _CONVOLUTIONS[spatial_dims](channels, classes, kernel_size=1, bias=False)
        self.prior = nn.Parameter(torch.full((classes,), prior))
        self.sharpness = sharpness
        self.of_bags = False

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits [B, classes] of a map [B, K, *s]."""
        return summed(self.contributions(features), self.prior)

    def evidence(self, features: Tensor) -> Tensor:
        """Return how much each place speaks for each class, [B, classes, *s], in logits."""
        evidence: Tensor = self.reader(features)
        return evidence

    def contributions(self, features: Tensor) -> Tensor:
        """Return what each place adds to each logit, float64 [B, classes, *s]: w e."""
        evidence = self.evidence(features).double()
        weights = torch.softmax(self.sharpness * evidence.flatten(2), dim=2)
        return evidence * weights.reshape(evidence.shape)


def evidence_network(
    backbone: nn.Module,
    x: Tensor,
    *,
    classes: int,
    sharpness: float = 0.0,
    prior: float = 0.0,
) -> nn.Sequential:
    """Return a backbone with an evidence head that fits its map, ready to be trained.

    Parameters
    ----------
    backbone
        Returns a map [B, K, *s]: see ``ai.hybrids.backbones`` for those that return something else.
        The finer the map, the finer the explanation, and the less each place sees of the image.
    x
        float [B, C, *S], an image like those to come; the backbone runs on it once.
    classes, sharpness, prior
        As in ``EvidenceHead``.

    Raises
    ------
    UnsuitableLayerError
        If the backbone returns no map.
    """
    head = EvidenceHead(
        width_of(backbone, x),
        classes,
        spatial_dims=x.ndim - 2,
        sharpness=sharpness,
        prior=prior,
    )
    return nn.Sequential(OrderedDict(backbone=backbone, evidence=head))
