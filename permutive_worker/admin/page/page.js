// Shows the worker's one document, which comes once a second. Text only ever goes into textContent.
"use strict";

const RETRY_MS = 3000;
const SILENCE_MS = 6000; // of a stream that should speak once a second
const MARKS = { good: "●", wait: "◆", bad: "▲" };

const element = (id) => document.getElementById(id);
const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const fine = new Intl.NumberFormat("en-US", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });

const rate = (number) => (number > 0 && number < 10 ? fine : whole).format(number);
const seconds = (from, to) => (Date.parse(to) - Date.parse(from)) / 1000;

const put = (id, text) => { if (element(id).textContent !== text) element(id).textContent = text; };
const show = (id, visible) => { element(id).hidden = !visible; };

// A length of time as a person says it.
function span(length) {
  const total = Math.max(0, Math.ceil(length));
  for (const [unit, size, smaller, smallerSize] of [
    ["d", 86400, "h", 3600], ["h", 3600, "min", 60], ["min", 60, "s", 1],
  ]) {
    if (total < size) continue;
    const rest = Math.floor((total % size) / smallerSize);
    return `${Math.floor(total / size)} ${unit}` + (rest ? ` ${rest} ${smaller}` : "");
  }
  return `${total} s`;
}

// With its date if it is of another day; a moment may be a text or a number of milliseconds.
const time = (at, now) => (Math.abs(new Date(at) - new Date(now)) > 64800000 ? day : clock).format(new Date(at));

// Rows of texts, or of [text, class]; the first of each is its heading. Rebuilt only when they differ.
function fill(body, rows, headed = true) {
  const content = JSON.stringify(rows);
  if (body.dataset.content === content) return;
  body.dataset.content = content;
  body.replaceChildren(...rows.map((cells) => {
    const row = document.createElement("tr");
    cells.forEach((cell, index) => {
      const [text, style] = Array.isArray(cell) ? cell : [cell, ""];
      const heading = body.tagName === "THEAD" ? "col" : headed && index === 0 ? "row" : "";
      const made = document.createElement(heading ? "th" : "td");
      if (heading) made.scope = heading;
      made.textContent = text;
      if (style) made.className = style;
      row.append(made);
    });
    return row;
  }));
}

let candidate = ""; // a sentence is shown when it stands for two looks, or changes the mood

function say(mood, text, when = "", advice = "") {
  const now = element("now");
  const unsteady = text !== candidate && mood === "good" && mood === now.dataset.mood;
  candidate = text;
  if (unsteady) return;
  now.dataset.mood = mood;
  put("mark", MARKS[mood]);
  put("sentence", text);
  put("when", when);
  put("advice", advice);
  show("advice", advice !== "");
}

function showSentence(told, now) {
  const { sentence } = told;
  const since = sentence.since ? `since ${time(sentence.since, now)}` : "";
  const when = sentence.until ? `for another ${span(seconds(now, sentence.until))}` : since;
  say(sentence.mood, sentence.text, when, sentence.advice ?? "");
  const mark = sentence.mood === "good" ? "" : `${MARKS[sentence.mood]} `;
  document.title = `${mark}${told.share === null ? "" : `${percent(told.share)} · `}permutive-worker`;
}

// Rounded down: 100 % is said when all is done, not before.
const percent = (share) => (share < 1 ? `${fine.format(Math.floor(share * 1000) / 10)} %` : "100 %");

