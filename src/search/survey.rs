//! How much each module loses in each form: GPTQ's own loss for every form, and for one of them, the probe, the KL
//! divergence of the whole model's output when this module alone is rounded. The other forms' KL follows from the ratio
//! of losses, since a small error's KL is quadratic in it.

use std::path::Path;

use pollster::block_on;
use serde::{Deserialize, Serialize};

use super::measure::options;
use crate::analyze::Sensitivity as Losses;
use crate::calibrate::{Means, Walk, Windows, parts};
use crate::error::{Error, Result};
use crate::eval::compare;
use crate::gpu::Device;
use crate::model::{Activations, Group, Layer, Linear, ModelSource, Names, QuantizedLinear};
use crate::quantize::{Format, GptqOptions, Prepared, gptq, searched};
use crate::recipe::{EMBEDDING_STEPS, Module, moments_fit};
use crate::runtime::{Engine, Slot};
use crate::tensor::{DType, Tensor};

/// One form of a module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Form {
    /// Bits, group, scales; `None`: floats.
    pub format: Option<Format>,
    /// Bytes in a file.
    pub bytes: u64,
    /// Part of the output's energy that is lost, by the calibrated second moments.
    pub loss: f64,
    /// Mean KL in nats a token that this module alone costs: measured for the probe, else from the losses.
    pub kl: f64,
}

/// What a module loses in each form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sensitivity {
    /// Module.
    pub name: String,
    /// Its forms, in the order asked for.
    pub forms: Vec<Form>,
}

/// All modules, and what the figures depend on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Survey {
    /// Of the model, the settings and the texts; figures of another are not taken up again.
    pub fingerprint: String,
    /// In the order they run; fewer than the model has when the search was cut off.
    pub modules: Vec<Sensitivity>,
}

impl Survey {
    /// Reads what a search kept.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::BadCheckpoint`] for another kind of file, or figures that no search finds.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read(path).map_err(|e| Error::io(path, e))?;
        let mut survey: Self = serde_json::from_slice(&text)
            .map_err(|e| Error::bad(path, format!("is no file that `wgquant search` keeps: {e}")))?;
        // Earlier versions kept what rounding left below 0.
        let forms = survey.modules.iter_mut().flat_map(|module| &mut module.forms);
        for figure in forms.flat_map(|form| [&mut form.loss, &mut form.kl]).filter(|f| (-1e-6..0.0).contains(*f)) {
            *figure = 0.0;
        }
        survey.check_figures().map_err(|e| Error::bad(path, e))?;
        Ok(survey)
    }

    /// Says what cannot have been measured, or not be added up.
    fn check_figures(&self) -> Result<(), String> {
        let mut most = 0.0;
        for Sensitivity { name, forms } in &self.modules {
            for (what, figure) in forms.iter().flat_map(|f| [("loss", f.loss), ("kl", f.kl)]) {
                if !(figure.is_finite() && figure >= 0.0) {
                    return Err(format!("`{name}` has a {what} of {figure}, no finite number of 0 or more"));
                }
            }
            most += forms.iter().map(|f| f.kl).fold(0.0, f64::max);
        }
        if most.is_finite() { Ok(()) } else { Err(format!("the kl of all its modules adds up to {most}")) }
    }

    /// Refuses modules other than the first of `candidates`, which are those of a [`Question`] with floats of this type, or forms
    /// other than theirs.
    ///
    /// # Errors
    /// [`Error::Argument`] naming the module, what the survey has and what is asked.
    pub fn check(&self, candidates: &[Vec<Module>], float: DType) -> Result<()> {
        let refuse = |reason: String| Err(Error::argument("survey", reason));
        let modules = candidates.first().map_or(&[][..], Vec::as_slice);
        if self.modules.len() > modules.len() {
            return refuse(format!("has {} modules, the model {}", self.modules.len(), modules.len()));
        }
        for (i, (Sensitivity { name, forms }, module)) in self.modules.iter().zip(modules).enumerate() {
            if *name != module.name {
                return refuse(format!("its module {i} is `{name}`, the model's `{}`", module.name));
            }
            if forms.len() != candidates.len() {
                return refuse(format!("has {} forms of `{name}`, {} are asked for", forms.len(), candidates.len()));
            }
            for (form, asked) in forms.iter().zip(candidates.iter().filter_map(|modules| modules.get(i))) {
                let (here, there) = ((form.format, form.bytes), (asked.weights, asked.bytes(float)));
                if here != there {
                    let (here, there) = (described(here), described(there));
                    return refuse(format!("has {here} as a form of `{name}`, {there} is asked for"));
                }
            }
        }
        Ok(())
    }

    /// The losses of all modules, by bits and group: `4/32`, `8` for one scale a row.
    #[must_use]
    pub fn losses(&self) -> Losses {
        let label = |format: Format| match format.group {
            Group::Channel => format.bits.to_string(),
            Group::Size(n) => format!("{}/{n}", format.bits),
        };
        let of = |m: &Sensitivity| m.forms.iter().filter_map(|f| Some((label(f.format?), f.loss))).collect();
        self.modules.iter().map(|m| (m.name.clone(), of(m))).collect()
    }
}

