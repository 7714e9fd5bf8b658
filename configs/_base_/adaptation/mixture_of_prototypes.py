# Mixture of Prototypes (Li, Zhu, Ge, CVPR 2026), after its abstract; no settings are published
# there. The method needs clear frames (calibration_dataloader, forgetting_dataloader or
# --calibrate). Ours: prototypes without labels, cosines, half of the prediction by the source's
# classifier (source_share=0 is the abstract alone). Chosen on CamVid's val drive.
# See ecotta_seg/methods/mixture_of_prototypes.py for all deviations.
adaptation = dict(
    type='mixture_of_prototypes',
    experts=4,
    temperature=0.1,
    source_share=0.5,
    selection_weight=1.0,
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9),
)