function showDone(told) {
  const { share, eta_seconds: eta, progress, conservation } = told;
  show("far", share !== null);
  if (share !== null) {
    element("bar").value = share;
    const moving = told.state === "running" && told.sentence.mood !== "bad";
    const left = moving && eta ? ` · ${span(eta)} left, until ${time(Date.parse(told.now) + eta * 1000, told.now)}` : "";
    const about = conservation.read < progress.total ? "about " : ""; // until it was read to its end
    put("far-told", `${percent(share)} of ${about}${whole.format(progress.total)} lines${left}`);
  }
  put("delivered", whole.format(conservation.delivered));
  put("speed", told.state === "ended" ? "–" : rate(told.jobs_per_second));
  put("dead", whole.format(conservation.dead_lettered));
  element("dead-tile").className = conservation.dead_lettered ? "some" : "";
  put("pending", whole.format(conservation.pending));
  show("lag-tile", told.source_lag !== null);
  put("lag", whole.format(told.source_lag ?? 0));
}

function path(numbers, most) {
  const step = 180 / Math.max(1, numbers.length - 1);
  const points = numbers.map((number, at) => `${(at * step).toFixed(2)} ${(100 - (100 * number) / most).toFixed(2)}`);
  return `M${points.join("L")}`;
}

// The least round number that is not below.
function round(number) {
  const size = 10 ** Math.floor(Math.log10(number));
  return [1, 1.5, 2, 3, 4, 6, 8, 10].map((times) => times * size).find((nice) => nice >= number);
}

function showChart({ throughput, now, state }) {
  const perSecond = (counts) => counts.map((count) => count / throughput.step_seconds);
  const delivered = perSecond(throughput.delivered);
  if (delivered.length < 2) {
    for (const id of ["line", "area", "failed"]) element(id).setAttribute("d", "");
    put("chart-told", state === "ended" ? "It ended too soon for a chart." : "The chart begins after ten seconds.");
    return;
  }
  const dead = perSecond(throughput.dead_lettered);
  const most = round(Math.max(...delivered, ...dead, 1));
  const line = path(delivered, most);
  element("line").setAttribute("d", line);
  element("area").setAttribute("d", `${line}L180 100L0 100Z`);
  const failing = Math.max(...dead) > most / 50; // fewer are a line on the ground
  element("failed").setAttribute("d", failing ? path(dead, most) : "");
  const length = delivered.length * throughput.step_seconds;
  put("most", `${rate(most)} a second`);
  put("first", time(Date.parse(throughput.until) - length * 1000, now));
  put("last", time(throughput.until, now));
  const also = failing ? ` Dashed: dead letters, lately ${rate(dead.at(-1))} a second.` : "";
  put("chart-told", `The last ${span(length)}: lately ${rate(delivered.at(-1))} a second, at most ${rate(Math.max(...delivered))}.${also}`);
}

function showLanes({ lanes: all, now, held, state }) {
  const worry = (lane) => (lane.halts.length || lane.breaker !== "closed" ? 0 : lane.paused_until ? 1 : 2);
  const lanes = [...all].sort((one, other) => worry(one) - worry(other)); // on a phone the first are in sight
  const several = lanes.length > 1;
  element("limits").className = several ? "several" : "";
  fill(element("lanes").tHead, several ? [["Workspace", ...lanes.map((lane) => lane.workspace)]] : []);
  const allowed = (lane) => (lane.rate_effective ? `${rate(lane.rate_effective)} a second` : "no limit");
  const ceiling = (lane) => (lane.rate_ceiling ? `${rate(lane.rate_ceiling)} a second` : "none was set");
  const key = (lane) => {
    if (!lane.halts.length) return "not refused";
    const { status, since } = lane.halts[0];
    return [`▲ ${[401, 403].includes(status) ? "" : "path "}refused (${status}) since ${time(since, now)}`, "bad"];
  };
  const pause = (lane) => (lane.paused_until && state !== "ended"
    ? `${lane.pause_reason === "halt" ? "next probe in" : "for another"} ${span(seconds(now, lane.paused_until))}` : "none");
  const breaker = (lane) => (lane.breaker === "closed" ? "closed" : [`▲ ${lane.breaker.replace("_", " ")}`, "bad"]);
  fill(element("lanes").tBodies[0], [
    ["Rate in force", ...lanes.map(allowed)],
    ["Ceiling", ...lanes.map(ceiling)],
    ["Pause", ...lanes.map(pause)],
    ["Places in flight", ...lanes.map((lane) => `${lane.in_flight} of ${lane.max_in_flight}`)],
    ["Ready", ...lanes.map((lane) => whole.format(lane.ready + (several ? 0 : held)))],
    ["Backing off", ...lanes.map((lane) => whole.format(lane.backoff))],
    ["Behind their user", ...lanes.map((lane) => whole.format(lane.blocked))],
    ["Breaker", ...lanes.map(breaker)],
    ["Key", ...lanes.map(key)],
  ]);
}

