"""Series to train on: readers, the table of signals, the fixed split, windows and a simulator.

`read_dataset` turns a file or folder into a `Dataset`; `make_windows` cuts it. No torch here.
"""

from device_runtime.series.signals import SIGNALS, Signal, find_signal
from edge_tsfm.data.clock import say_interval, season_steps
from edge_tsfm.data.fingerprint import fingerprint
from edge_tsfm.data.options import DataOptions
from edge_tsfm.data.parts import Split, SplitBy
from edge_tsfm.data.read import read_dataset
from edge_tsfm.data.series import Dataset, ImportReport, Series
from edge_tsfm.data.split import Part, SplitName, split_of
from edge_tsfm.data.windows import Windows, make_windows

__all__ = [
    "SIGNALS",
    "DataOptions",
    "Dataset",
    "ImportReport",
    "Part",
    "Series",
    "Signal",
    "Split",
    "SplitBy",
    "SplitName",
    "Windows",
    "find_signal",
    "fingerprint",
    "make_windows",
    "read_dataset",
    "say_interval",
    "season_steps",
    "split_of",
]
