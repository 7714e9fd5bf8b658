# BDD100K: 10k images with labels, by weather and time of day. Both come from the labels of the 100k
# images (labels/det_20/ or labels/bdd100k_labels_images_*.json). Few frames are in fog.
_base_ = ['./driving_stream.py']

test_dataloader = dict(
    dataset=dict(
        conditions=('overcast_daytime', 'rainy_daytime', 'snowy_daytime', 'night'),
        dataset=dict(
            type='BDD100KConditionDataset',
            data_root='{{$BDD100K_ROOT:data/bdd100k}}',
            split='val',
        ),
    ),
)
