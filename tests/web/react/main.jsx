// The reference's published hooks, each in a section of its own. What they answer is on the page as text, so that the
// test can read it. A page shows one section beside the actions: a browser opens six connections to a server, and each
// hook keeps one or two.
import {
  createDurably,
  useJob,
  useJobLogs,
  useJobRun,
  useRunActions,
  useRuns,
} from "@coji/durably-react";
import { useState } from "react";
import { createRoot } from "react-dom/client";

const api = "/api/durably";
const jobName = "import-pages";
const query = new URLSearchParams(location.search);
const durably = createDurably({ api });

function Facts({ of, ...facts }) {
  return (
    <dl id={of}>
      {Object.entries(facts).map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd data-fact={`${of}.${name}`}>{JSON.stringify(value) ?? "undefined"}</dd>
        </div>
      ))}
    </dl>
  );
}

function lines(logs) {
  return logs.map(({ level, message, data }) => [level, message, data ?? null]);
}

function states({ isLeased, isPending, isCompleted, isFailed, isCancelled, isTerminal, isActive }) {
  return { isLeased, isPending, isCompleted, isFailed, isCancelled, isTerminal, isActive };
}

/** useJob: trigger, wait, resume, follow the latest. */
function Job() {
  const job = useJob({
    api,
    jobName,
    initialRunId: query.get("run") ?? undefined,
    followLatest: query.get("follow") !== "no",
  });
  const [waited, setWaited] = useState(null);
  const [refused, setRefused] = useState(null);
  const input = () => JSON.parse(document.querySelector("#input").value);
  const wait = () =>
    job.triggerAndWait(input()).then(
      (result) => setWaited(result),
      (error) => setWaited(error.message),
    );
  const trigger = () => job.trigger(input()).catch((error) => setRefused(error.message));
  return (
    <section>
      <textarea id="input" defaultValue='{"pages": 2}' />
      <button id="trigger" onClick={trigger}>Trigger</button>
      <button id="wait" onClick={wait}>Trigger and wait</button>
      <button id="reset" onClick={job.reset}>Reset</button>
      <Facts
        of="job"
        status={job.status}
        output={job.output}
        error={job.error}
        progress={job.progress}
        logs={lines(job.logs)}
        currentRunId={job.currentRunId}
        states={states(job)}
        waited={waited}
        refused={refused}
      />
    </section>
  );
}

/** useJobRun and useJobLogs, alone and through the typed client: the run that is named. */
function Run() {
  const runId = query.get("run");
  const [told, setTold] = useState([]);
  const tell = (what) => setTold((before) => [...before, what]);
  const run = useJobRun({
    api,
    runId,
    onStart: () => tell("start"),
    onComplete: () => tell("complete"),
    onFail: () => tell("fail"),
  });
  const all = durably[jobName].useLogs(runId);
  const last = useJobLogs({ api, runId, maxLogs: 1 });
  return (
    <section>
      <button id="clear" onClick={all.clearLogs}>Clear</button>
      <Facts
        of="run"
        status={run.status}
        output={run.output}
        error={run.error}
        progress={run.progress}
        states={states(run)}
        told={told}
        logs={lines(all.logs)}
        last={lines(last.logs)}
      />
    </section>
  );
}

/** useRuns: pages of runs, live on the first. */
function Runs() {
  const list = useRuns({
    api,
    jobName,
    pageSize: 3,
    status: query.getAll("status"),
    labels: query.get("org") ? { org: query.get("org") } : undefined,
  });
  return (
    <section>
      <button id="newer" onClick={list.prevPage}>Newer</button>
      <button id="older" onClick={list.nextPage}>Older</button>
      <button id="third" onClick={() => list.goToPage(2)}>Third</button>
      <button id="refresh" onClick={list.refresh}>Refresh</button>
      <Facts
        of="runs"
        runs={list.runs.map((run) => [run.id, run.status, run.progress?.current ?? null])}
        steps={list.runs.map((run) => run.currentStepIndex)}
        page={list.page}
        hasMore={list.hasMore}
        error={list.error}
      />
    </section>
  );
}

/** useRunActions, on whatever run is named. */
function Actions() {
  const actions = useRunActions({ api });
  const [answer, setAnswer] = useState(null);
  const act = (name) => () => {
    setAnswer(null);
    actions[name](document.querySelector("#named").value).then(
      (value) => setAnswer({ value: value === undefined ? "nothing" : value }),
      (error) => setAnswer({ error: error.message }),
    );
  };
  return (
    <section>
      <input id="named" />
      {["retrigger", "cancel", "deleteRun", "getRun", "getSteps"].map((name) => (
        <button key={name} id={name} onClick={act(name)}>{name}</button>
      ))}
      <Facts of="actions" answer={answer} />
    </section>
  );
}

const sections = { job: Job, run: Run, runs: Runs };
const Section = sections[query.get("show")];

createRoot(document.querySelector("#root")).render(
  <>
    <Section />
    <Actions />
  </>,
);
