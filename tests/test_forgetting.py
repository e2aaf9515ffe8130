"""What was forgotten since a class was learned, by hand."""
import pytest

from ssul_mmseg.evaluation.forgetting import forgetting


def test_forgetting_is_the_mean_drop_since_a_class_was_learned():
    now = dict(background=90., a=50., b=50., c=0., d=10.)
    found = forgetting(now, [dict(a=80., b=40.), dict(c=30.)])
    assert found == {'forgetting': pytest.approx((30 - 10 + 30) / 3), 'forgetting_per_task': [10, 30]}


def test_what_is_absent_now_or_then_counts_in_no_mean():
    found = forgetting(dict(a=50., b=None), [dict(a=None, b=40.), dict(c=30.)])
    assert found == {'forgetting': None, 'forgetting_per_task': [None, None]}
    assert forgetting(dict(a=50.), []) == {'forgetting': None, 'forgetting_per_task': []}


def test_a_class_that_no_pixel_is_labelled_as_dilutes_no_mean():
    found = forgetting(dict(a=50., b=0.), [dict(a=80., b=0.)], absent=['b'])
    assert found == {'forgetting': 30, 'forgetting_per_task': [30]}