/// A form as the file has it.
fn described((format, bytes): (Option<Format>, u64)) -> String {
    format!("{} in {bytes} bytes", serde_json::to_string(&format).unwrap_or_default())
}

/// What a survey needs to know.
pub struct Question<'a> {
    /// The model, rewritten as the recipe says.
    pub source: &'a dyn ModelSource,
    /// The modules under each form: as [`crate::recipe::resolve`] gives them, one list a form, in one order.
    pub candidates: &'a [Vec<Module>],
    /// Index of the form whose KL is measured; not one of floats.
    pub probe: usize,
    /// Type of weights that stay floats.
    pub float: DType,
    /// Switches of GPTQ; inputs are the original model's.
    pub options: GptqOptions,
    /// Texts for second moments.
    pub calibration: &'a Windows,
    /// Texts for KL.
    pub probes: &'a Windows,
}

/// Asks `question`, going on where `survey` ended; `done` sees the survey after each module.
///
/// # Errors
/// As [`Survey::check`], [`gptq`], `Prepared::of` and running plans, and whatever `done` gives.
pub fn survey(
    device: &Device,
    question: &Question<'_>,
    mut survey: Survey,
    done: &mut dyn FnMut(&Survey) -> Result<()>,
) -> Result<Survey> {
    survey.check(question.candidates, question.float)?;
    let modules = question.candidates.first().map_or(0, Vec::len);
    if survey.modules.len() >= modules {
        return Ok(survey);
    }
    question.candidates.iter().try_for_each(|modules| moments_fit(device, modules))?;
    let mut surveyor = Surveyor::new(device, question)?;
    let source = question.source;
    let embedding = source.embedding()?;
    surveyor.module(&mut survey, Slot::Embedding, &embedding, None, done)?;
    for index in 0..source.config().blocks.len() {
        let layer = source.layer(index)?;
        surveyor.layer(&mut survey, index, &layer, done)?;
    }
    if let Some(head) = source.head()? {
        let name = Names::default().head();
        let means = surveyor.walk.after_norm(&source.norm_f()?, Activations::Float)?;
        let prepared = surveyor.prepare(name, means)?;
        surveyor.module(&mut survey, Slot::Head, &head, Some(&prepared), done)?;
    }
    Ok(survey)
}

struct Surveyor<'a> {
    /// Where weights are rounded.
    rounds_on: Device,
    question: &'a Question<'a>,
    walk: Walk,
    base: Engine,
    model: Engine,
    /// Modules seen, in the order they run.
    seen: usize,
}

impl<'a> Surveyor<'a> {
    fn new(device: &Device, question: &'a Question<'a>) -> Result<Self> {
        let source = question.source;
        let options = options(question.probes);
        let sequences = &question.calibration.0;
        Ok(Self {
            // A software driver takes more than twice the reference's time for it.
            rounds_on: match device.gpu() {
                Some(gpu) if gpu.adapter.is_software() => Device::Cpu,
                _ => device.clone(),
            },
            question,
            walk: Walk::new(device, source.config(), source.rotation(), &source.embedding()?, None, sequences)?,
            base: Engine::new(device, source, options)?,
            model: Engine::new(device, source, options)?,
            seen: 0,
        })
    }

    fn prepare(&self, site: &str, means: Means) -> Result<Prepared> {
        Prepared::of(&self.rounds_on, site, means, &self.question.options)
    }

    fn layer(
        &mut self,
        survey: &mut Survey,
        index: usize,
        layer: &Layer,
        done: &mut dyn FnMut(&Survey) -> Result<()>,
    ) -> Result<()> {
        let (readers, writer) = parts(&layer.mixer);
        let linears = layer.linears();
        for names in [readers, &[writer]] {
            if survey.modules.len() >= self.seen + names.len() {
                self.seen += names.len();
                continue;
            }
            let width = linears.iter().find(|(n, _)| *n == names[0]).map_or(0, |(_, l)| l.dims().1);
            let means = match names.len() == 1 && names[0] == writer {
                true => self.walk.before_writer(index, layer, layer, width, Activations::Float, false)?,
                false => self.walk.after_norm(&layer.norm, Activations::Float)?,
            };
            let prepared = self.prepare(&format!("input of {} in layer {index}", names.join(", ")), means)?;
            for (part, linear) in linears.iter().filter(|(n, _)| names.contains(n)) {
                self.module(survey, Slot::Layer(index, part), linear, Some(&prepared), done)?;
            }
        }
        self.walk.advance(index, layer, layer)
    }

