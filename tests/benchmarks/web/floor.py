"""The floor: the same rows in a bare Jinja2 template, with nothing before and behind it."""

from collections.abc import Sequence
from statistics import median
from typing import TypeAlias

from jinja2 import Environment

from durably import LogEntry, Run, Step
from durably_web import wording
from tests.benchmarks.bench import stopwatch

Cells: TypeAlias = Sequence[str]

TABLE = """<table><tbody>
{% for row in rows %}
<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</tbody></table>
"""


class Floor:
    """Renders tables of ready words."""

    def __init__(self) -> None:
        self._template = Environment(autoescape=True).from_string(TABLE)

    def seconds(self, rows: Sequence[Cells], samples: int) -> float:
        """How long these rows take."""
        taken: list[float] = []
        for _ in range(samples):
            with stopwatch() as watch:
                self._template.render(rows=rows)
            taken.append(watch.seconds)
        return median(taken)


def of_run(run: Run) -> Cells:
    """What a list says of a run."""
    return (
        run.status,
        run.id,
        run.job_name,
        *(f"{key}={value}" for key, value in run.labels.items()),
        "" if run.progress is None else f"{run.progress.current}/{run.progress.total}",
        str(run.completed_step_count),
        "" if run.completed_at is None else wording.stamp(run.completed_at),
        wording.stamp(run.created_at),
        "" if run.error is None else run.error.message,
    )


def of_step(step: Step) -> Cells:
    """What the waterfall says of a step."""
    return (
        step.name,
        step.status,
        wording.stamp(step.started_at),
        wording.clock(step.started_at),
        "0.0",
        "1.0",
    )


def of_line(line: LogEntry) -> Cells:
    """What a log shows of a line."""
    return (
        wording.clock(line.created_at),
        line.level,
        line.step_name or "",
        line.message,
        str(dict(line.fields)),
    )
