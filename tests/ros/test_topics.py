"""Names of topics."""

import pytest

from ecotta_seg.ros.messages import IMAGE, LABEL_INFO
from ecotta_seg.ros.topics import answer_topics


def test_topics_and_types():
    assert answer_topics('/front/seg', '32FC1') == {
        'label_info': ('/front/seg/label_info', LABEL_INFO),
        'mask': ('/front/seg/mask', IMAGE),
        'confidence': ('/front/seg/confidence', IMAGE),
    }
    assert set(answer_topics('seg', 'none')) == {'label_info', 'mask'}


@pytest.mark.parametrize('prefix', ['', '/', '/a/', 'a b', '/1a', '/a//b', 'aä'])
def test_what_is_no_name(prefix):
    with pytest.raises(ValueError, match='--prefix: expected the name of a topic'):
        answer_topics(prefix, 'mono8')