    /// One module in all its forms, unless the survey has it. Without moments, weights are all alike.
    fn module(
        &mut self,
        survey: &mut Survey,
        slot: Slot<'_>,
        linear: &Linear,
        prepared: Option<&Prepared>,
        done: &mut dyn FnMut(&Survey) -> Result<()>,
    ) -> Result<()> {
        let at = self.seen;
        self.seen += 1;
        if at < survey.modules.len() {
            return Ok(());
        }
        let Linear::Float(weight) = linear else {
            return Err(Error::argument(
                "search",
                "the model is quantized already; start from the original checkpoint",
            ));
        };
        let values = weight.to_f32()?;
        let mut forms = Vec::new();
        let mut kl_of_loss = 0.0;
        for (i, candidate) in self.question.candidates.iter().enumerate() {
            let module = &candidate[at];
            let bytes = module.bytes(self.question.float);
            let Some(format) = module.weights else {
                forms.push(Form { format: None, bytes, loss: 0.0, kl: 0.0 });
                continue;
            };
            let quantized = self.quantized(linear, &values, prepared, &format)?;
            let rounded = quantized.dequantize()?;
            let loss = match prepared {
                Some(prepared) => prepared.relative_loss(&values, &rounded)?,
                None => relative_error(&values, &rounded),
            };
            // Sums of what is hardly anything may end below 0. NaN stays NaN.
            let at_least_none = |figure: f64| figure.clamp(0.0, f64::INFINITY);
            let loss = at_least_none(loss);
            if i == self.question.probe {
                let measured = at_least_none(self.measured(slot, linear, Tensor::from_f32(weight.shape, &rounded))?);
                // What loses nothing, like weights of zeros, tells nothing.
                kl_of_loss = if loss > 0.0 { measured / loss } else { 0.0 };
            }
            forms.push(Form { format: Some(format), bytes, loss, kl: 0.0 });
        }
        forms.iter_mut().for_each(|f| f.kl = f.loss * kl_of_loss);
        let name = self.question.candidates[0][at].name.clone();
        log::debug!("{name}: {kl_of_loss:.3e} nats for all its energy");
        survey.modules.push(Sensitivity { name, forms });
        done(survey)
    }

    fn quantized(
        &self,
        linear: &Linear,
        values: &[f32],
        prepared: Option<&Prepared>,
        format: &Format,
    ) -> Result<QuantizedLinear> {
        match prepared {
            Some(prepared) => gptq(values, prepared, format, Activations::Float, &self.question.options),
            None => searched(linear, format, Activations::Float, EMBEDDING_STEPS),
        }
    }

    /// KL of the model with one module rounded.
    fn measured(&mut self, slot: Slot<'_>, linear: &Linear, rounded: Tensor) -> Result<f64> {
        self.model.replace(slot, &Linear::Float(rounded))?;
        let result = block_on(compare(&mut self.base, &mut self.model, self.question.probes, &mut |_, _| {}))?;
        self.model.replace(slot, linear)?;
        Ok(result.mean_kl)
    }
}

fn relative_error(values: &[f32], rounded: &[f32]) -> f64 {
    let square = |v: f32| f64::from(v) * f64::from(v);
    let lost: f64 = values.iter().zip(rounded).map(|(v, r)| square(v - r)).sum();
    lost / values.iter().map(|v| square(*v)).sum::<f64>().max(f64::MIN_POSITIVE)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    /// Or a search that was taken up again would write other figures than one that was not cut off.
    #[test]
    fn what_is_kept_is_read_as_it_was() {
        let form = |i: u32| Form { format: None, bytes: 1, loss: f64::from(i).sqrt() * 1e-3, kl: f64::from(i).ln() };
        let modules = vec![Sensitivity { name: "a".to_owned(), forms: (1..5000).map(form).collect() }];
        let survey = Survey { fingerprint: "x".to_owned(), modules };
        let temp = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(temp.path(), serde_json::to_string(&survey).unwrap()).unwrap();
        assert_eq!(Survey::load(temp.path()).unwrap(), survey);
    }

    #[test]
    fn figures_that_no_search_finds_are_refused() {
        let temp = tempfile::NamedTempFile::new().unwrap();
        for (loss, kl, words) in [
            (0.1, -5.0, "`b` has a kl of -5, no finite number of 0 or more"),
            (-0.5, 1.0, "`b` has a loss of -0.5"),
            (0.1, 1e308, "the kl of all its modules adds up to inf"),
        ] {
            let form = Form { format: None, bytes: 1, loss, kl };
            let other = Form { loss: 0.1, kl: 1e308, ..form.clone() };
            let module = |name: &str, form| Sensitivity { name: name.to_owned(), forms: vec![form] };
            let survey = Survey { fingerprint: "x".to_owned(), modules: vec![module("a", other), module("b", form)] };
            std::fs::write(temp.path(), serde_json::to_string(&survey).unwrap()).unwrap();
            let error = Survey::load(temp.path()).unwrap_err().to_string();
            assert!(error.starts_with(temp.path().to_str().unwrap()) && error.contains(words), "{error}");
        }
    }
}
