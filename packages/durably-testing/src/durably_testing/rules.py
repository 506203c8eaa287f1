"""The engine's promises in SQL: triggers for what must not happen, queries for what must not be.

Each trigger writes a sentence into `durably_violations` when a row is about to break a promise.
"""

ENDED = "('completed', 'failed', 'cancelled')"
"""The states of a run that has ended, in SQL."""


def _trigger(name: str, event: str, condition: str, text: str) -> str:
    return f"""
CREATE TRIGGER IF NOT EXISTS durably_oracle_{name} BEFORE {event} WHEN {condition}
BEGIN INSERT INTO durably_violations (text) VALUES ({text}); END"""


TRIGGERS: tuple[str, ...] = (
    _trigger(
        "checkpoint_changed",
        "UPDATE ON durably_steps",
        """OLD.status IN ('completed', 'failed') AND NOT (
          -- A failure whose run is sent back.
          OLD.status = 'failed' AND NEW.status = 'running' AND NEW.name IS OLD.name
          AND (SELECT status FROM durably_runs WHERE seq = OLD.run_seq) = 'pending'
        ) AND (
          NEW.status IS NOT OLD.status OR NEW.error IS NOT OLD.error OR NEW.name IS NOT OLD.name
          OR (NEW.result IS NOT OLD.result AND NOT (
            NEW.result IS NULL AND (SELECT status FROM durably_runs WHERE seq = OLD.run_seq) = 'completed'
          ))
        )""",
        "'the checkpoint of step ''' || OLD.name || ''' was changed after its commit'",
    ),
    _trigger(
        "checkpoint_out_of_turn",
        "INSERT ON durably_steps",
        "(SELECT status FROM durably_runs WHERE seq = NEW.run_seq) IS NOT 'running'",
        "'step ''' || NEW.name || ''' was written while its run was not running'",
    ),
    _trigger(
        "log_out_of_turn",
        "INSERT ON durably_logs",
        "(SELECT status FROM durably_runs WHERE seq = NEW.run_seq) IS NOT 'running'",
        "'a log line was written while its run was not running'",
    ),
    _trigger(
        "generation",
        "UPDATE OF status, lease_generation, lease_owner ON durably_runs",
        """NEW.lease_generation < OLD.lease_generation
        OR (NEW.status = 'running' AND OLD.status <> 'running' AND NEW.lease_generation <= OLD.lease_generation)
        OR (NEW.status = 'running' AND OLD.status = 'running' AND NEW.lease_owner IS NOT OLD.lease_owner
            AND NEW.lease_generation <= OLD.lease_generation)""",
        "'run ' || OLD.id || ' was claimed without a new generation'",
    ),
    _trigger(
        "transition",
        "UPDATE OF status ON durably_runs",
        """NEW.status <> OLD.status AND NOT (
          (OLD.status = 'pending' AND NEW.status IN ('running', 'cancelled', 'failed'))
          OR (OLD.status = 'running' AND NEW.status IN ('pending', 'waiting', 'completed', 'failed', 'cancelled'))
          OR (OLD.status = 'waiting' AND NEW.status IN ('pending', 'failed', 'cancelled'))
          OR (OLD.status IN ('failed', 'cancelled') AND NEW.status = 'pending' AND NEW.last_token IS NOT OLD.last_token)
        )""",
        "'run ' || OLD.id || ' went from ' || OLD.status || ' to ' || NEW.status",
    ),
    _trigger(
        "terminal",
        "UPDATE ON durably_runs",
        f"""OLD.status IN {ENDED} AND NEW.status = OLD.status AND (
          NEW.output IS NOT OLD.output OR NEW.error IS NOT OLD.error OR NEW.input IS NOT OLD.input
          OR NEW.completed_at IS NOT OLD.completed_at
        )""",
        "'run ' || OLD.id || ' was changed after it had ended as ' || OLD.status",
    ),
    _trigger(
        "removal",
        "DELETE ON durably_runs",
        f"OLD.status NOT IN {ENDED}",
        "'run ' || OLD.id || ' was removed while it was ' || OLD.status",
    ),
    _trigger(
        "key",
        "UPDATE OF status ON durably_runs",
        """NEW.status = 'running' AND NEW.concurrency_key IS NOT NULL AND EXISTS (
          SELECT 1 FROM durably_runs AS other
          WHERE other.key_scope = NEW.key_scope AND other.concurrency_key = NEW.concurrency_key
            AND other.seq <> NEW.seq AND (other.status IN ('running', 'waiting') OR other.lease_owner IS NOT NULL)
        )""",
        "'run ' || NEW.id || ' began while another run held its key'",
    ),
)

