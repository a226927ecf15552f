//! Writes any [`ModelSource`] as a Hugging Face model directory in compressed-tensors format, layer by layer.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::config::uses_conv_bias;
use super::file::EXTENSION_VERSION;
use super::names::{Names, Role};
use super::scheme::Scheme;
use super::scheme_json::SchemeList;
use super::{
    Group, Linear, Mamba2, Mixer, ModelConfig, ModelFile, ModelSource, OnlineRotation, QuantizedLinear, Scales,
    check_layer, check_linear, check_vector,
};
use crate::checkpoint::{CheckpointWriter, DEFAULT_SHARD_BYTES, Written, pack_bits, packed_words};
use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor, exact_dtype};

/// What else goes into the directory, and in which form.
#[derive(Clone, Debug)]
pub struct WriteOptions {
    /// What tensors are called.
    pub names: Names,
    /// Type of norms, convolutions and decay parameters; each that it would round is stored in f32.
    pub vector_dtype: DType,
    /// Bytes of tensors a shard may hold.
    pub max_shard_bytes: u64,
    /// Files to copy, such as the tokenizer's.
    pub copy: Vec<PathBuf>,
    /// Small files to add, such as the recipe: name and text.
    pub files: Vec<(String, String)>,
    /// What the model was made from, recorded in the manifest.
    pub source: Value,
    /// How it was made, recorded there too.
    pub made: Value,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self {
            names: Names::default(),
            vector_dtype: DType::F32,
            max_shard_bytes: DEFAULT_SHARD_BYTES,
            copy: Vec::new(),
            files: Vec::new(),
            source: Value::Null,
            made: Value::Null,
        }
    }
}

impl WriteOptions {
    /// Options for a model made from `file`: its names, its tokenizer, and its hashes in the manifest.
    ///
    /// # Errors
    /// Whatever [`crate::checkpoint::Checkpoint::fingerprint`] gives.
    pub fn like(file: &ModelFile) -> Result<Self> {
        let checkpoint = file.checkpoint();
        Ok(Self {
            names: file.names().clone(),
            vector_dtype: file.float_dtype(),
            copy: checkpoint.sibling_files(),
            source: checkpoint.fingerprint()?,
            ..Self::default()
        })
    }
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Sizes and place.
    pub written: Written,
    /// Modules whose rows are no multiple of their weights' or inputs' group size. This crate reads them; compressed-tensors (and so
    /// transformers and vLLM) refuses the model.
    pub ragged: Vec<String>,
}

/// Writes `model` to `out`, which must not exist. `config` is the original `config.json`; its `quantization_config`,
/// `wgquant` and `tie_word_embeddings` keys are set to fit.
///
/// # Errors
/// [`Error::Argument`], [`Error::Io`], [`Error::DiskFull`], and whatever `model` gives. Nothing is at `out` then.
pub fn write_model(config: &Value, model: &dyn ModelSource, out: &Path, options: &WriteOptions) -> Result<Summary> {
    write_model_with(config, model, out, options, &|_| Vec::new())
}

/// A model whose weights are written, to those who tell of it.
#[derive(Clone, Copy, Debug)]
pub struct Finished<'a> {
    /// Its `config.json`.
    pub config: &'a Value,
    /// Bytes of all its tensors.
    pub tensor_bytes: u64,
    /// As [`Summary::ragged`].
    pub ragged: &'a [String],
}

impl<'a> Finished<'a> {
    /// The `quant_method` by which other tools know how it is quantized: `None` of a model of floats, `Some(None)` where they have no
    /// words for it.
    #[must_use]
    pub fn method(&self) -> Option<Option<&'a str>> {
        self.config.get("quantization_config").map(|q| q.get("quant_method").and_then(Value::as_str))
    }
}

