"""An OpenAI-shaped server on loopback, for `--simulate` and the tests; its answers are made up.

It speaks Anthropic's messages and message batches, too.
"""

from .answers import answer_text
from .faults import BATCH_KINDS as BATCH_FAULT_KINDS
from .faults import KINDS as FAULT_KINDS
from .faults import UnknownFaultError
from .journal import Call, Journal
from .journal_batches import BatchJournal, BilledLine, CreatedBatch, Upload
from .routes import ROUTES, UnknownRouteError
from .server import Simulator
from .settings import SimulatorSettings

__all__ = [
    "BATCH_FAULT_KINDS",
    "FAULT_KINDS",
    "ROUTES",
    "BatchJournal",
    "BilledLine",
    "Call",
    "CreatedBatch",
    "Journal",
    "Simulator",
    "SimulatorSettings",
    "UnknownFaultError",
    "UnknownRouteError",
    "Upload",
    "answer_text",
]