function showAnswers({ latency, answers, counts }) {
  for (const name of ["p50", "p95", "p99"]) {
    const value = latency[name];
    put(name, value === null ? "–" : value < 1 ? `${whole.format(value * 1000)} ms` : `${fine.format(value)} s`);
  }
  put("latency-told", latency.answers
    ? `Of ${whole.format(latency.answers)} answers in the last minute; estimates from the buckets of a histogram.`
    : "No answer in the last minute.");
  const missing = Object.entries(counts.request_errors).filter(([, number]) => number);
  fill(element("answers"), [
    ...Object.entries(answers).map(([code, number]) => [code, whole.format(number)]),
    ...missing.map(([kind, number]) => [`none: ${kind}`, whole.format(number)]),
  ]);
}

// The line number is at the end; the whole is in /status.
const ending = (position) => (position.length > 40 ? `…${position.slice(-39)}` : position);

function showLetters({ counts, last_dead_letters: letters, now }) {
  const reasons = Object.entries(counts.dead_lettered).filter(([, number]) => number);
  show("no-letters", !reasons.length);
  show("reasons", reasons.length > 0);
  show("letters", letters.length > 0);
  fill(element("reasons").tBodies[0], reasons.map(([reason, number]) => [reason, whole.format(number)]));
  fill(element("letters").tBodies[0], [...letters].reverse().map(({ at, reason, status, code, position }) => [
    time(at, now), reason, status === null ? "none" : `${status}${code === null ? "" : ` · ${code}`}`, ending(position),
  ]), false);
}

function showLaw({ conservation: law }) {
  fill(element("law"), [
    ["Read", law.read], ["= delivered", law.delivered], ["+ dead letters", law.dead_lettered],
    ["+ skipped", law.skipped], ["+ returned", law.returned], ["+ pending", law.pending],
  ].map(([name, number]) => [name, whole.format(number)]));
  put("holds", law.holds ? "✓ The sum is right" : "✗ The sum is wrong: please report it");
  element("holds").className = law.holds ? "good" : "bad";
}

let last = null; // the latest document
let silence; // a timer

function render(told) {
  last = told;
  document.body.classList.remove("stale");
  show("all", true);
  put("run", `run ${told.run_id} · ${told.counts.source} · ${span(told.elapsed_seconds)}`);
  showSentence(told, told.now);
  showDone(told);
  showChart(told);
  showLanes(told);
  showAnswers(told);
  showLetters(told);
  showLaw(told);
  put("heard", `As of ${time(told.now, told.now)}, your time.`);
}

function lost() {
  if (last?.state === "ended") return; // it said so itself; a new one may come
  document.body.classList.add("stale");
  document.title = "▲ permutive-worker";
  say("bad", "Connection lost, trying again", "", last ? `What is below is from ${time(last.now, last.now)}.` : "");
}

function connect() {
  const stream = new EventSource("events");
  const again = () => {
    stream.close();
    clearTimeout(silence);
    lost();
    setTimeout(connect, RETRY_MS);
  };
  const listen = () => {
    clearTimeout(silence);
    silence = setTimeout(again, SILENCE_MS);
  };
  stream.onmessage = (event) => {
    listen();
    render(JSON.parse(event.data));
  };
  stream.onerror = again; // a browser gives up after a 503; we do not
  listen();
}

connect();