_OWNER = "(SELECT worker.pid FROM durably_workers AS worker WHERE worker.id = run.lease_owner)"


def _writer_of_steps(name: str, event: str) -> str:
    return _trigger(
        f"writer_{name}",
        f"{event} ON durably_steps",
        f"""NEW.kind IN ('run', 'map') AND durably_writer() IS NOT NULL AND (
          SELECT {_OWNER} FROM durably_runs AS run WHERE run.seq = NEW.run_seq
        ) <> durably_writer()""",
        "'step ''' || NEW.name || ''' was written by a process that does not own its run'",
    )


SIMULATED: tuple[str, ...] = (
    _writer_of_steps("insert", "INSERT"),
    _writer_of_steps("update", "UPDATE"),
    _trigger(
        "writer_outcome",
        "UPDATE OF status ON durably_runs",
        f"""OLD.status = 'running' AND NEW.status IN ('completed', 'waiting') AND durably_writer() IS NOT NULL
        AND (SELECT {_OWNER} FROM (SELECT OLD.lease_owner AS lease_owner) AS run) <> durably_writer()""",
        "'run ' || OLD.id || ' went to ' || NEW.status || ' by a process that does not own it'",
    ),
)
"""Where the database knows who writes: `durably_writer()` answers the simulated worker's process, else null."""

CHECKS: tuple[str, ...] = (
    f"""SELECT 'run ' || id || ' has ended and still holds its key' FROM durably_runs
    WHERE status IN {ENDED} AND holds_key = 1 AND lease_owner IS NULL""",
    f"""SELECT 'run ' || id || ' has ended without the instant of its end' FROM durably_runs
    WHERE status IN {ENDED} AND completed_at IS NULL""",
    """SELECT 'run ' || id || ' is waiting and has an owner' FROM durably_runs
    WHERE status = 'waiting' AND lease_owner IS NOT NULL""",
    # One that was sent back while its body had not ended has the owner of that body, until its lease ends.
    """SELECT 'run ' || id || ' is pending and has an owner for ever' FROM durably_runs
    WHERE status = 'pending' AND lease_owner IS NOT NULL AND timer_at IS NULL""",
    """SELECT 'run ' || id || ' waits for nothing' FROM durably_runs AS run
    WHERE status = 'waiting' AND NOT EXISTS (
      SELECT 1 FROM durably_steps AS step WHERE step.run_seq = run.seq AND step.status = 'running'
    )""",
    """SELECT 'step ''' || name || ''' belongs to no run' FROM durably_steps
    WHERE run_seq NOT IN (SELECT seq FROM durably_runs)""",
    """SELECT 'a log line belongs to no run' FROM durably_logs
    WHERE run_seq NOT IN (SELECT seq FROM durably_runs)""",
    """SELECT 'signal ' || id || ' was consumed by nobody' FROM durably_signals AS signal
    WHERE consumed_at IS NOT NULL AND run_seq IS NOT NULL AND NOT EXISTS (
      SELECT 1 FROM durably_steps AS step
      WHERE step.run_seq = signal.run_seq AND step.name = signal.name AND step.status <> 'running'
    ) AND NOT EXISTS (
      -- Its step is gone with its link.
      SELECT 1 FROM durably_links AS link
      WHERE link.run_seq = signal.run_seq AND link.ended_at >= signal.consumed_at
    )""",
)
