//! Runs kernels' cases on a device and compares them with the reference. Tests, benches and `doctor` use it.
//!
//! A case is set up twice from one seed, on the device and on the CPU, and run by the same host function.
//! Outputs start poisoned and stand between guard words, so unwritten elements and stray writes show.

mod codes;
mod floats;
mod outcome;
mod parts;
mod tolerance;
mod variants;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub use floats::error;
pub use outcome::Outcome;
use tolerance::HALVES;
pub use tolerance::tolerance;
pub use variants::{available, choices, concerned, labels, lacking, variants};

use crate::error::{Error, Result};
use crate::gpu::{Device, DeviceTensor, Plan, Recording, row_words};
use crate::pack::{pack_codes, unpack_codes};
use crate::tensor::{DType, Shape, Tensor, unpack_halves};

/// A quiet NaN with a pattern no kernel produces.
const POISON: u32 = 0x7fc0_dead;
/// Guard words on each side: 256 bytes, the alignment of a binding's offset.
const GUARD: usize = 64;

/// A named shape of a kernel: the model it is from or the edge it covers.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Name; also the test's.
    pub name: &'static str,
    /// Sizes and other numbers.
    pub args: &'static [(&'static str, f64)],
}

impl Case {
    /// Its numbers.
    #[must_use]
    pub fn args(&self) -> Args {
        Args(self.args)
    }
}

/// A case's numbers by name.
#[derive(Clone, Copy, Debug)]
pub struct Args(&'static [(&'static str, f64)]);

impl Args {
    /// The number called `name`, where the case has it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.iter().find(|(n, _)| *n == name).map(|(_, v)| *v)
    }

    /// The number called `name`.
    ///
    /// # Panics
    /// When the case does not have it: cases are part of the program.
    #[must_use]
    pub fn f64(&self, name: &str) -> f64 {
        self.get(name).unwrap_or_else(|| panic!("the case has no `{name}`"))
    }

    /// As a size.
    #[must_use]
    pub fn usize(&self, name: &str) -> usize {
        self.f64(name) as usize
    }
}

/// Bytes a kernel must move and operations it must do, for benches.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// Bytes read once and written once.
    pub bytes: usize,
    /// Arithmetic operations (a multiply-add is two).
    pub ops: usize,
}

/// A kernel in the registry.
#[derive(Clone, Copy)]
pub struct Entry {
    /// Kernel name.
    pub name: &'static str,
    /// Cases.
    pub cases: &'static [Case],
    /// Makes inputs and adds the launches of a case.
    pub setup: fn(&mut Setup, &Args) -> Result<()>,
    /// Cost of a case.
    pub work: fn(&Args) -> Work,
}

impl Entry {
    /// Its cases, or those of real models' sizes ([`super::LARGE`]).
    pub fn cases_of(&self, large: bool) -> impl Iterator<Item = &'static Case> {
        let name = self.name;
        let large_cases = super::LARGE.iter().filter(move |(kernel, _)| large && *kernel == name).map(|(_, case)| case);
        self.cases.iter().filter(move |_| !large).chain(large_cases)
    }

    /// The case of this name, of either kind.
    #[must_use]
    pub fn case(&self, name: &str) -> Option<&'static Case> {
        self.cases_of(false).chain(self.cases_of(true)).find(|c| c.name == name)
    }
}

/// What inputs are filled with. Never ramps (they hide swapped scales), never zeros.
#[derive(Clone, Copy, Debug)]
pub enum Fill {
    /// Normal with this standard deviation.
    Normal(f32),
    /// Standard normal, every 61st element 20 times as large: activations with outlier channels.
    Outliers,
    /// Uniform in a range.
    Uniform(f32, f32),
}

struct Output {
    name: &'static str,
    buffer: DeviceTensor,
    /// Its first word behind the guard.
    first: usize,
    dtype: DType,
    shape: Shape,
    /// Are these rounded codes, which may differ by one step at a tie?
    rounded: bool,
}

impl Output {
    fn words(&self) -> usize {
        self.shape.rows() * row_words(self.dtype, self.shape)
    }
}

