"""Keras layers that Keras itself lacks; importing this package registers them for loading."""

from effkeras.layers.batch_norm import BatchNormalization
from effkeras.layers.drop import DropBlock, DropPath, FollowTraining
from effkeras.layers.fake_quant import (
    FakeQuant,
    FakeQuantFusion,
    FakeQuantHardSigmoid,
    FakeQuantSum,
    FakeQuantSwish,
)
from effkeras.layers.fake_quant_kernels import (
    FakeQuantConv2D,
    FakeQuantConv2DTranspose,
    FakeQuantDense,
    FakeQuantDepthwiseConv2D,
)
from effkeras.layers.feature_maps import ChannelSlice, FastFusion, NearestUpsample
from effkeras.layers.normalize import Normalize

__all__ = [
    "BatchNormalization",
    "ChannelSlice",
    "DropBlock",
    "DropPath",
    "FakeQuant",
    "FakeQuantConv2D",
    "FakeQuantConv2DTranspose",
    "FakeQuantDense",
    "FakeQuantDepthwiseConv2D",
    "FakeQuantFusion",
    "FakeQuantHardSigmoid",
    "FakeQuantSum",
    "FakeQuantSwish",
    "FastFusion",
    "FollowTraining",
    "NearestUpsample",
    "Normalize",
]
