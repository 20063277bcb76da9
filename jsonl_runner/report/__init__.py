"""A report on a run: numbers from its files, and a page that shows them.

`gather` reads, `page` draws; the command line's `--json` prints `Report.to_dict`.
"""

from .gather import MAX_SAMPLE, SAMPLE, gather
from .numbers import Report
from .page import page

__all__ = ["MAX_SAMPLE", "SAMPLE", "Report", "gather", "page"]