/// Builds one case on one device.
pub struct Setup {
    device: Device,
    plan: Plan,
    rng: ChaCha8Rng,
    /// Inputs are zeros: only what is launched matters.
    dry: bool,
    outputs: Vec<Output>,
    report: Option<(DeviceTensor, Describe)>,
}

/// Puts the words a probe wrote into a sentence.
type Describe = fn(&[u32]) -> String;

impl Setup {
    fn new(device: &Device, variant: Option<&'static str>, seed: u64) -> Self {
        let mut plan = Plan::new(device);
        if let Some(name) = variant {
            plan.force_variant(name);
        }
        Self {
            device: device.clone(),
            plan,
            rng: ChaCha8Rng::seed_from_u64(seed),
            dry: false,
            outputs: Vec::new(),
            report: None,
        }
    }

    /// The plan to launch into.
    pub fn plan(&mut self) -> &mut Plan {
        &mut self.plan
    }

    /// The device inputs are made on.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Seeded values.
    pub fn values(&mut self, count: usize, fill: Fill) -> Vec<f32> {
        if self.dry {
            return vec![0.0; count];
        }
        let mut normal = || {
            // Box-Muller, in f64 so that both devices see the same bits.
            let (u, v): (f64, f64) = (self.rng.random(), self.rng.random());
            (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
        };
        match fill {
            Fill::Normal(sd) => (0..count).map(|_| normal() as f32 * sd).collect(),
            Fill::Outliers => (0..count).map(|i| normal() as f32 * if i % 61 == 7 { 20.0 } else { 1.0 }).collect(),
            Fill::Uniform(lo, hi) => (0..count).map(|_| self.rng.random_range(lo..hi)).collect(),
        }
    }

    /// A seeded f32 input.
    ///
    /// # Errors
    /// As [`Device::upload_f32`]; the same for the other inputs.
    pub fn input(&mut self, shape: impl Into<Shape>, fill: Fill) -> Result<DeviceTensor> {
        self.input_as(DType::F32, shape, fill)
    }

    /// A seeded input stored as f32, f16 or bf16.
    ///
    /// # Errors
    /// As [`Setup::input`].
    pub fn input_as(&mut self, dtype: DType, shape: impl Into<Shape>, fill: Fill) -> Result<DeviceTensor> {
        let shape = shape.into();
        let values = self.values(shape.elements(), fill);
        self.device.upload(&Tensor::from_f32_as(dtype, shape, &values)?)
    }

    /// Seeded codes over the whole symmetric range of `bits` (4 or 8).
    ///
    /// # Errors
    /// As [`Setup::input`].
    pub fn codes(&mut self, bits: usize, shape: impl Into<Shape>) -> Result<DeviceTensor> {
        let shape = shape.into();
        let codes = self.random_codes(bits, shape.elements());
        self.device.upload_codes(bits, shape, &codes)
    }

    fn random_codes(&mut self, bits: usize, count: usize) -> Vec<i8> {
        let top = if self.dry { 0 } else { (1i32 << (bits - 1)) - 1 };
        (0..count).map(|_| self.rng.random_range(-top..=top) as i8).collect()
    }

    /// Seeded integers below `bound`.
    ///
    /// # Errors
    /// As [`Setup::input`].
    pub fn integers(&mut self, shape: impl Into<Shape>, bound: u32) -> Result<DeviceTensor> {
        let shape = shape.into();
        let values: Vec<u32> = (0..shape.elements()).map(|_| self.rng.random_range(0..bound)).collect();
        self.device.upload_words(DType::U32, shape, &values)
    }

    /// An output: poisoned, guarded and compared afterwards (floats by NMSE, all else exactly).
    ///
    /// # Errors
    /// As [`Setup::input`].
    pub fn output(&mut self, name: &'static str, dtype: DType, shape: impl Into<Shape>) -> Result<DeviceTensor> {
        self.guarded(name, dtype, shape.into(), false, None)
    }

    /// An output of rounded codes: one step of difference is allowed in 2 of 10,000, the share of values
    /// within 1e-4 of a tie.
    ///
    /// # Errors
    /// As [`Setup::input`].
    pub fn rounded_output(
        &mut self,
        name: &'static str,
        dtype: DType,
        shape: impl Into<Shape>,
    ) -> Result<DeviceTensor> {
        self.guarded(name, dtype, shape.into(), true, None)
    }

    /// An f32 tensor the kernel reads and writes: seeded, guarded and compared afterwards.
    ///
    /// # Errors
    /// As [`Setup::input`].
    pub fn state(&mut self, name: &'static str, shape: impl Into<Shape>, fill: Fill) -> Result<DeviceTensor> {
        let shape = shape.into();
        let values = self.values(shape.elements(), fill);
        self.state_of(name, shape, &values)
    }

    /// As [`Setup::state`], with given values.
    ///
    /// # Errors
    /// As [`Setup::input`].
    pub fn state_of(&mut self, name: &'static str, shape: impl Into<Shape>, values: &[f32]) -> Result<DeviceTensor> {
        self.guarded(name, DType::F32, shape.into(), false, Some(bytemuck::cast_slice(values)))
    }

    /// A u32 tensor the kernel reads and writes: `words`, guarded and compared exactly afterwards.
    ///
    /// # Errors
    /// As [`Setup::input`].
    pub fn state_words(&mut self, name: &'static str, shape: impl Into<Shape>, words: &[u32]) -> Result<DeviceTensor> {
        self.guarded(name, DType::U32, shape.into(), false, Some(words))
    }

    /// An output of words that drivers may choose: not compared, but told as the outcome's note.
    ///
    /// # Errors
    /// As [`Setup::input`].
    pub fn report(&mut self, shape: impl Into<Shape>, describe: Describe) -> Result<DeviceTensor> {
        let tensor = self.device.alloc(DType::U32, shape)?;
        self.report = Some((tensor.clone(), describe));
        Ok(tensor)
    }

    /// Seeded int8 codes within the range of `bits` that the kernel reads and writes: guarded and compared as
    /// [`Setup::rounded_output`].
    ///
    /// # Errors
    /// As [`Setup::input`].
    pub fn state_codes(&mut self, name: &'static str, shape: impl Into<Shape>, bits: usize) -> Result<DeviceTensor> {
        let shape = shape.into();
        let codes = self.random_codes(bits, shape.elements());
        self.rounded_state(name, 8, shape, &codes)
    }

    /// Codes the kernel reads and writes, of 8 or 4 `bits`, compared as those of [`Setup::rounded_output`].
    ///
    /// # Errors
    /// As [`Setup::input`].
    pub fn rounded_state(
        &mut self,
        name: &'static str,
        bits: usize,
        shape: impl Into<Shape>,
        codes: &[i8],
    ) -> Result<DeviceTensor> {
        let shape = shape.into();
        let dtype = if bits == 4 { DType::I4 } else { DType::I8 };
        self.guarded(name, dtype, shape, true, Some(&pack_codes(bits, codes, shape.cols())))
    }

    fn guarded(
        &mut self,
        name: &'static str,
        dtype: DType,
        shape: Shape,
        rounded: bool,
        initial: Option<&[u32]>,
    ) -> Result<DeviceTensor> {
        let words = shape.rows() * row_words(dtype, shape);
        let mut all = vec![POISON; words + 2 * GUARD];
        if let Some(initial) = initial {
            all[GUARD..GUARD + words].copy_from_slice(initial);
        }
        let buffer = self.device.upload_words(DType::U32, [all.len()], &all)?;
        let tensor = DeviceTensor { offset: GUARD * 4, dtype, shape, ..buffer.clone() };
        self.outputs.push(Output { name, buffer, first: 0, dtype, shape, rounded });
        Ok(tensor)
    }
}

/// A case recorded on `device`, to run any number of times: for benches.
///
/// # Errors
/// Whatever setting up or recording gives.
pub fn build(
    device: &Device,
    entry: &Entry,
    case: &Case,
    variant: Option<&'static str>,
    seed: u64,
) -> Result<Recording> {
    let mut setup = Setup::new(device, variant, seed);
    (entry.setup)(&mut setup, &case.args())?;
    setup.plan.specialised().record()
}

/// Runs `case` of `entry` on `device` and on the reference and compares. What the adapter has not got the means for is
/// skipped.
///
/// # Errors
/// Whatever setting up or running gives; a wrong result is an [`Outcome`] with a failure.
pub async fn check(
    device: &Device,
    entry: &Entry,
    case: &Case,
    variant: Option<&'static str>,
    seed: u64,
) -> Result<Outcome> {
    check_as(device, entry, case, variant, seed, false).await
}

/// As [`check`], and where it is to run `often`, as plans that do have it ([`Plan::specialised`]).
///
/// # Errors
/// As [`check`].
pub async fn check_as(
    device: &Device,
    entry: &Entry,
    case: &Case,
    variant: Option<&'static str>,
    seed: u64,
    often: bool,
) -> Result<Outcome> {
    let (got, label) = match run(device, entry, case, variant, seed, often) {
        Err(e @ (Error::Lacks { .. } | Error::LimitExceeded { .. })) => {
            return Ok(Outcome::skipped(entry, case, e.to_string()));
        }
        other => other?,
    };
    let (want, _) = run(&Device::Cpu, entry, case, variant, seed, false)?;
    let mut outcome = Outcome::passed(entry, case, label);
    for (g, w) in got.outputs.iter().zip(&want.outputs) {
        let (got, want) = (device.read(&g.buffer).await?, Device::Cpu.read(&w.buffer).await?);
        if let Err(failure) = compare(g, &got, &want, &mut outcome) {
            let failure = format!("{}/{} seed {seed}: `{}` {failure}", entry.name, case.name, g.name);
            outcome.failure.get_or_insert(failure);
        }
    }
    if want.outputs.is_empty() {
        return Err(Error::argument(entry.name, "the case has no output to compare"));
    }
    if let Some((tensor, describe)) = &got.report {
        outcome.note = Some(describe(&device.read(tensor).await?)).filter(|note| !note.is_empty());
    }
    Ok(outcome)
}

/// Sets a case up and runs it; also `kernel.variant` of its last dispatch.
fn run(
    device: &Device,
    entry: &Entry,
    case: &Case,
    variant: Option<&'static str>,
    seed: u64,
    often: bool,
) -> Result<(Setup, String)> {
    let mut setup = Setup::new(device, variant, seed);
    (entry.setup)(&mut setup, &case.args())?;
    let label = setup.plan.labels().last().unwrap_or_default();
    let plan = std::mem::replace(&mut setup.plan, Plan::new(device));
    if often { plan.specialised() } else { plan }.record()?.run()?;
    Ok((setup, label))
}

fn compare(output: &Output, got: &[u32], want: &[u32], outcome: &mut Outcome) -> Result<(), String> {
    let end = got.len() - GUARD;
    if let Some(i) = (0..GUARD).chain(end..got.len()).find(|i| got[*i] != POISON) {
        return Err(format!("was written outside, word {} of {}", i as i64 - GUARD as i64, end - GUARD));
    }
    let part = GUARD + output.first..GUARD + output.first + output.words();
    let (got, want) = (&got[part.clone()], &want[part]);
    match output.dtype {
        DType::F32 => {
            floats::compare(bytemuck::cast_slice(got), bytemuck::cast_slice(want), tolerance(&outcome.variant), outcome)
        }
        DType::F16 => {
            let own = tolerance(&outcome.variant);
            floats::compare(
                &unpack_halves(got),
                &unpack_halves(want),
                if own.0 > HALVES.0 { own } else { HALVES },
                outcome,
            )
        }
        DType::I8 | DType::I4 if output.rounded => {
            let codes = |words| unpack_codes(output.dtype.bits(), words, output.shape.cols());
            outcome.ties += codes::ties(output.name, &codes(got), &codes(want))?;
            Ok(())
        }
        _ => match got.iter().zip(want).position(|(a, b)| a != b) {
            None => Ok(()),
            Some(i) => Err(format!("word {i} is {:#010x} for {:#010x}", got[i], want[i])),
        },
    }
}