/// As [`write_model`]; `last` gives more small files once the model has given all its weights.
///
/// # Errors
/// As [`write_model`].
pub fn write_model_with(
    config: &Value,
    model: &dyn ModelSource,
    out: &Path,
    options: &WriteOptions,
    last: &dyn Fn(&Finished<'_>) -> Vec<(String, String)>,
) -> Result<Summary> {
    let bias = uses_conv_bias(Path::new("config.json"), config)?;
    if !options.vector_dtype.is_float() {
        return Err(Error::argument("vector_dtype", format!("{} is no float type", options.vector_dtype)));
    }
    let original = ModelConfig::from_json(Path::new("config.json"), config)?;
    same_sizes(model.config(), &original)?;
    if let Some((site, what)) = model.rotation().misfit(model.config()) {
        return Err(Error::argument(format!("rotation.{site}"), what));
    }
    let mut to = Output {
        writer: CheckpointWriter::create(out)?.max_shard_bytes(options.max_shard_bytes).made(options.made.clone()),
        options,
        schemes: SchemeList::default(),
        ragged: Vec::new(),
        bias,
    };
    // What cannot be read is known before the model is made.
    for path in &options.copy {
        to.writer.copy(path)?;
    }
    for (name, text) in &options.files {
        to.writer.file(name, text.as_bytes())?;
    }
    let names = &options.names;
    let (embedding, vocab) = (model.embedding()?, [model.config().vocab_size, model.config().hidden_size]);
    check_linear(&names.embedding(), &embedding, vocab)?;
    to.linear(&names.embedding(), Role::Embedding, &embedding)?;
    drop(embedding);
    for index in 0..model.config().blocks.len() {
        to.layer(index, model)?;
    }
    let norm_f = model.norm_f()?;
    check_vector(&names.norm_f(), &norm_f, vocab[1])?;
    to.vector(&names.norm_f(), &[], &norm_f)?;
    let head = model.head()?;
    if let Some(head) = &head {
        check_linear(names.head(), head, vocab)?;
        to.linear(names.head(), Role::Linear, head)?;
    }
    let config = finished_config(config, [original.tied, head.is_none()], model.rotation(), &to.schemes)?;
    to.writer.file("config.json", format!("{config:#}\n").as_bytes())?;
    let finished = Finished { config: &config, tensor_bytes: to.writer.tensor_bytes(), ragged: &to.ragged };
    for (name, text) in last(&finished) {
        to.writer.file(&name, text.as_bytes())?;
    }
    Ok(Summary { written: to.writer.finish(options.source.clone())?, ragged: to.ragged })
}

/// Key of [`write_weights`]' note.
pub(super) const NOTE: &str = "wgquant_note";

/// Writes some weights into the new directory `out` as [`write_model`] does, but none of the rest of a model, and a note beside them:
/// [`super::StoredWeights`] reads both.
///
/// # Errors
/// As [`write_model`].
pub(crate) fn write_weights(weights: &[(String, Role, Linear)], note: Value, out: &Path) -> Result<()> {
    let (options, schemes) = (WriteOptions::default(), SchemeList::default());
    let writer = CheckpointWriter::create(out)?;
    let mut to = Output { writer, options: &options, schemes, ragged: Vec::new(), bias: false };
    for (module, role, weight) in weights {
        to.linear(module, *role, weight)?;
    }
    let mut config = json!({ NOTE: note });
    if let Some(quantization) = to.schemes.to_json(false, false) {
        config["quantization_config"] = quantization;
    }
    to.writer.file("config.json", format!("{config:#}\n").as_bytes())?;
    to.writer.finish(Value::Null).map(|_| ())
}

/// Refuses a model that is not the one that its `config.json` will describe.
fn same_sizes(model: &ModelConfig, json: &ModelConfig) -> Result<()> {
    let wrong = |what: String| Err(Error::argument("model", what));
    if let Some(i) =
        (0..model.blocks.len().max(json.blocks.len())).find(|i| model.blocks.get(*i) != json.blocks.get(*i))
    {
        let name = |c: &ModelConfig| c.blocks.get(i).map_or("not there".to_owned(), |block| format!("{block:?}"));
        return wrong(format!("block {i} is {}, config.json has it as {}", name(model), name(json)));
    }
    let mut sizes = model.sizes().into_iter().zip(json.sizes());
    if let Some(((key, have, _), (_, said, _))) = sizes.find(|((_, have, _), (_, said, _))| have != said) {
        return wrong(format!("its {key} is {have}, config.json says {said}"));
    }
    let limits = |c: &ModelConfig| [c.norm_eps, c.dt_limit.0, c.dt_limit.1, c.time_step_min];
    if limits(model) != limits(json) {
        let (have, said) = (limits(model), limits(json));
        return wrong(format!("its norm_eps, dt_limit and time_step_min are {have:?}, config.json says {said:?}"));
    }
    Ok(())
}

/// The original configuration with what quantizing changed; is the head the embedding, before and after?
fn finished_config(
    config: &Value,
    [was_tied, tied]: [bool; 2],
    rotation: OnlineRotation,
    schemes: &SchemeList,
) -> Result<Value> {
    let not_object = || Error::argument("config", "is no JSON object");
    let was_tied = was_tied || config.pointer("/wgquant/untied_head").is_some_and(|u| *u == json!(true));
    let mut config = config.as_object().ok_or_else(not_object)?.clone();
    config.insert("tie_word_embeddings".into(), json!(tied));
    config.shift_remove("quantization_config");
    config.shift_remove("wgquant");
    let rotated = rotation != OnlineRotation::default();
    if let Some(quantization) = schemes.to_json(rotated, tied) {
        config.insert("quantization_config".into(), quantization);
    }
    let mut extension = json!({ "version": EXTENSION_VERSION });
    if rotated {
        extension["rotation"] = json!(rotation);
    }
    if was_tied && !tied {
        extension["untied_head"] = json!(true);
    }
    if extension.as_object().is_some_and(|e| e.len() > 1) {
        config.insert("wgquant".into(), extension);
    }
    Ok(Value::Object(config))
}

/// A checkpoint being written, with what must be remembered for its configuration.
struct Output<'a> {
    writer: CheckpointWriter,
    options: &'a WriteOptions,
    schemes: SchemeList,
    ragged: Vec<String>,
    bias: bool,
}

