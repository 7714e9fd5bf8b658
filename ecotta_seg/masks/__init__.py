"""Predicted masks as files: ids and colours, folders, and archives for evaluation servers."""

from .folder import MaskFolder, frame_names
from .ids import MASK_FORMATS, MaskEncoder, label_ids_of
from .submission import check_submission, write_submission
from .submission_rules import SERVERS, SubmissionRules

__all__ = [
    'MASK_FORMATS',
    'MaskEncoder',
    'MaskFolder',
    'SERVERS',
    'SubmissionRules',
    'check_submission',
    'frame_names',
    'label_ids_of',
    'write_submission',
]
