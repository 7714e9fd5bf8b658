# EcoTTA with the settings that the paper and its ports publish (classification; none are
# published for segmentation): for comparison.
# Of the type 'ecotta' too; the results name it by this.
method = 'ecotta_paper'
adaptation = dict(
    type='ecotta',
    meta_networks=dict(num_parts=4, kernel_size=3, norm='BN', start='paper'),
    frozen_norm=dict(mode='source'),
    entropy_threshold=0.4,
    regularisation_weight=0.5,
    optimizer=dict(type='SGD', lr=5e-3, momentum=0.9),
)
