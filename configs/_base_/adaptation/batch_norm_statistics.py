# Every BatchNorm normalises by the frame's own statistics (arXiv 2006.10963).
adaptation = dict(type='batch_norm_statistics', mode='frame')
