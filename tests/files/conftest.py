import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the workstation's readers need its packages")
sys.path.insert(0, str(Path(__file__).parent))
