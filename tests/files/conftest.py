import pytest

pytest.importorskip("torch", reason="the workstation's readers need its packages")
