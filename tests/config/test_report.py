from mmengine.config import Config

from ecotta_seg.config.report import with_report


def hooks_of(*hooks, pictures=False):
    cfg = Config(dict(custom_hooks=[dict(type=name) for name in hooks]))
    with_report(cfg, 'source.pth', pictures)
    return {hook['type']: dict(hook) for hook in cfg.custom_hooks}


def test_the_report_knows_the_checkpoint():
    found = hooks_of('ResultsHook', 'ReportHook')
    assert found['ReportHook'] == dict(type='ReportHook', checkpoint='source.pth')
    assert found['ResultsHook'] == dict(type='ResultsHook')


def test_frames_are_kept_only_if_pictures_are_asked_for():
    assert 'BestAndWorstHook' not in hooks_of('ReportHook')
    assert 'BestAndWorstHook' in hooks_of('ReportHook', pictures=True)
    assert 'BestAndWorstHook' in hooks_of('ReportHook', 'PanelHook')


def test_a_hook_of_the_config_stays():
    cfg = Config(dict(custom_hooks=[dict(type='BestAndWorstHook', width=99)]))
    with_report(cfg, 'source.pth', True)
    assert list(cfg.custom_hooks) == [dict(type='BestAndWorstHook', width=99)]
