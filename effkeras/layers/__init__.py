"""The few Keras layers that Keras lacks; importing this package registers them for loading."""

from effkeras.layers.drop_block import DropBlock
from effkeras.layers.fake_quant import FakeQuant
from effkeras.layers.fake_quant_kernels import (
    FakeQuantConv2D,
    FakeQuantConv2DTranspose,
    FakeQuantDense,
    FakeQuantDepthwiseConv2D,
)
from effkeras.layers.fake_quant_steps import (
    FakeQuantFusion,
    FakeQuantHardSigmoid,
    FakeQuantSum,
    FakeQuantSwish,
)
from effkeras.layers.fusion import FastFusion
from effkeras.layers.normalize import Normalize
from effkeras.layers.scheduled import DropPath, FollowTraining
from effkeras.layers.slicing import ChannelSlice
from effkeras.layers.upsample import NearestUpsample

__all__ = [
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
