"""Adapters on disk: they come back whole, or not at all."""

import pytest
import torch
from mmseg.models.backbones import MixVisionTransformer, ResNetV1c

from ecotta_seg.meta_networks import AdaptedEncoder, load_adapters, save_adapters


def _encoder(**options):
    backbone = ResNetV1c(depth=18, base_channels=4, stem_channels=4, norm_cfg=dict(type='BN'))
    return AdaptedEncoder(backbone, num_parts=2, **options)


def _random(encoder):
    for parameter in encoder.meta_networks.parameters():
        torch.nn.init.normal_(parameter)
    return encoder


def test_a_fresh_model_takes_saved_adapters(tmp_path):
    saved, fresh = _random(_encoder()), _encoder()
    save_adapters(saved, tmp_path / 'a.pth')
    load_adapters(fresh, tmp_path / 'a.pth')
    state = fresh.meta_networks.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in saved.meta_networks.state_dict().items())
    # Adapters alone: the frozen model is many times as large.
    assert not any('backbone' in key for key in torch.load(tmp_path / 'a.pth')['state_dict'])


def test_a_calibration_comes_back_and_a_file_needs_none(tmp_path):
    kept = {'norm.usual_drift': torch.rand(3), 'usual': torch.rand(2)}
    save_adapters(_encoder(), tmp_path / 'a.pth', kept)
    found = load_adapters(_encoder(), tmp_path / 'a.pth')
    assert found.keys() == kept.keys()
    assert all(torch.equal(found[name], kept[name]) for name in kept)
    for calibration in (None, {}):
        save_adapters(_encoder(), tmp_path / 'b.pth', calibration)
        assert load_adapters(_encoder(), tmp_path / 'b.pth') is None


def _mit_encoder():
    return AdaptedEncoder(MixVisionTransformer(embed_dims=8), num_parts=2)


@pytest.mark.parametrize(('other', 'message'), [
    (lambda: _encoder(split=[3, 5]), r'their split is \[4, 4\]'),
    (lambda: _encoder(kernel_size=1), r'0\.conv\.weight has shape .*3, 3\), the model needs'),
    (lambda: _encoder(start='identity'), r'0\.gain is missing'),
    (_mit_encoder, 'made for a ResNetV1c, the model has a MixVisionTransformer'),
])  # fmt: skip
def test_adapters_of_another_model_change_nothing(tmp_path, other, message):
    save_adapters(_random(_encoder()), tmp_path / 'a.pth')
    encoder = other()
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        load_adapters(encoder, tmp_path / 'a.pth')
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())


class _Hostile:
    def __reduce__(self):
        return print, ('code ran',)


def test_damaged_and_hostile_files_are_refused(tmp_path, capsys):
    save_adapters(_encoder(), tmp_path / 'a.pth')
    whole = (tmp_path / 'a.pth').read_bytes()
    for name, content in {'cut': whole[: len(whole) // 2], 'empty': b'', 'text': b'hello'}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match='damaged or not an adapters file'):
            load_adapters(_encoder(), tmp_path / name)
    torch.save({'format': 'ecotta_seg adapters', 'x': _Hostile()}, tmp_path / 'evil.pth')
    with pytest.raises(ValueError, match='damaged or not an adapters file'):
        load_adapters(_encoder(), tmp_path / 'evil.pth')
    assert 'code ran' not in capsys.readouterr().out
    with pytest.raises(ValueError, match='does not exist'):
        load_adapters(_encoder(), tmp_path / 'none.pth')
    torch.save({'state_dict': {}}, tmp_path / 'other.pth')
    with pytest.raises(ValueError, match='is not an adapters file'):
        load_adapters(_encoder(), tmp_path / 'other.pth')


@pytest.mark.parametrize('changes', [
    {'split': None}, {'backbone': None}, {'state_dict': 3}, {'state_dict': {'0.gain': 3}},
    {'state_dict': {0: torch.zeros(1)}}, {'calibration': {'usual': 3}}, {'calibration': None},
])  # fmt: skip
def test_files_with_odd_entries_are_refused(tmp_path, changes):
    save_adapters(_encoder(), tmp_path / 'a.pth')
    state = torch.load(tmp_path / 'a.pth')
    torch.save({**state, **changes}, tmp_path / 'odd.pth')
    (gone,) = changes
    torch.save({k: v for k, v in state.items() if k != gone}, tmp_path / 'lacks.pth')
    # A file needs no calibration.
    for name in ('odd.pth', 'lacks.pth')[: 1 if gone == 'calibration' else 2]:
        with pytest.raises(ValueError, match=f'{name} is not an adapters file'):
            load_adapters(_encoder(), tmp_path / name)
