//! `wgquant eval`.

use std::path::PathBuf;

use anyhow::{Result, anyhow, bail};
use clap::Args;
use pollster::block_on;
use wgquant::calibrate::TextEncoder;
use wgquant::eval::{Examples, Sample, Task, TaskResult, evaluate};
use wgquant::gpu::Device;
use wgquant::model::{ModelFile, ModelSource};
use wgquant::report::{DeviceInfo, EvalReport, ModelInfo, terminal};
use wgquant::runtime::Engine;

use super::args::{GpuArgs, check_fraction, model};
use super::progress::Bar;
use super::{Verdict, load, out};

/// Answer questions in the schemas of lm-evaluation-harness, alone or beside a base model
#[derive(Debug, Args)]
pub(super) struct Eval {
    /// Model directory
    #[arg(value_parser = model())]
    model: PathBuf,
    /// Questions (.jsonl) with the fields of ARC, HellaSwag, LAMBADA, OpenBookQA, PIQA or WinoGrande, or `query`, `choices` and `gold`;
    /// may be given several times
    #[arg(short, long, value_name = "FILE", required = true)]
    file: Vec<PathBuf>,
    /// Ask this model, too: differences of accuracy with their paired errors, and how often both say the same
    #[arg(long, value_name = "MODEL", value_parser = model())]
    base: Option<PathBuf>,
    /// Ask only the first N questions of each file
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Show the model N questions with their answers before each, chosen and written as in lm-evaluation-harness [default: none]
    #[arg(long, visible_alias = "num_fewshot", value_name = "N")]
    num_fewshot: Option<u32>,
    /// Questions to choose those from, of the same kind; several for several --file, in their order [default: those that are asked]
    #[arg(long, value_name = "FILE", requires = "num_fewshot")]
    fewshot_file: Vec<PathBuf>,
    /// Seed of that choice
    #[arg(long, value_name = "N", requires = "num_fewshot", default_value_t = Examples::NONE.seed)]
    fewshot_seed: u64,
    /// Write what was said to each question, a line of JSON each, to this file
    #[arg(long, value_name = "FILE")]
    log_samples: Option<PathBuf>,
    /// Fail (exit code 1) when the accuracy of a task is more than this fraction below the base's, such as 0.01
    #[arg(long, value_name = "F", requires = "base", allow_negative_numbers = true)]
    max_acc_drop: Option<f64>,
    #[command(flatten)]
    run: load::MeasureArgs,
    #[command(flatten)]
    gpu: GpuArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Eval {
    pub(super) fn run(&self) -> Result<Verdict> {
        check_fraction("--max-acc-drop", self.max_acc_drop)?;
        self.run.check()?;
        if let Some(file) = &self.log_samples {
            out::check_file("--log-samples", file)?;
            if let Some(asked) = self.file.iter().find(|asked| out::place(asked) == out::place(file)) {
                bail!("--log-samples {}: is the file of questions {}; name another", file.display(), asked.display());
            }
        }
        let places: Vec<PathBuf> = self.file.iter().map(|file| out::place(file)).collect();
        if let Some(i) = (1..places.len()).find(|i| places[..*i].contains(&places[*i])) {
            bail!("--file {}: is given twice", self.file[i].display());
        }
        if self.fewshot_file.len() > 1 && self.fewshot_file.len() != self.file.len() {
            let (have, asked) = (self.fewshot_file.len(), self.file.len());
            bail!("--fewshot-file: {have} for {asked} files of questions; name one for all or one for each");
        }
        let model = ModelFile::open(&self.model)?;
        let base = self.base.as_ref().map(|dir| ModelFile::open(dir)).transpose()?;
        let mut tasks = self.tasks(&model, base.as_ref())?;
        Task::tell_apart(&mut tasks, &places);
        let device = self.gpu.open()?;
        let (results, samples) = self.ask(&device, &model, base.as_ref(), &tasks)?;
        self.check(&samples);
        if let Some(file) = &self.log_samples {
            let lines: Result<String, _> = samples.iter().map(|s| Ok(serde_json::to_string(s)? + "\n")).collect();
            out::save(file, &lines.map_err(|e: serde_json::Error| anyhow!(e))?)?;
        }
        let report = EvalReport {
            model: ModelInfo::from(&model),
            base_model: base.as_ref().map(ModelInfo::from),
            device: DeviceInfo::from(&device),
            tasks: results,
        };
        out::report(&report, self.json, terminal::evaluated)?;
        Ok(self.gate(&report.tasks))
    }

    /// Questions by the model's tokenizer, which is the base's as well.
    fn tasks(&self, model: &ModelFile, base: Option<&ModelFile>) -> Result<Vec<Task>> {
        if let Some(ids) = self.file.iter().chain(&self.fewshot_file).find(|file| load::is_ids(file)) {
            bail!("{}: holds token ids, and questions are JSON lines (.jsonl)", ids.display());
        }
        let Some(tokenizer) = load::tokenizer(&self.model)? else {
            bail!("{}: has no tokenizer.json, and questions are text", self.model.display());
        };
        let encoder = TextEncoder { tokenizer, template: None };
        let read = |(i, file): (usize, &PathBuf)| {
            let examples = Examples {
                count: self.num_fewshot.unwrap_or(0) as usize,
                file: self.fewshot_file.get(i).or(self.fewshot_file.first()).cloned(),
                seed: self.fewshot_seed,
            };
            let task = Task::read(file, &encoder, model.config().bos, self.limit.map(|n| n as usize), &examples)?;
            for source in std::iter::once(model).chain(base) {
                load::check_ids(file, &self.model, source, task.beyond(source.config().vocab_size))?;
            }
            Ok(task)
        };
        self.file.iter().enumerate().map(read).collect()
    }

    fn ask(
        &self,
        device: &Device,
        model: &ModelFile,
        base: Option<&ModelFile>,
        tasks: &[Task],
    ) -> Result<(Vec<TaskResult>, Vec<Sample>)> {
        let context = tasks.iter().map(Task::longest).max().unwrap_or(0);
        // A context is kept beside the sequence that goes on from it.
        let settings = load::Settings { sequences: 2, ..self.run.settings() };
        let engine = |file, settings| load::engine(&self.gpu, device, file, context, settings);
        let mut model = engine(model, settings)?;
        let mut base = base.map(|base| engine(base, settings.of_base())).transpose()?;
        let (mut results, mut samples) = (Vec::new(), Vec::new());
        for task in tasks {
            let (result, said) = of_task(&mut model, base.as_mut(), task)?;
            results.push(result);
            samples.extend(said);
        }
        Ok((results, samples))
    }

    /// Says so where a model's likelihoods were no numbers: then its scores are none either.
    fn check(&self, samples: &[Sample]) {
        let of_base = |s: &Sample| s.base.as_ref().is_some_and(|said| !said.counts());
        let model = (Some(&self.model), samples.iter().find(|s| !s.said.counts()));
        for (dir, found) in [model, (self.base.as_ref(), samples.iter().find(|s| of_base(s)))] {
            if let (Some(dir), Some(Sample { task, line, .. })) = (dir, found) {
                log::warn!(
                    "{}: gives logits that are no numbers, first for line {line} of {task}: its weights make values that \
                     overflow, and what is measured of it means nothing",
                    dir.display()
                );
            }
        }
    }

    fn gate(&self, tasks: &[TaskResult]) -> Verdict {
        let Some(limit) = self.max_acc_drop else { return Verdict::Passed };
        let mut verdict = Verdict::Passed;
        for task in tasks {
            let drop = task.paired.as_ref().map_or(0.0, |paired| -paired.acc_difference);
            // NaN fails, too.
            if drop.is_nan() || drop > limit {
                out::say(format_args!(
                    "wgquant: quality gate: accuracy of {} is {:.2} points below the base's, {:.2} are allowed",
                    task.task,
                    drop * 100.0,
                    limit * 100.0
                ));
                verdict = Verdict::Failed;
            }
        }
        verdict
    }
}

fn of_task(model: &mut Engine, base: Option<&mut Engine>, task: &Task) -> Result<(TaskResult, Vec<Sample>)> {
    let bar = Bar::new(task.name().to_owned(), task.count());
    Ok(block_on(evaluate(model, base, task, &mut |done, _| bar.at(done)))?)
}
