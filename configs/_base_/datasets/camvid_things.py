# CamVid, 367 training and 233 test photographs of 480 x 360 pixels, at half that size; six object classes on a
# background of sky, building, road, pavement and tree, so saliency comes from the ground truth.
dataset_name = 'CamVid things'
scenario = dict(num_classes=6, setting='overlapped')
saliency = 'ground_truth'
data_root = 'data/camvid'
crop_size = (120, 120)
train_dataloader = dict(
    batch_size=8,  # shared by all processes
    num_workers=0,
    batch_sampler=dict(type='ReplayBatchSampler'),
    dataset=dict(
        type='TaskDataset',
        dataset=dict(
            type='CamVidThingsDataset',
            data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClass'),
            ann_file='ImageSets/Segmentation/train.txt'),
        pipeline=[
            dict(type='LoadImage'),
            dict(type='LoadLabels'),
            dict(type='LabelAugmentation'),
            dict(type='RandomScale', scale=(0.4, 0.8)),
            dict(type='RandomCrop'),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackSegInputs'),
        ]))
test_dataloader = dict(
    batch_size=16,
    num_workers=0,
    dataset=dict(
        type='TaskDataset',
        dataset=dict(
            type='CamVidThingsDataset',
            data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClass'),
            ann_file='ImageSets/Segmentation/test.txt'),
        pipeline=[
            dict(type='LoadImage'),
            dict(type='LoadLabels'),
            dict(type='Resize', scale=(240, 180), keep_ratio=False),
            dict(type='PackSegInputs'),
        ]))
