"""A published network without strides, explained on a part of a real head."""

import pytest
import torch

from ai.capture import fingerprint
from ai.explainers.cam import LayerCAM
from ai.models.monai_bundle import load
from ai.quality.faithfulness import measure_drops
from ai.targets import SegmentMass
from tests.build import t1_head_volume
from tests.build_bundles import settings_for
from tests.peers import require_shared

pytestmark = pytest.mark.slow

WHITE = 1
#: The middle of the prepared grid: a nineteenth of its price.
MIDDLE = (..., slice(80, 176), slice(80, 176), slice(80, 176))


def test_white_matter_is_explained_by_where_it_is():
    model = load(settings_for(require_shared("data/brain_meshnet3")))
    x = model.prepare(t1_head_volume("axial")).tensor[MIDDLE].contiguous()
    with torch.no_grad():
        mask = model.network(x).argmax(dim=1)[0] == WHITE
    before = fingerprint(model.network)
    target = SegmentMass(WHITE, mask)

    found = LayerCAM(depth=0.75).explain(model.network, x, target)
    drops = measure_drops(model.network, x, target, found.values)

    inside = float(found.values[0, 0][mask].sum() / found.values.sum())
    assert inside > 1.2 * float(mask.float().mean())
    assert -1.0 <= drops.contrast <= 1.0
    assert found.f_x.item() == pytest.approx(drops.f_x, rel=1e-5)
    assert fingerprint(model.network) == before
