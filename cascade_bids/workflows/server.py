"""Imported first by the server of the processes of steps, and by nobody else: it dies with the run.

It sees the end of a run only when its imports are done and no process of a step is left.
"""

from cascade_bids.workflows.lifetime import die_with_parent

die_with_parent()
