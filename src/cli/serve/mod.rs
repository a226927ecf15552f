//! `wgquant serve`: a model over HTTP, in OpenAI's words.

mod api;
mod choice;
mod http;
mod reply;
mod request;
mod shape;
mod stops;
mod token;
mod worker;

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use pollster::block_on;
use serde::Serialize;
use tokio::sync::Semaphore;
use wgquant::calibrate::ChatTemplate;
use wgquant::gpu::Device;
use wgquant::model::{ModelFile, ModelSource};
use wgquant::report::DeviceInfo;
use wgquant::serve::{Job, Scheduler};

use self::api::Api;
use self::worker::{Status, Worker};
use super::args::{GpuArgs, model};
use super::{Verdict, load, out};

/// Requests that are read at a time.
const READERS: usize = 4;

/// Serve a model over HTTP: completions and chats as OpenAI's API has them, with log-probabilities of prompts
///
/// POST /v1/completions (`echo` with `logprobs` gives those of the prompt, by which lm-evaluation-harness asks), POST
/// /v1/chat/completions (where the model has a chat template), GET /v1/models, /health and /metrics. Sequences decode together; a prompt
/// is read while others go on, from where a prompt or an answer before it ended, if it begins with that. Where a device is lost, requests end with 503 until the model is loaded anew.
#[derive(Debug, Args)]
pub(super) struct Serve {
    /// Model directory
    #[arg(value_parser = model())]
    model: PathBuf,
    /// Address to listen on; others than this machine's own can be reached from outside
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1", env = "WGQUANT_HOST")]
    host: IpAddr,
    /// Port to listen on; 0 for any that is free
    #[arg(long, value_name = "PORT", default_value_t = 8080, env = "WGQUANT_PORT")]
    port: u16,
    /// Answer only requests with this key (`Authorization: Bearer KEY`), but for /health
    #[arg(long, value_name = "KEY", env = "WGQUANT_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
    /// Name of the model in answers [default: its directory's]
    #[arg(long, value_name = "NAME")]
    alias: Option<String>,
    /// Tokens of a sequence at most, prompt and answer
    #[arg(short, long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..))]
    context: u32,
    /// Sequences that are continued together; others wait
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=256))]
    parallel: u32,
    /// Tokens of a prompt that are read at a time, beside tokens of others; more are faster and take more memory
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    ubatch_size: u32,
    /// Prompts and answers whose states are kept, two for a chat: what begins with one goes on from there, and is not read anew. Each takes
    /// as much memory as a sequence of `--parallel`
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(..=256))]
    prompt_cache: u32,
    /// Answer the first requests before everything that they run is compiled
    #[arg(long)]
    no_warmup: bool,
    #[command(flatten)]
    state: load::StateArgs,
    #[command(flatten)]
    gpu: GpuArgs,
    /// Print the address and what is served as JSON, once requests are answered
    #[arg(long)]
    json: bool,
}

/// What is served, and where.
#[derive(Serialize)]
struct Serving<'a> {
    url: String,
    model: &'a str,
    context: usize,
    parallel: usize,
    #[serde(flatten)]
    device: DeviceInfo,
}

impl Serve {
    pub(super) fn run(&self) -> Result<Verdict> {
        self.state.check()?;
        if self.api_key.as_ref().is_some_and(String::is_empty) {
            bail!("--api-key: is empty; leave it out to answer all requests");
        }
        let file = ModelFile::open(&self.model)?;
        let tokenizer = load::tokenizer(&self.model)?
            .ok_or_else(|| anyhow!("{}: holds no tokenizer.json; copy the model's own there", self.model.display()))?;
        let address = SocketAddr::new(self.host, self.port);
        // Before the model is loaded, which takes a while.
        let listener = TcpListener::bind(address).with_context(|| format!("--host and --port: {address}"))?;
        let url = format!("http://{}", listener.local_addr().context("the address listened on")?);
        let device = self.gpu.open()?;
        let info = DeviceInfo::from(&device);
        let status = Arc::new(Status::default());
        let config = file.config().clone();
        let model = self.alias.clone().unwrap_or_else(|| file.checkpoint().name());
        let jobs = self.worker(file, &device, status.clone())?;
        let context = self.context as usize;
        let serving = Serving { url, model: &model, context, parallel: self.parallel as usize, device: info };
        if self.json {
            out::text(&format!("{}\n", serde_json::to_string(&serving)?))?;
        }
        let adapter = &serving.device.adapter;
        out::say(format_args!("{model} at {}/v1, on {adapter}; Ctrl-C ends it", serving.url));
        let most_bytes = request::most_bytes(&tokenizer, context);
        let api = Api {
            model: model.clone(),
            config,
            dir: self.model.clone(),
            // The program's until its end.
            tokenizer: Box::leak(Box::new(tokenizer)),
            template: ChatTemplate::beside(&self.model),
            context,
            most_bytes,
            readers: Semaphore::new(READERS),
            status,
            jobs,
            key: self.api_key.clone(),
        };
        http::serve(listener, api).context("serving")?;
        Ok(Verdict::Passed)
    }

    /// Runs the model in a thread of its own, and loads it anew where its device is lost.
    fn worker(&self, file: ModelFile, device: &Device, status: Arc<Status>) -> Result<flume::Sender<Job>> {
        let step = Some(self.ubatch_size as usize);
        let (sequences, kept) = (self.parallel as usize, self.prompt_cache as usize);
        let settings = load::Settings { sequences, kept, step, ..self.state.settings() };
        let (gpu, context, warm) = (self.gpu.clone(), self.context as usize, !self.no_warmup);
        let load = move |device: &Device| {
            let mut scheduler = Scheduler::new(load::engine(&gpu, device, &file, context, settings)?);
            // Nothing is compiled for the reference.
            if warm && device.gpu().is_some() {
                block_on(scheduler.warm_up())?;
            }
            Ok(scheduler)
        };
        let (scheduler, gpu) = (load(device)?, self.gpu.clone());
        Worker { status, load: move || load(&gpu.open()?) }.start(scheduler)
    }
}
