// The work, off the page's thread: the CPU reference computes for seconds.
import init, { Session } from "./wgquant_browser.js";

const say = (kind, data) => postMessage({ kind, data });

async function fetched(name) {
  const answer = await fetch(name);
  if (!answer.ok) throw new Error(`${name}: ${answer.status} ${answer.statusText}`);
  return new Uint8Array(await answer.arrayBuffer());
}

// What the browser tells of its adapter beyond wgpu's report.
async function browser() {
  const adapter = await navigator.gpu?.requestAdapter();
  if (!adapter) throw new Error("This browser offers no WebGPU adapter. Chrome and Edge 113, Safari 26 and Firefox 141 or later do, over https or on localhost.");
  const { vendor, architecture, device, description } = adapter.info;
  return { vendor, architecture, device, description, features: [...adapter.features].sort(), user_agent: navigator.userAgent };
}

async function work() {
  const started = performance.now();
  const about = await browser();
  await init({ module_or_path: new URL("wgquant_browser_bg.wasm", import.meta.url) });
  const session = await Session.open(JSON.stringify(about));
  say("adapter", JSON.parse(session.adapter()));
  say("kernels", JSON.parse(session.kernels()));
  await session.check((text) => say("case", JSON.parse(text)));
  const [config, weights, tokenizer, windows] = await Promise.all(
    ["config.json", "model.safetensors", "tokenizer.json", "val_ids_u16.npy"].map(fetched));
  await session.measure(new TextDecoder().decode(config), weights, tokenizer, windows, (text) => {
    const event = JSON.parse(text);
    if (event.model) say("model", event.model); else say("step", event.step);
  });
  const seconds = (performance.now() - started) / 1000;
  say("done", { text: session.result(seconds), seconds });
}

work().catch((error) => say("error", String(error?.message ?? error)));
