import os
from pathlib import Path

import pytest
import torch

from ssul_mmseg.engine.feature_cache import FeatureCache, stack
from ssul_mmseg.errors import InputError


def view(seed):
    torch.manual_seed(seed)
    return [torch.randn(4, 3, 5)], torch.randint(0, 256, (9, 7), dtype=torch.uint8)


@pytest.mark.parametrize('location', ['ram', 'disk'])
@pytest.mark.parametrize('dtype', ['float16', 'bfloat16', 'float32'])
def test_what_comes_back_is_what_was_put(tmp_path, location, dtype):
    cache = FeatureCache(dtype, location, limit=.001, folder=tmp_path)
    for seed in range(5):
        cache.put(('image', seed), *view(seed), info=seed)
    assert len(cache) == 5 and ('image', 3) in cache and ('image', 9) not in cache
    (features, ), labels = stack([cache['image', seed] for seed in range(5)], torch.device('cpu'))
    for seed in range(5):
        (expected, ), expected_labels = view(seed)
        assert torch.equal(features[seed], cache.round_off(expected)) and torch.equal(labels[seed], expected_labels)
        torch.testing.assert_close(features[seed], expected, rtol=1e-2, atol=1e-2)
        assert cache['image', seed].info == seed
    cache.close()
    assert not list(tmp_path.iterdir()) and len(cache) == 0


@pytest.mark.parametrize('location', ['ram', 'disk'])
def test_a_small_limit_keeps_what_fits_and_says_so(tmp_path, location, monkeypatch):
    messages = []
    monkeypatch.setattr('ssul_mmseg.engine.feature_cache.print_log', lambda message, **_: messages.append(message))
    one = 4 * 3 * 5 * 2 + 9 * 7
    cache = FeatureCache('float16', location, limit=2.9 * one / 1e9, folder=tmp_path)
    for seed in range(5):
        cache.put(seed, *view(seed))
    assert len(cache) == 2 and cache.used <= cache.limit
    assert len(messages) == 1 and '2 views' in messages[0]
    for seed in range(2):
        assert torch.equal(cache[seed].features[0].float(), cache.round_off(view(seed)[0][0]))


def test_what_is_kept_does_not_change_with_its_source():
    cache = FeatureCache(limit=.001)
    (features, ), labels = view(0)
    cache.put(0, [features], labels)
    labels.zero_()
    features.zero_()
    assert torch.equal(cache[0].labels, view(0)[1]) and cache[0].features[0].any()


def test_a_full_disk_means_no_cache(tmp_path, monkeypatch):
    def no_space(*_):
        raise OSError(28, 'No space left on device')
    monkeypatch.setattr('os.posix_fallocate', no_space)
    cache = FeatureCache(location='disk', limit=1., folder=tmp_path)
    cache.put(0, *view(0))
    assert len(cache) == 0 and not list(tmp_path.iterdir())


@pytest.mark.parametrize('limit, kept, files', [(2e-6, 10, 5), (1e-6, 5, 3), (.9e-6, 4, 2)])
def test_files_are_made_as_they_are_needed_and_never_beyond_the_limit(tmp_path, monkeypatch, limit, kept, files):
    """A view takes 128 + 64 bytes: a file of 400 holds two, one of 200 one, and one of 100 would hold none."""
    monkeypatch.setattr('ssul_mmseg.engine.feature_cache.FILE_SIZE', 400)
    sizes = []
    fallocate = os.posix_fallocate
    monkeypatch.setattr('os.posix_fallocate', lambda *args: sizes.append(args[-1]) or fallocate(*args))
    cache = FeatureCache('float16', 'disk', limit, tmp_path)
    assert not sizes
    for seed in range(12):
        cache.put(seed, *view(seed))
    assert len(cache) == kept and len(sizes) == files and sum(sizes) <= cache.limit
    for seed in range(kept):
        assert torch.equal(cache[seed].features[0].float(), cache.round_off(view(seed)[0][0]))
        assert torch.equal(cache[seed].labels, view(seed)[1])


def test_the_file_has_no_name_that_a_kill_could_leave_and_goes_with_the_cache(tmp_path):
    cache = FeatureCache(location='disk', limit=1e-3, folder=tmp_path)
    cache.put(0, *view(0))
    assert not list(tmp_path.iterdir()) and str(tmp_path) in Path('/proc/self/maps').read_text()
    cache.close()
    assert str(tmp_path) not in Path('/proc/self/maps').read_text()


@pytest.mark.parametrize('options', [dict(location='gpu'), dict(dtype='int8')])
def test_wrong_options(options):
    with pytest.raises(InputError, match='feature_cache'):
        FeatureCache(**options)
