/* The page's half of durably-web. One EventSource tells names ("dw-run-…-log"); the elements that listen to them fetch
   themselves again by htmx 2 or 4. A missed name does no harm: now and then everything fetches itself. Nothing here makes
   HTML of what it is told. */
(() => {
  "use strict";
  if (window.durablyWeb) return;

  const script = document.currentScript;
  const doorbell = script && script.dataset.dwLive;
  const root = document.documentElement;
  const THROTTLE = 250;        // ms between two fetches of one element, the first and the last of a burst included
  const POLL = 10_000;         // ms between two fetches while there is no connection
  const RETRY = 15_000;        // ms between two attempts at a connection that was refused
  const FIRST_WORD = 10_000;   // ms until a connection's first message, after which it counts as eaten by a proxy
  const SILENCE = 60_000;      // ms without a sign of life, after which it does later
  const HIDDEN = 2_000;        // ms a page is hidden before it gives its connection back
  const GRACE = 3_000;         // ms of reconnecting before it is said
  const MOST_TOPICS = 32;
  const MOST_LINES = 2_000;    // lines of a log that stay in the page

  root.classList.add("dw-js");

  const all = (selector, within = document) => Array.from(within.querySelectorAll(selector));
  const fire = (element, name, detail) =>
    element.dispatchEvent(new CustomEvent(name, { bubbles: true, detail: detail || {} }));

  /* ------------------------------------------------------------------------------------------------ the doorbell */

  const resting = new WeakMap();

  /* Have an element fetch itself: at once, and if it is rung again soon, once more at the end of that time. */
  function refresh(host) {
    const known = resting.get(host);
    if (known) { known.again = true; return; }
    const state = { again: false };
    resting.set(host, state);
    fire(host, "dw-refresh");
    setTimeout(() => {
      resting.delete(host);
      if (state.again && host.isConnected) refresh(host);
    }, THROTTLE);
  }

  /* Elements of a page's own may listen to the names too: `hx-trigger="dw-runs from:body"`. */
  function ring(names) {
    for (const name of names) fire(document.body, name);
    for (const host of all("[data-dw-bells]")) {
      if (host.dataset.dwBells.split(" ").some((name) => names.includes(name))) refresh(host);
    }
  }
  function resync() { all("[data-dw-bells]").forEach(refresh); }
  document.addEventListener("dw-resync", resync);

  const line = {
    source: null, topics: "", cursor: "", retry: 0, poll: 0, silence: 0, grace: 0,

    wanted() {
      const topics = new Set();
      for (const host of all("[data-dw-topics]")) {
        if (host.querySelector("[data-dw-ended]")) continue;
        for (const topic of host.dataset.dwTopics.split(" ")) if (topic) topics.add(topic);
      }
      return Array.from(topics).sort().slice(0, MOST_TOPICS).join(" ");
    },

    collect() {
      if (!doorbell || document.hidden) return;
      const topics = line.wanted();
      if (topics === line.topics && (line.source || line.retry || !topics)) return;
      line.topics = topics;
      line.close();
      if (topics) line.open(); else tell("idle");
    },

    open() {
      const url = new URL(doorbell, location.href);
      url.searchParams.set("topics", line.topics);
      if (line.cursor) url.searchParams.set("after", line.cursor);
      const source = line.source = new EventSource(url);
      const heard = () => {
        clearTimeout(line.silence);
        line.silence = setTimeout(line.lost, SILENCE);
      };
      line.silence = setTimeout(line.lost, FIRST_WORD);
      source.onmessage = (event) => {
        heard();
        line.cursor = event.lastEventId || line.cursor;
        line.settle("live");
        ring(event.data.split(" ").filter((name) => /^dw-[\w-]+$/.test(name)));
      };
      source.addEventListener("beat", heard);
      source.onerror = () => {
        if (source !== line.source) return;
        if (source.readyState === EventSource.CLOSED) line.lost();
        else if (!line.grace) line.grace = setTimeout(() => line.settle("reconnecting"), GRACE);
      };
    },

    /* It was refused, or a proxy keeps it from us: ask now and then, and fetch meanwhile. */
    lost() {
      line.hangUp();
      line.settle("reconnecting");
      line.retry = setTimeout(() => { line.retry = 0; if (line.topics) line.open(); }, RETRY);
    },

    settle(state) {
      clearTimeout(line.grace);
      line.grace = 0;
      if (state !== "reconnecting") line.rest();
      else if (!line.poll) line.poll = setInterval(resync, POLL);
      tell(state);
    },

    rest() { clearInterval(line.poll); line.poll = 0; },

    hangUp() {
      if (line.source) line.source.close();
      line.source = null;
      for (const timer of ["retry", "silence", "grace"]) { clearTimeout(line[timer]); line[timer] = 0; }
    },

    close() { line.hangUp(); line.rest(); },
  };

  const STATES = { live: "Live", reconnecting: "Reconnecting", idle: "" };

  function tell(state) {
    for (const element of all("[data-dw-component=conn_indicator] [data-state]")) {
      if (element.dataset.state === state) continue;
      element.dataset.state = state;
      element.lastElementChild.textContent = STATES[state];
    }
  }

  let hiding = 0;
  document.addEventListener("visibilitychange", () => {
    clearTimeout(hiding);
    if (document.hidden) hiding = setTimeout(() => { line.close(); line.topics = ""; }, HIDDEN);
    else { line.collect(); tick(); }
  });
  window.addEventListener("pagehide", () => { line.close(); line.topics = ""; });
  window.addEventListener("pageshow", (event) => {
    if (event.persisted) { isLeaving = false; resync(); line.collect(); }
  });

  /* ------------------------------------------------------------------------------------------ fetching, htmx 2 and 4 */

  const hostOf = (element) => element && element.closest && element.closest("[data-dw-component]");
  const is404or422 = (status) => status === 404 || status === 422;

  /* htmx 4 makes the request of a queued trigger when it is triggered: its cursor would be that of then. */
  function fresh(element, path) {
    const { dwAfter, dwTurned } = (element && element.dataset) || {};
    if (!dwAfter && !dwTurned) return path;
    const url = new URL(path, location.href);
    for (const [name, value] of new URLSearchParams(dwTurned || "")) url.searchParams.set(name, value);
    if (dwAfter) url.searchParams.set("after", dwAfter);
    return url.pathname + url.search;
  }

  /* A link that has its part of the page show something else, and go on with that when it fetches itself. */
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-dw-turn]");
    const host = hostOf(link);
    if (!host || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    if (!host.matches("[hx-get]")) return;
    event.preventDefault();
    host.dataset.dwTurned = link.dataset.dwTurn;
    host.dwFocus = link.id;
    if (link.pathname === location.pathname) history.replaceState(history.state, "", link.href);
    fire(host, "dw-refresh");
  });
  function refocus() {
    for (const host of all("[data-dw-turned]")) {
      const link = host.dwFocus && document.getElementById(host.dwFocus);
      if (link && host.contains(link)) link.focus({ preventScroll: true });
      host.dwFocus = "";
    }
  }
  document.addEventListener("htmx:configRequest", (event) => {
    event.detail.path = fresh(event.detail.elt, event.detail.path);
  });
  document.addEventListener("htmx:before:request", (event) => {
    const { ctx } = event.detail;
    ctx.request.action = fresh(ctx.sourceElement, ctx.request.action);
    if (held(ctx.sourceElement)) event.preventDefault();
  });
  document.addEventListener("htmx:beforeRequest", (event) => {
    if (held(event.detail.elt)) event.preventDefault();
  });

  /* A session that has ended answers every part of the page with the way to the login. The page takes the first one:
     each further one would begin the way anew, and nobody would come to a login that is slower than the news. */
  let isLeaving = false;
  function mayGo(element, redirect) {
    if (!redirect || !hostOf(element)) return true;
    const isFirst = !isLeaving;
    isLeaving = true;
    return isFirst;
  }
  document.addEventListener("htmx:before:response", (event) => {
    const { ctx } = event.detail;
    if (!mayGo(ctx.sourceElement, ctx.response.headers.get("HX-Redirect"))) event.preventDefault();
  });
  document.addEventListener("htmx:beforeOnLoad", (event) => {
    const { elt, xhr } = event.detail;
    if (!mayGo(elt, xhr.getResponseHeader("HX-Redirect"))) event.preventDefault();
  });

  /* What is being worked with is not replaced under the hands: it is marked, and fetched once it is let go. That is so
     while a button of it is pressed or asks something, or text of it is selected; where it is said (data-dw-hold), also
     while the focus is in it, or a field has another value than it came with. */
  const LONGEST_SELECTION = 30_000;  // ms that selected text keeps a part of the page as it is
  let pressed = null, selected = null, selectedAt = 0;

  function isInHands(host) {
    if (host.contains(pressed) || host.dwAsks) return true;
    if (host.contains(selected) && Date.now() - selectedAt < LONGEST_SELECTION) return true;
    return host.matches("[data-dw-hold]") && isUsed(host);
  }
  const isUsed = (host) => host.querySelector(":focus-visible") !== null || all("input, select, textarea", host).some(isTouched);
  function isTouched(field) {
    if (field.matches("[type=checkbox], [type=radio]")) return field.checked !== field.defaultChecked;
    if (!field.matches("select")) return field.value !== field.defaultValue;
    return field.selectedIndex !== Math.max(0, Array.from(field.options).findIndex((option) => option.defaultSelected));
  }
  function held(host) {
    // To a log is only added.
    if (!host || !host.matches || !host.matches("[data-dw-component]:not([data-dw-after])")) return false;
    const isHeld = isInHands(host);
    if (isHeld) host.dataset.dwStale = "";
    else delete host.dataset.dwStale;
    if (host.matches("[data-dw-hold]")) for (const notice of all("[data-dw-stale-notice]")) notice.hidden = !isUsed(host);
    return isHeld;
  }
  function release() {
    setTimeout(() => {
      for (const host of all("[data-dw-stale]")) if (!isInHands(host)) fire(host, "dw-refresh");
    }, 0);
  }
  document.addEventListener("change", release);
  document.addEventListener("focusout", release);
  document.addEventListener("pointerdown", (event) => { pressed = event.target; });
  for (const end of ["pointerup", "pointercancel"]) {
    document.addEventListener(end, () => setTimeout(() => { pressed = null; release(); }, 0));
  }
  document.addEventListener("selectionchange", () => {
    const selection = getSelection();
    const was = selected;
    selected = selection.isCollapsed ? null : selection.anchorNode;
    if (selected) { if (!was) setTimeout(release, LONGEST_SELECTION); selectedAt = Date.now(); }
    else if (was) release();
  });

  /* What is replaced keeps what the visitor did to it: what is unfolded, how far it is scrolled, where the focus is. */
  const FOCUSABLE = "a[href], button, input, select, textarea, summary, [tabindex]";
  const SCROLLING = ".dw-scroll, .dw-json, .dw-tail";

  function remember(host) {
    const active = document.activeElement;
    const isInside = host !== active && host.contains(active);
    host.dwKept = {
      unfolded: all("details", host).map((one) => one.open),
      scrolled: all(SCROLLING, host).map((one) => [one.scrollLeft, one.scrollTop]),
      focused: isInside ? { id: active.id, at: all(FOCUSABLE, host).indexOf(active), is: likeness(active) } : null,
    };
  }
  function restore(host) {
    const { unfolded, scrolled, focused } = host.dwKept;
    delete host.dwKept;
    const folds = all("details", host);
    if (folds.length === unfolded.length) folds.forEach((one, index) => { one.open = unfolded[index]; });
    all(SCROLLING, host).forEach((one, index) => { if (scrolled[index]) [one.scrollLeft, one.scrollTop] = scrolled[index]; });
    if (!focused || document.activeElement !== document.body) return;
    const there = all(FOCUSABLE, host);
    const same = (focused.id && there.find((one) => one.id === focused.id))
      || [there[focused.at], ...there].find((one) => one && likeness(one) === focused.is);
    // What is gone leaves the focus where it was, and on nothing that a further key would press.
    if (!same) host.tabIndex = -1;
    (same || host).focus({ preventScroll: true });
  }
  const likeness = (element) => [element.tagName, element.getAttribute("href"), element.textContent.trim()].join(" ");

  /* Trouble of the server's leaves alone what is shown; it is said instead of it only where nothing is yet. What an
     element fetches by itself is tried again. */
  function isKept(element, status) {
    const host = hostOf(element);
    if (!host) return false;
    const nothing = all(":scope > [data-dw-nothing]", host);
    if (status < 500) delete host.dataset.dwTrouble;
    else {
      host.dataset.dwTrouble = "";
      if (element === host && !host.dwRetry) host.dwRetry = setTimeout(() => {
        host.dwRetry = 0;
        if (host.isConnected && "dwTrouble" in host.dataset) refresh(host);
      }, POLL);
      if (!nothing.length) return true;
    }
    /* What comes to a log is added to it, and takes the place of nothing. */
    if (host.matches("[data-dw-after]")) for (const one of nothing) one.remove();
    return false;
  }

  /* A run that is gone is gone from all its parts: one that came just before still shows how it had ended. */
  const gone = new Set();
  function spread(element, status) {
    const host = hostOf(element);
    const run = host && host.dataset.dwRun;
    if (status !== 404 || !run || gone.has(run)) return;
    gone.add(run);
    for (const other of all(`[data-dw-run="${CSS.escape(run)}"]`)) if (other !== host) refresh(other);
  }

  function beforeSwap(element, target) {
    const log = target && target.matches && target.matches("[data-dw-after]") ? target : null;
    if (log) log.dwAtEnd = !log.contains(selected) && log.scrollHeight - log.scrollTop - log.clientHeight < 24;
    if (held(element)) return true;
    if (!log && hostOf(target) === target) remember(target);
    return false;
  }
  document.addEventListener("htmx:before:swap", (event) => {
    const { ctx } = event.detail;
    spread(ctx.sourceElement, ctx.response.status);
    if (isKept(ctx.sourceElement, ctx.response.status)) { event.preventDefault(); return; }
    if (beforeSwap(ctx.sourceElement, ctx.target)) event.preventDefault();
  });
  document.addEventListener("htmx:beforeSwap", (event) => {
    const { elt, target, xhr } = event.detail;
    spread(elt, xhr.status);
    const isTold = !isKept(elt, xhr.status) && (is404or422(xhr.status) || xhr.status >= 500);
    if (hostOf(elt) && isTold) { event.detail.shouldSwap = true; event.detail.isError = false; }
    if (beforeSwap(elt, target)) event.detail.shouldSwap = false;
  });

  function afterSwap() {
    for (const host of all("[data-dw-component]")) if (host.dwKept) restore(host);
    all("[data-dw-after]").forEach(settleLog);
    all("[data-dw-run]").forEach(compare);
    focusProblem();
    refocus();
    countSelected();
    tick();
    line.collect();
  }
  document.addEventListener("htmx:after:swap", afterSwap);
  document.addEventListener("htmx:afterSwap", afterSwap);

  /* ----------------------------------------------------------------------------------------------- a run's new status */

  const statuses = new WeakMap();
  const TOLD = { running: "durably:start", completed: "durably:complete", failed: "durably:fail", cancelled: "durably:cancel" };
  const speaker = () => document.getElementById("dw-speaker");

  function compare(host) {
    const shown = host.querySelector("[data-dw-status]");
    /* A panel and the badge in it say it once: the panel does. */
    if (!shown || host.parentElement.closest(`[data-dw-run="${CSS.escape(host.dataset.dwRun)}"]`)) return;
    const status = shown.dataset.dwStatus;
    const before = statuses.get(host);
    statuses.set(host, status);
    if (!before || before === status) return;
    if (TOLD[status]) fire(host, TOLD[status], { runId: host.dataset.dwRun });
    if (speaker()) speaker().textContent = shown.textContent.trim();
    const then = host.dataset.dwOnComplete;
    if (status === "completed" && then) then === "reload" ? location.reload() : location.assign(then);
  }

  /* ------------------------------------------------------------------------------------------------------- a run's log */

  const settled = new WeakSet();

  function settleLog(log) {
    const isFirst = !log.dwSeen;
    const seen = log.dwSeen = log.dwSeen || new Set();
    let newest = Number(log.dataset.dwAfter) || 0;
    for (const one of all("[data-dw-seq]", log)) {
      if (settled.has(one)) continue;
      settled.add(one);
      const number = Number(one.dataset.dwSeq);
      if (seen.has(number)) { one.remove(); continue; }
      seen.add(number);
      newest = Math.max(newest, number);
    }
    log.dataset.dwAfter = String(newest);
    if (isFirst && log.dataset.dwHeight) log.style.setProperty("--dw-log-height", log.dataset.dwHeight);
    if (isFirst) log.addEventListener("scroll", () => showFollow(log), { passive: true });
    if (isFirst || log.dwAtEnd) {
      forget(log, MOST_LINES);
      log.scrollTop = log.scrollHeight;
    }
    showFollow(log);
  }
  function forget(log, but) {
    const lines = all("[data-dw-seq]", log);
    for (const one of lines.slice(0, Math.max(0, lines.length - but))) {
      log.dwSeen.delete(Number(one.dataset.dwSeq));
      one.remove();
    }
  }
  function showFollow(log) {
    const away = log.scrollHeight - log.scrollTop - log.clientHeight >= 24;
    for (const button of all("[data-dw-follow]")) if (button.dataset.dwFollow === log.id) button.hidden = !away;
  }

  /* ----------------------------------------------------------------------------------------------------- small things */

  const UNITS = [[86400, "d"], [3600, "h"], [60, "m"]];
  function oneUnit(seconds) {
    for (const [size, unit] of UNITS) if (seconds >= size) return `${Math.floor(seconds / size)} ${unit}`;
    return `${Math.floor(seconds)} s`;
  }
  function lasting(seconds) {
    if (seconds < 60) return `${seconds.toFixed(1)} s`;
    const [d, h, m, s] = [seconds / 86400, (seconds / 3600) % 24, (seconds / 60) % 60, seconds % 60].map(Math.floor);
    return d ? `${d} d ${h} h` : h ? `${h} h ${m} m` : `${m} m ${s} s`;
  }
  /* The server's clock is what the page was written by. */
  const meta = document.querySelector("meta[name=dw-now]");
  const skew = meta ? Number(meta.content) - Date.now() : 0;
  function tick() {
    if (document.hidden) return;
    const now = Date.now() + (Math.abs(skew) > 60_000 ? skew : 0);
    for (const time of all("time[data-dw-age]")) {
      const seconds = (now - Date.parse(time.dateTime)) / 1000;
      const text = Math.abs(seconds) < 1 ? "now" : seconds > 0 ? `${oneUnit(seconds)} ago` : `in ${oneUnit(-seconds)}`;
      if (time.textContent !== text) time.textContent = text;
    }
    for (const span of all("[data-dw-since]")) {
      const seconds = (now - Date.parse(span.dataset.dwSince)) / 1000;
      if (seconds >= 0) span.textContent = lasting(seconds);
    }
    for (const table of all("[data-dw-growing]")) grow(table, (now - Date.parse(table.dataset.dwGrowing)) / 1000);
  }
  /* What goes on reaches to the end of the axis. As that gets longer, everything else moves to its beginning. */
  function grow(table, seconds) {
    const factor = Number(table.dataset.dwSeconds) / seconds;
    if (!(factor < 1)) return;
    table.dataset.dwSeconds = seconds;
    for (const bar of all(".dw-bar", table)) {
      const x = factor * parseFloat(bar.getAttribute("x"));
      const width = bar.dataset.dwGrows === undefined ? factor * parseFloat(bar.getAttribute("width")) : 100 - x;
      bar.setAttribute("x", `${x}%`);
      bar.setAttribute("width", `${Math.max(width, 0.4)}%`);
    }
    for (const label of all("[data-dw-part]", table)) label.textContent = lasting(seconds * Number(label.dataset.dwPart));
  }
  setInterval(tick, 1000);

  function focusProblem() {
    const summary = document.querySelector("[data-dw-focus]");
    if (summary) { summary.removeAttribute("data-dw-focus"); summary.focus(); }
  }

  /* A question before what cannot be undone. Without this script the server asks it, on a page of its own. */
  function ask(question, detail, word) {
    const dialog = document.createElement("dialog");
    dialog.className = "dw dw-dialog";
    const title = document.createElement("h2");
    title.textContent = question;
    title.id = "dw-question";
    dialog.setAttribute("aria-labelledby", title.id);
    const text = document.createElement("p");
    text.textContent = detail;
    const end = document.createElement("div");
    end.className = "dw-dialog-end";
    const button = (label, value, look) => {
      const one = document.createElement("button");
      one.type = "button";
      one.textContent = label;
      one.className = `dw-button ${look}`;
      one.addEventListener("click", () => dialog.close(value));
      return one;
    };
    end.append(button("Back", "", ""), button(word, "yes", "dw-button--danger"));
    dialog.append(title, ...(detail ? [text] : []), end);
    document.body.append(dialog);
    dialog.showModal();
    return new Promise((resolve) => dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    }));
  }
  document.addEventListener("submit", (event) => {
    const form = event.target;
    const button = event.submitter || form;
    const question = button.dataset.dwConfirm;
    if (!question || form.dwConfirmed) { form.dwConfirmed = false; return; }
    event.preventDefault();
    event.stopImmediatePropagation();
    const count = all("input[name=run]:checked").filter((box) => box.form === form).length;
    if (button.dataset.dwSelected !== undefined && !count) return;
    const host = hostOf(form);
    if (host) host.dwAsks = true;
    ask(question.replace("{n}", String(count)).replace("{s}", count === 1 ? "" : "s"), button.dataset.dwDetail || "", button.dataset.dwWord || "Yes").then((yes) => {
      if (host) host.dwAsks = false;
      if (!yes) { release(); return; }
      let field = form.querySelector("input[name=confirmed]");
      if (!field) {
        field = document.createElement("input");
        field.type = "hidden";
        field.name = "confirmed";
        form.append(field);
      }
      field.value = "yes";
      form.dwConfirmed = true;
      form.requestSubmit(event.submitter);
    });
  }, true);

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-dw-copy], [data-dw-follow], [data-dw-clear], [data-dw-refresh]");
    if (!button) return;
    const { dwCopy, dwFollow, dwClear, dwRefresh } = button.dataset;
    const find = (id) => id && document.getElementById(id);
    if (dwCopy) copy(find(dwCopy), button);
    if (find(dwFollow)) { const log = find(dwFollow); log.scrollTop = log.scrollHeight; }
    if (find(dwClear)) forget(find(dwClear), 0);
    if (!dwRefresh) return;
    button.blur();
    for (const host of all("[data-dw-hold]")) {
      for (const box of all(":checked", host)) box.checked = false;
      fire(host, "dw-refresh");
    }
    countSelected();
  });
  async function copy(element, button) {
    if (!element) return;
    const text = element.dataset.dwText || element.textContent;
    try {
      await navigator.clipboard.writeText(text);
      const before = button.textContent;
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = before; }, 1500);
    } catch {  // no clipboard on plain http: at least it is selected
      getSelection().selectAllChildren(element);
    }
  }

  document.addEventListener("change", (event) => {
    const { target } = event;
    // "exact" only shows two more fields.
    if (target.matches("[data-dw-submit]") && target.value !== "exact") target.form.requestSubmit();
    if (target.matches("[data-dw-level]")) {
      const log = document.getElementById(target.dataset.dwLevel);
      if (log) { log.dataset.level = target.value; log.scrollTop = log.scrollHeight; }
    }
    if (target.matches("[data-dw-all]")) for (const box of all("input[name=run]")) box.checked = target.checked;
    countSelected();
  });
  function countSelected() {
    const count = all("input[name=run]:checked").length;
    for (const button of all("[data-dw-selected]")) button.disabled = !count;
    for (const place of all("[data-dw-count]")) place.textContent = count ? `${count} selected` : "";
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (event.target.closest("input, select, textarea, dialog[open], [contenteditable]")) return;
    const target = document.querySelector(`[data-dw-key="${CSS.escape(event.key)}"]`);
    const runs = document.querySelector("a[data-dw-key=r]");
    if (!target && event.key === "/" && runs) {
      event.preventDefault();
      location.assign(`${runs.href}#dw-search`);
    }
    if (!target) return;
    event.preventDefault();
    if (target.matches("dialog")) target.showModal();
    else if (target.matches("input")) target.focus();
    else target.click();
  });

  function begin() {
    if (location.hash === "#dw-search" && document.getElementById("dw-search")) document.getElementById("dw-search").focus();
    afterSwap();
  }
  /* Whoever said that the page has htmx itself, and forgot it, would see placeholders for ever. */
  window.addEventListener("load", () => {
    const fetching = all("[data-dw-component][hx-get]");
    /* As a module it has no name here, but marks what it has seen. */
    const has = window.htmx || fetching.some((host) => host.dataset.htmxPowered || host["htmx-internal-data"]);
    if (fetching.length && !has) {
      console.error("durably: there is no htmx on this page, so its components fetch nothing. Load htmx 2 or 4 before, " +
        "or have it come along: assets() without htmx=\"host\".");
    }
  });

  window.durablyWeb = Object.freeze({ resync });
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", begin);
  else begin();
})();
