// The work, off the page's thread: the CPU reference computes for seconds.
import init, { Session } from "./wgquant_browser.js";

const say = (kind, data) => postMessage({ kind, data });
const words = (error) => String(error?.message ?? error);

async function fetched(name) {
  const answer = await fetch(name);
  if (!answer.ok) throw new Error(`${name}: ${answer.status} ${answer.statusText}`);
  return new Uint8Array(await answer.arrayBuffer());
}

// Name and version; a full version where the browser tells it.
async function browserName() {
  const brands = (await navigator.userAgentData?.getHighEntropyValues(["fullVersionList"]))?.fullVersionList ?? [];
  const brand = brands.find((b) => !/not.?a.?brand/i.test(b.brand));
  if (brand) return `${brand.brand} ${brand.version}`;
  return /(?:Firefox|Edg|Chrome|Version)\/[\d.]+/.exec(navigator.userAgent)?.[0].replace("/", " ") ?? navigator.userAgent;
}

// What the browser tells of itself and its adapter beyond wgpu's report.
async function about() {
  const adapter = await navigator.gpu?.requestAdapter();
  // `info` came to Chrome later than WebGPU.
  if (!adapter?.info) throw new Error(`This browser offers no WebGPU adapter${adapter ? " that tells of itself" : ""}. Chrome and Edge 127, Safari 26 and Firefox 141 or later do, over https or on localhost.`);
  const { vendor, architecture, device, description } = adapter.info, limits = {};
  for (const name in adapter.limits) if (typeof adapter.limits[name] === "number") limits[name] = adapter.limits[name];
  return {
    browser: {
      name: await browserName(), user_agent: navigator.userAgent, vendor, architecture, device, description,
      features: [...adapter.features].sort(), limits,
    },
    platform: navigator.userAgentData?.platform ?? navigator.platform,
    time: new Date().toISOString().replace(/\.\d+/, ""),
  };
}

async function work() {
  const started = performance.now();
  const known = await about();
  await init({ module_or_path: new URL("wgquant_browser_bg.wasm", import.meta.url) });
  const session = await Session.open(JSON.stringify(known));
  say("head", JSON.parse(session.head()));
  say("kernels", JSON.parse(session.kernels()));
  try {
    await session.check((text) => say("case", JSON.parse(text)));
    const [config, weights, tokenizer, windows] = await Promise.all(
      ["config.json", "model.safetensors", "tokenizer.json", "val_ids_u16.npy"].map(fetched));
    await session.measure(new TextDecoder().decode(config), weights, tokenizer, windows, (text) => {
      const event = JSON.parse(text);
      if (event.model) say("model", event.model); else say("step", event.step);
    });
  } catch (error) {
    // That the device was lost is told after what failed by it.
    await new Promise((resolve) => setTimeout(resolve, 100));
    throw new Error([session.lost(), words(error)].filter(Boolean).join("; "));
  }
  const seconds = (performance.now() - started) / 1000;
  say("done", { text: session.result(seconds), seconds });
}

work().catch((error) => say("error", words(error)));
