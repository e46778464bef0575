"""The few Keras layers that Keras lacks; importing this package registers them for loading."""

from effkeras.layers.drop_block import DropBlock
from effkeras.layers.fusion import FastFusion
from effkeras.layers.normalize import Normalize
from effkeras.layers.scheduled import DropPath, FollowTraining
from effkeras.layers.slicing import ChannelSlice
from effkeras.layers.upsample import NearestUpsample

__all__ = [
    "ChannelSlice",
    "DropBlock",
    "DropPath",
    "FastFusion",
    "FollowTraining",
    "NearestUpsample",
    "Normalize",
]
