"""What a name in a config stands for."""
import torch
from mmseg.models import ResNet

from ssul_mmseg.components import arguments_of, registered, remedy_for_unregistered
from ssul_mmseg.methods.ssul import SSUL
from ssul_mmseg.models.efficientnet_lite import EfficientNetLite


def test_a_name_stands_for_what_this_package_mmseg_or_mmengine_has_registered():
    assert registered('SSUL') is SSUL and registered('EfficientNetLite') is EfficientNetLite
    assert registered('ResNet') is ResNet and registered('SGD') is torch.optim.SGD
    assert registered('SUSL') is None and registered('') is None and registered('.') is None


def test_arguments_are_those_of_the_class_and_of_the_parents_that_it_passes_the_others_to():
    # It hands nothing on, so that what its parent takes, the defaults of all, is not its own.
    assert 'nesterov' in arguments_of('SGD') and {'self', 'defaults'}.isdisjoint(arguments_of('SGD'))
    # SSUL itself names tau; freeze_backbone is its parent's, to which it hands on what it does not know.
    assert {'tau', 'freeze_backbone', 'decode_head'} <= set(arguments_of('SSUL'))
    assert arguments_of('SUSL') == {}


def test_the_remedy_names_the_nearest_name():
    assert remedy_for_unregistered('SUSL') == 'did you mean SSUL?'
    assert remedy_for_unregistered('SDG') == 'did you mean SGD?'
    assert 'custom_imports' in remedy_for_unregistered('zzzzzzzz')