impl Output<'_> {
    fn layer(&mut self, index: usize, model: &dyn ModelSource) -> Result<()> {
        let layer = model.layer(index)?;
        check_layer(model.config(), index, &layer, |part| self.options.names.layer(index, part))?;
        self.vector(&self.options.names.layer(index, "norm.weight"), &[], &layer.norm)?;
        if let Mixer::Mamba2(m) = &layer.mixer {
            self.mamba2(index, m)?;
        }
        for (part, weight) in layer.linears() {
            self.linear(&self.options.names.mixer(index, part), Role::Linear, weight)?;
        }
        Ok(())
    }

    fn mamba2(&mut self, index: usize, m: &Mamba2) -> Result<()> {
        let options = self.options;
        let name = |part: &str| options.names.layer(index, part);
        let channels = m.conv_bias.len().max(1);
        let taps = m.conv_weight.len() / channels;
        self.vector(&name("mixer.conv1d.weight"), &[channels, 1, taps], &m.conv_weight)?;
        if self.bias {
            self.vector(&name("mixer.conv1d.bias"), &[], &m.conv_bias)?;
        } else if m.conv_bias.iter().any(|b| *b != 0.0) {
            return Err(Error::argument(
                name("mixer.conv1d.bias"),
                "is not 0, but config.json says use_conv_bias false",
            ));
        }
        self.vector(&name("mixer.norm.weight"), &[], &m.norm)?;
        self.vector(&name("mixer.dt_bias"), &[], &m.dt_bias)?;
        self.vector(&name("mixer.A_log"), &[], &m.a_log)?;
        self.vector(&name("mixer.D"), &[], &m.d)
    }

    /// A float parameter of `shape`, or of one axis when that is empty. Never rounded: these are few, and an error
    /// in the decay compounds over the whole sequence.
    fn vector(&mut self, name: &str, shape: &[usize], values: &[f32]) -> Result<()> {
        let one = [values.len()];
        let shape = crate::tensor::Shape::new(if shape.is_empty() { &one } else { shape });
        let dtype = exact_dtype(self.options.vector_dtype, values);
        self.writer.add(name, &Tensor::from_f32_as(dtype, shape, values)?)
    }

    fn linear(&mut self, module: &str, role: Role, weight: &Linear) -> Result<()> {
        let scheme = self.schemes.add(module, role, weight);
        match (weight, scheme) {
            (Linear::Quantized(q), Some(scheme)) => self.quantized(module, q, scheme),
            (Linear::Float(t), _) => self.writer.add_finite(&format!("{module}.weight"), t),
            (Linear::Quantized(_), None) => Err(Error::argument(module, "has codes but no scheme")),
        }
    }

    fn quantized(&mut self, module: &str, q: &QuantizedLinear, scheme: Scheme) -> Result<()> {
        let (rows, cols) = (q.codes.shape.rows(), q.codes.shape.cols());
        let groups = [Some(scheme.group), scheme.activations.group()];
        if groups.into_iter().flatten().any(|g| matches!(g, Group::Size(n) if cols % n != 0)) {
            self.ragged.push(module.to_owned());
        }
        if scheme.packed {
            self.packed(&format!("{module}.weight_packed"), &q.codes, q.bits)?;
            self.writer.add_i64s(&format!("{module}.weight_shape"), &[rows as i64, cols as i64])?;
        } else {
            self.writer.add(&format!("{module}.weight"), &q.codes)?;
        }
        if !q.input_scales.is_empty() {
            let scales = Tensor::from_f32([q.input_scales.len()], &q.input_scales);
            self.writer.add(&format!("{module}.input_scale"), &scales)?;
        }
        match &q.scales {
            Scales::Plain(scales) => self.writer.add(&format!("{module}.weight_scale"), scales),
            Scales::Nested { codes, bits, rows } => {
                // Packing is of signed codes.
                let signed = codes.bytes.iter().map(|c| c.wrapping_sub(1 << (bits - 1))).collect();
                let signed = Tensor::new(DType::I8, codes.shape, signed)?;
                self.packed(&format!("{module}.weight_scale_packed"), &signed, *bits)?;
                self.writer.add(&format!("{module}.weight_scale_row"), rows)
            }
        }
    }

    fn packed(&mut self, name: &str, codes: &Tensor, bits: usize) -> Result<()> {
        let (rows, cols) = (codes.shape.rows(), codes.shape.cols());
        let words = pack_bits(bytemuck::cast_slice(&codes.bytes), bits, cols);
        let bytes = bytemuck::cast_slice(&words).to_vec();
        self.writer.add(name, &Tensor::new(DType::U32, [rows, packed_words(bits, cols)], bytes)?)
    }
}
