"""The pretrained network on real photographs."""

import torch

from tailorbird.demo import resnet20
from tailorbird.demo.base import accuracy_of
from tailorbird.demo.data import cifar10
from tailorbird.supernet import elastic


def test_the_pretrained_network_keeps_its_published_accuracy_and_becomes_elastic_unchanged(data_folder):
    net, splits = resnet20.load_pretrained(data_folder), cifar10(data_folder, train=40, validation=40, test=300)
    images, _ = splits.test

    assert accuracy_of(net, splits.test) > 0.87  # 91.7 % on all 10,000; three standard errors of 300
    supernet = elastic(net, (images[:1],))
    with torch.no_grad():
        assert torch.equal(supernet(images[:20]), net(images[:20]))
        smallest = supernet.space.smallest()
        assert torch.equal(supernet(images[:20], config=smallest), supernet.extract(smallest)(images[:20]))
    assert supernet.elastic_fraction > 0.95
    assert supernet.macs(smallest) < supernet.macs() / 10
