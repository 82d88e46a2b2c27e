import threading

import pytest
import torch
from torch import nn

from ai.capture import find_layers, fingerprint, private_copy
from ai.errors import UnknownLayerError
from tests.build_networks import classifier, image


def test_a_private_copy_shares_the_weights_and_answers_alike():
    network, x = classifier(), image(1, 1, 32, 32)

    copy = private_copy(network)

    assert torch.equal(copy(x), network(x))
    for mine, theirs in zip(copy.parameters(), network.parameters(), strict=True):
        assert mine.data_ptr() == theirs.data_ptr()
        assert not mine.requires_grad
        assert theirs.requires_grad


def test_what_is_done_to_a_private_copy_does_not_reach_the_original():
    network = classifier()
    before = fingerprint(network)

    copy = private_copy(network)
    copy[0].register_forward_hook(lambda *_: None)
    copy[0].stride = (1, 1)
    copy.train()

    assert fingerprint(network) == before
    assert network[0].stride == (2, 2)


def test_a_private_copy_keeps_shared_modules_shared():
    relu = nn.ReLU()

    copy = private_copy(nn.Sequential(nn.Conv2d(1, 2, 3), relu, nn.Conv2d(2, 2, 3), relu))

    assert copy[1] is copy[3]
    assert copy[1] is not relu


def test_a_private_copy_does_not_mind_what_cannot_be_copied():
    network = classifier()
    network.lock = threading.Lock()

    assert private_copy(network).lock is network.lock


def test_hooks_of_the_original_run_on_the_copy():
    network, x = classifier(), image(1, 1, 32, 32)
    network[0].register_forward_hook(lambda _module, _inputs, output: output * 0)

    assert torch.equal(private_copy(network)(x), network(x))


@pytest.mark.parametrize("name", ["convv", ""])
def test_a_layer_that_does_not_exist_is_answered_with_the_nearest(name):
    network = nn.Sequential()
    network.add_module("conv1", nn.Conv2d(1, 2, 3))
    network.add_module("relu", nn.ReLU())

    with pytest.raises(UnknownLayerError, match=r"nearest: .*conv1"):
        find_layers(network, ["relu", name])


def test_layers_are_found_under_each_of_their_names():
    relu = nn.ReLU()

    found = find_layers(nn.Sequential(relu, nn.Sequential(relu)), ["1.0", "0"])

    assert found == {"1.0": relu, "0": relu}


CHANGES = {
    "weight": lambda network: network[0].weight.data.add_(1e-6),
    "buffer": lambda network: network[1].running_mean.add_(1e-6),
    "mode": lambda network: network[1].train(),
    "hook": lambda network: network[2].register_forward_hook(lambda *_: None),
    "gradient flag": lambda network: network[0].weight.requires_grad_(False),
    "gradient": lambda network: network(image(1, 1, 32, 32)).sum().backward(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_the_fingerprint_tells_of_every_change(change):
    network = classifier()
    before = fingerprint(network)

    change(network)

    assert fingerprint(network) != before
