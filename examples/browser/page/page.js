// Shows what the worker reports. With ?show=FILE it shows a result file instead, from this or another machine;
// with ?report the result is also posted to /result, for the headless test.
const $ = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);
const reporting = query.has("report");
const MODEL_STEPS = 23; // two schemes: nine blocks, comparison, text, each; the original's text

let kept = null; // the result as it comes, should the work not reach its end
let total = 0, done = 0, passed = 0, skipped = 0, known = 0, steps = 0, failed = false;
const rows = new Map();

function element(tag, text, name) {
  const e = document.createElement(tag);
  if (text !== undefined) e.textContent = text;
  if (name) e.className = name;
  return e;
}

function status(text) { $("status").textContent = text; }

function progress() {
  // Kernels are three quarters of the bar, the model the rest.
  const share = total ? 0.75 * done / total + 0.25 * Math.min(1, steps / MODEL_STEPS) : 0;
  $("fill").style.width = `${100 * share}%`;
}

function bytes(n) {
  if (n >= 2 ** 30) return `${+(n / 2 ** 30).toFixed(1)} GiB`;
  return n >= 2 ** 20 ? `${+(n / 2 ** 20).toFixed(2)} MiB` : `${+(n / 1024).toFixed(1)} KiB`;
}

function seconds(s) { return s < 1 ? `${Math.round(1000 * s)} ms` : `${s.toFixed(1)} s`; }

const handlers = {
  head(file) {
    kept = { ...file, cases: [], models: [] };
    const a = file.adapter, b = file.browser;
    const items = {
      Adapter: a.name, Vendor: b ? b.vendor || "not told" : `0x${a.vendor.toString(16)}`,
      ...(b && { Architecture: b.architecture || "not told" }), Backend: a.backend,
      [b ? "Browser" : "Driver"]: `${a.driver} ${a.driver_info}`.trim(), Platform: file.platform,
      "Largest binding": bytes(a.max_binding_bytes), "Workgroup memory": bytes(a.max_workgroup_bytes),
      "Invocations a workgroup": a.max_invocations, "Storage buffers a shader": a.max_storage_buffers,
      "f16 in shaders": a.caps.f16 ? "yes" : "no", Subgroups: a.caps.subgroups ? a.caps.subgroups.join("–") : "no",
      Timestamps: a.caps.timestamps ? "yes" : "no",
    };
    for (const [name, value] of Object.entries(items)) {
      const pair = element("div");
      pair.append(element("dt", name), element("dd", value));
      $("adapter").append(pair);
    }
  },
  kernels(list) {
    for (const { kernel, cases } of list) {
      const row = element("tr"), squares = element("td");
      for (let i = 0; i < cases; i++) squares.append(element("i"));
      row.append(element("td", kernel), squares, element("td", `0 / ${cases}`), element("td", "–"), element("td", "–"));
      $("kernels").tBodies[0].append(row);
      rows.set(kernel, { cells: row.cells, cases, done: 0, passed: 0, skipped: 0, nmse: 0, ms: 0 });
      total += cases;
    }
  },
  case(c) {
    kept.cases.push(c);
    const row = rows.get(c.kernel), square = row.cells[1].children[row.done];
    row.done++; done++;
    row.ms += c.ms;
    if (c.status === "Skip") { row.skipped++; skipped++; }
    else if (c.status === "Pass") { row.passed++; passed++; }
    else {
      if (c.status === "ExpectedFail") known++;
      else failed = true;
      $("failures").append(element("li", `${c.kernel}/${c.case} [${c.variant}] ${c.status}: ${c.message ?? ""}`));
    }
    row.nmse = Math.max(row.nmse, c.nmse ?? 0);
    square.className = { Pass: "pass", Skip: "skip", ExpectedFail: "known" }[c.status] ?? "fail";
    square.title = [`${c.case} (${c.params})`, c.variant, c.status, c.message].filter(Boolean).join(" · ");
    row.cells[2].textContent = `${row.passed} / ${row.cases - row.skipped}`;
    row.cells[3].textContent = row.nmse === 0 ? "exact" : row.nmse.toExponential(1);
    row.cells[4].textContent = seconds(row.ms / 1000);
    $("tally").textContent = `${passed} of ${total - skipped} cases passed` + (known ? `, ${known} fail as known` : "") + (skipped ? `, ${skipped} of variants this adapter lacks skipped` : "");
    status(`Checking ${c.kernel}: case ${done} of ${total}`);
    progress();
  },
  step(text) { steps++; status(text); progress(); },
  model(m) {
    kept.models.push(m);
    const body = $("models").tBodies[0];
    body.querySelector(".wait")?.remove();
    const row = element("tr");
    const cells = [m.name, bytes(m.weight_bytes), m.perplexity.toFixed(3), m.perplexity_ratio.toFixed(4),
      m.mean_kl === 0 ? "0" : m.mean_kl.toPrecision(3), `${(100 * m.top1_agreement).toFixed(1)} %`, m.tokens_per_second.toFixed(1)];
    row.append(...cells.map((text) => element("td", text)));
    body.append(row);
    $("model-note").textContent = `${m.tokens} held-out tokens, KL in nats a token to the original`;
    const line = element("p");
    line.append(element("b", m.name), document.createTextNode(m.prompt), element("span", m.text.replace(/\s+/g, " "), "soft"));
    $("texts").append(line);
  },
  done({ text, seconds: time }) {
    $("fill").style.width = "100%";
    $("fill").className = failed ? "bad" : "good";
    const took = seconds(time);
    const ran = total - skipped, all = known ? `${passed} of ${ran} cases agree with the CPU reference, ${known} fail as known there`
      : `all ${ran} cases agree with the CPU reference`;
    status(`Done in ${took}: ${failed ? `${ran - known - passed} of ${ran} cases do not agree with the reference` : all}.`);
    offer(text);
    if (reporting) post(text);
  },
  error(message) {
    $("fill").className = "bad";
    status(message);
    if (kept?.cases.length) {
      status(`${message} (What was done before can be downloaded.)`);
      offer(JSON.stringify({ ...kept, seconds: performance.now() / 1000 }));
    }
    if (reporting) post(JSON.stringify({ error: message }));
  },
};

function offer(text) {
  $("download").disabled = false;
  $("download").onclick = () => {
    const link = element("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    link.download = "wgquant-test-ops.json";
    link.click();
    // Some browsers begin to read only later.
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  };
}

async function post(body) {
  try {
    const answer = await fetch("result", { method: "POST", body });
    if (!answer.ok) throw new Error(`${answer.status} ${answer.statusText}`);
  } catch (error) {
    status(`${$("status").textContent} (The result could not be posted: ${error.message})`);
  }
}

function run() {
  const worker = new Worker("worker.js", { type: "module" });
  worker.onmessage = ({ data }) => handlers[data.kind](data.data);
  worker.onerror = (event) => handlers.error(`The worker failed: ${event.message || "see the console"}`);
}

async function show(name) {
  const text = await (await fetch(name)).text(), file = JSON.parse(text);
  handlers.head(file);
  const counts = new Map();
  for (const c of file.cases) counts.set(c.kernel, (counts.get(c.kernel) ?? 0) + 1);
  handlers.kernels([...counts].map(([kernel, cases]) => ({ kernel, cases })));
  file.cases.forEach(handlers.case);
  (file.models ?? []).forEach(handlers.model);
  handlers.done({ text, seconds: file.seconds });
}

if (query.has("show")) show(query.get("show")).catch((e) => handlers.error(`${query.get("show")}: ${e.message}`));
else run();
