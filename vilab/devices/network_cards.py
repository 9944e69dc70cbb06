"""The kinds of network cards there are, by the names that configuration files have for them."""

from __future__ import annotations

from typing import Any

from vilab.devices.e1000_82545em import E1000
from vilab.devices.network_adapter import NetworkAdapter
from vilab.devices.pcnet_am79c970a import PcnetAm79c970a
from vilab.devices.vmxnet3 import Vmxnet3

NETWORK_CARDS: dict[str, type[NetworkAdapter[Any]]] = {"vlance": PcnetAm79c970a, "e1000": E1000, "vmxnet3": Vmxnet3}
