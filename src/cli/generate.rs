//! `wgquant generate`.

use std::path::PathBuf;
use std::{fs, io};

use anyhow::{Context, Result, anyhow, bail};
use clap::{ArgGroup, Args};
use tokenizers::Tokenizer;
use wgquant::calibrate::BOM;
use wgquant::model::ModelFile;
use wgquant::runtime::{Engine, Next};

use super::args::{GpuArgs, model};
use super::draws::DrawArgs;
use super::generation::{Generation, Generations, encode, ended, generate, generate_each, pace};
use super::{Verdict, load, out};

/// Continue a prompt; text is printed as it comes, of several prompts at the end
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("text").required(true).multiple(true).args(["prompt", "file"])))]
pub(super) struct Generate {
    /// Model directory
    #[arg(value_parser = model())]
    model: PathBuf,
    /// Text to continue; several with several -p, which then make their tokens together
    #[arg(short, long, allow_hyphen_values = true)]
    prompt: Vec<String>,
    /// A text to continue from a file, without its last line break; - reads standard input. Several as with -p, after those
    #[arg(short, long, value_name = "FILE")]
    file: Vec<PathBuf>,
    /// New tokens at most
    #[arg(short = 'n', long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    tokens: u32,
    #[command(flatten)]
    draws: DrawArgs,
    #[command(flatten)]
    state: load::StateArgs,
    #[command(flatten)]
    gpu: GpuArgs,
    /// Print JSON, at the end
    #[arg(long)]
    json: bool,
}

impl Generate {
    pub(super) fn run(&self) -> Result<Verdict> {
        let next = self.draws.next()?;
        self.state.check()?;
        let prompts = self.prompts()?;
        let file = ModelFile::open(&self.model)?;
        let tokenizer = load::tokenizer(&self.model)?
            .ok_or_else(|| anyhow!("{}: holds no tokenizer.json; copy the model's own there", self.model.display()))?;
        let ids = prompts.iter().map(|p| encode(&tokenizer, &file, p)).collect::<Result<Vec<_>>>()?;
        let device = self.gpu.open()?;
        let settings = load::Settings { sequences: ids.len(), ..self.state.settings() };
        let longest = ids.iter().map(Vec::len).max().unwrap_or(0);
        let mut engine = load::engine(&self.gpu, &device, &file, longest + self.tokens as usize, settings)?;
        engine.seed(self.draws.seed())?;
        let ([prompt], [ids]) = (&prompts[..], &ids[..]) else {
            return self.several(&mut engine, &tokenizer, (&prompts, &ids), next);
        };
        let print = |piece: &str| if self.json { Ok(()) } else { out::text(piece) };
        print(prompt)?;
        let made = generate(&mut engine, &tokenizer, prompt, ids, self.tokens as usize, next, print)?;
        if self.json {
            out::report(&made, true, |_| String::new())?;
        } else {
            out::text("\n")?;
            let Generation { tokens, prompt_tokens, device, .. } = &made;
            let pace = pace(made.tokens_per_second, made.seconds_to_first_token);
            let (adapter, ended) = (&device.adapter, ended(made.ended));
            out::say(format_args!("{tokens} tokens after {prompt_tokens}{pace}, on {adapter}{ended}"));
        }
        Ok(Verdict::Passed)
    }

    /// Several prompts, whose tokens are made together.
    fn several(
        &self,
        engine: &mut Engine,
        tokenizer: &Tokenizer,
        (prompts, ids): (&[String], &[Vec<u32>]),
        next: Next,
    ) -> Result<Verdict> {
        let made = generate_each(engine, tokenizer, prompts, ids, self.tokens as usize, next)?;
        let texts = |made: &Generations| made.sequences.iter().map(|s| format!("{}{}\n\n", s.prompt, s.text)).collect();
        out::report(&made, self.json, texts)?;
        if !self.json {
            let Generations { sequences, device, .. } = &made;
            let (count, tokens) = (sequences.len(), sequences.iter().map(|s| s.tokens).sum::<usize>());
            let speed = made.tokens_per_second.map(|speed| format!(", {speed:.1} tokens/s together"));
            out::say(format_args!("{tokens} tokens of {count}{}, on {}", speed.unwrap_or_default(), device.adapter));
        }
        Ok(Verdict::Passed)
    }

    /// Those of the command line, then those of files.
    fn prompts(&self) -> Result<Vec<String>> {
        let stdin = |path: &PathBuf| path.as_os_str() == "-";
        if self.file.iter().filter(|path| stdin(path)).count() > 1 {
            bail!("--file: standard input (-) can be read once only");
        }
        let read = |path: &PathBuf| {
            let text = if stdin(path) { io::read_to_string(io::stdin()) } else { fs::read_to_string(path) };
            let text = text.with_context(|| format!("--file {}", path.display()))?;
            let text = text.strip_prefix(BOM).unwrap_or(&text);
            Ok(text.strip_suffix('\n').map_or(text, |t| t.strip_suffix('\r').unwrap_or(t)).to_owned())
        };
        let files = self.file.iter().map(read).collect::<Result<Vec<_>>>()?;
        Ok(self.prompt.iter().cloned().chain(files).collect())
    }
}
