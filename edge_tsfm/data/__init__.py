"""Series to train on: readers, the channel table, the fixed split, windows and a simulator.

`read_dataset` turns a file or folder into a `Dataset`; `make_windows` cuts it. No torch here.
"""

from edge_tsfm.data.channels import CHANNELS, Channel, find_channel
from edge_tsfm.data.clock import say_interval, season_steps
from edge_tsfm.data.fingerprint import fingerprint
from edge_tsfm.data.parts import Split, SplitBy
from edge_tsfm.data.read import read_dataset
from edge_tsfm.data.series import Dataset, ImportReport, Series
from edge_tsfm.data.split import Part, SplitName, split_of
from edge_tsfm.data.windows import Windows, make_windows

__all__ = [
    "CHANNELS",
    "Channel",
    "Dataset",
    "ImportReport",
    "Part",
    "Series",
    "Split",
    "SplitBy",
    "SplitName",
    "Windows",
    "find_channel",
    "fingerprint",
    "make_windows",
    "read_dataset",
    "say_interval",
    "season_steps",
    "split_of",
]
