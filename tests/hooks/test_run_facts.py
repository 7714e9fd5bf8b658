from types import SimpleNamespace

from mmengine.config import Config

from ecotta_seg.hooks.run_facts import _as_text, _data_settings, _environment, _frames


class Files:
    """A data set that tells its files."""

    def __init__(self, root, names, severity=None):
        self.infos = [
            {'img_path': f'{root}/val/city/{name}', 'condition': 'fog'}
            | ({} if severity is None else {'severity': severity})
            for name in names
        ]

    def __len__(self):
        return len(self.infos)

    def get_data_info(self, index):
        return self.infos[index]


def test_frames_are_known_by_their_names_wherever_they_lie():
    here = _frames(Files('/a', ['1.png', '2.png']))
    assert here['fog']['frames'] == 2
    assert _frames(Files('/mnt/b', ['2.png', '1.png'])) == here
    assert _frames(Files('/a', ['1.png', '3.png'])) != here
    assert _frames(Files('/a', ['1.png', '2.png'], severity=3)) != here
    assert _frames(SimpleNamespace()) is None


def test_one_round_is_looked_at():
    dataset = Files('/a', ['1.png', '2.png'] * 3)
    dataset.frames_per_round = 2
    assert _frames(dataset) == _frames(Files('/a', ['1.png', '2.png']))


def config(*steps):
    inner = dict(type='A', pipeline=list(steps))
    return Config(dict(test_dataloader=dict(dataset=dict(type='ContinualStream', dataset=inner))))


def test_steps_that_make_other_frames_are_settings_of_the_data():
    plain = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(1, 2))]
    weather = dict(type='AdverseWeather', seed=3)
    assert _data_settings(config(*plain, dict(type='PackSegInputs'))) == {}
    found = _data_settings(config(*plain, weather, dict(type='mmseg.PackSegInputs')))
    assert found == {'AdverseWeather': '{"seed": 3}'}


def test_variables_of_the_config_that_are_set(tmp_path, monkeypatch):
    path = tmp_path / 'c.py'
    path.write_text("a = '{{$ROOT_A:x}}'\nb = '{{$ROOT_B:y}}'\n")
    monkeypatch.setenv('ROOT_A', '/data/a')
    monkeypatch.delenv('ROOT_B', raising=False)
    assert _environment(Config.fromfile(path)) == {'ROOT_A': '/data/a'}


def test_the_adaptation_is_text_of_a_config(tmp_path):
    adaptation = dict(type=Files, optimizer=dict(type='SGD', lr=1e-4), layers=(1, 'a'), at=object())
    text = _as_text(Config(dict(adaptation=adaptation, views=3, model=dict(a=1))))
    (tmp_path / 'c.py').write_text(text)
    found = Config.fromfile(tmp_path / 'c.py')
    assert found.adaptation == dict(
        type='Files', optimizer=dict(type='SGD', lr=1e-4), layers=[1, 'a'], at='object'
    )
    assert found.views == 3 and 'model' not in found
