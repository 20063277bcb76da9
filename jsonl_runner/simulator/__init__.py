"""An OpenAI-shaped server on loopback, for `--simulate` and the tests; its answers are made up."""

from .answers import answer_text
from .faults import KINDS as FAULT_KINDS
from .faults import UnknownFaultError
from .journal import Call, Journal
from .server import Simulator
from .settings import SimulatorSettings

__all__ = [
    "FAULT_KINDS",
    "Call",
    "Journal",
    "Simulator",
    "SimulatorSettings",
    "UnknownFaultError",
    "answer_text",
]
