"""What methods with an old network share, against hand-computed values."""
import pytest
import torch
from tiny import tiny_model

from ssul_mmseg.errors import InputError
from ssul_mmseg.models.distillation import check_head, old_class_distillation, start_balanced

SOFTMAX = dict(unknown=False, loss_decode=dict(type='SoftmaxCELoss'))


def pixels(*values):
    """Logits (1, channels, 1, pixels) of some pixels."""
    return torch.tensor(values).T[None, :, None]


def test_distillation_compares_the_old_channels_alone():
    found = old_class_distillation(pixels([1., 2., 0.], [1., 2., 50.]), pixels([.5, 1.5], [.5, 1.5]))
    # The new class's logit changes nothing.
    torch.testing.assert_close(found, torch.full((1, 1, 2), .291102), atol=1e-6, rtol=0)


@pytest.mark.parametrize('num_new, bias', [(1, -.493147), (3, -1.186294)])
@pytest.mark.parametrize('classifier', ['linear', 'conv'])
def test_new_classes_and_background_share_what_the_background_had(num_new, bias, classifier):
    head = tiny_model([1, num_new], 'FineTuning', dict(SOFTMAX, classifier=classifier)).decode_head.eval()
    background, old, new = (head.classifiers[name][-1] for name in head.names)
    with torch.no_grad():
        background.weight[0, :, 0, 0] = torch.tensor([.5, -1.] + [0.] * 6)
        background.bias.fill_(.2)
        old.weight.zero_()
        old.bias.fill_(1.)
    start_balanced(head)
    torch.testing.assert_close(torch.cat([background.bias, new.bias]), torch.full((1 + num_new, ), bias))
    if classifier == 'linear':
        probability = head.classify(torch.tensor([2., 1.] + [3.] * 6).view(1, 8, 1, 1)).softmax(1)[0, :, 0, 0]
        assert (probability[0] + probability[2:].sum()).item() == pytest.approx(.310026, abs=1e-6)
    features = torch.randn(1, 8, 3, 3)
    channels = head.classify(features)
    torch.testing.assert_close(channels[:, 2:], channels[:, :1].expand(-1, num_new, -1, -1))


def test_a_head_of_another_kind_is_refused_by_its_key():
    unknown, sigmoid, softmax = (tiny_model([2], 'FineTuning', head).decode_head
                                 for head in (dict(SOFTMAX, unknown=True), dict(unknown=False), SOFTMAX))
    with pytest.raises(InputError, match=r'MiB knows no unknown class; set model\.decode_head\.unknown=False'):
        check_head(unknown, 'MiB')
    with pytest.raises(InputError, match=r'by a softmax; set model\.decode_head\.loss_decode\.type=SoftmaxCELoss'):
        check_head(sigmoid, 'MiB')
    with pytest.raises(InputError, match=r'by sigmoids; set model\.decode_head\.loss_decode\.type=SigmoidBCELoss'):
        check_head(softmax, 'LwF-MC', softmax=False)
    check_head(softmax, 'MiB')
    check_head(sigmoid, 'LwF-MC', softmax=False)
