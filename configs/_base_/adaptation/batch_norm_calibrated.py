# The frozen statistics of ecotta_plus alone: only drift beyond three times that of clear frames
# counts. Nothing is learned.
adaptation = dict(
    type='batch_norm_statistics', mode='calibrated', weight=40.0, tolerance=3.0, momentum=0.75
)
