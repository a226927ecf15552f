//! The library's one error type. Every variant names the thing at fault and both values.

use std::path::{Path, PathBuf};

use crate::tensor::{DType, Shape};

/// Result with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong in the library.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A kernel argument has a shape the kernel cannot take.
    #[error("{kernel}: `{arg}` has shape {got}, expected {expected}")]
    Shape {
        /// Kernel or function.
        kernel: &'static str,
        /// Argument.
        arg: &'static str,
        /// What was needed.
        expected: Shape,
        /// What was given.
        got: Shape,
    },
    /// A kernel argument has a dtype the kernel cannot take.
    #[error("{kernel}: `{arg}` is {got}, expected {expected}")]
    DType {
        /// Kernel or function.
        kernel: &'static str,
        /// Argument.
        arg: &'static str,
        /// What was needed.
        expected: &'static str,
        /// What was given.
        got: DType,
    },
    /// A scalar argument is out of range.
    #[error("{what}: {reason}")]
    Argument {
        /// Function and argument.
        what: String,
        /// Why it cannot be used, with the value.
        reason: String,
    },
    /// No adapter matches.
    #[error("no GPU adapter {wanted}; found: {found}. {help} --device cpu")]
    NoAdapter {
        /// What was asked for.
        wanted: String,
        /// Names of the adapters there are.
        found: String,
        /// What else may be done, up to what comes before `--device cpu`.
        help: &'static str,
    },
    /// The adapter offers less than a kernel or model needs.
    #[error(
        "adapter `{adapter}`: {what} is {have}, need {need}; pass --device NAME to choose another adapter or --device cpu"
    )]
    LimitExceeded {
        /// Adapter name.
        adapter: String,
        /// Limit or feature.
        what: String,
        /// Needed value.
        need: u64,
        /// Offered value.
        have: u64,
    },
    /// A model with its state and activations takes more memory than a device has free; nothing was allocated.
    #[error(
        "adapter `{adapter}`: the model takes {:.1} MiB ({plan}), {:.1} MiB are free ({why}); choose fewer bits, a shorter context, --kv f16, int8 or int4, shorter passes, or another --device; pass --memory-limit SIZE if more is free than the driver says",
        *need as f64 / f64::from(1 << 20),
        *have as f64 / f64::from(1 << 20)
    )]
    TooLarge {
        /// Adapter name.
        adapter: String,
        /// What takes how much.
        plan: String,
        /// Bytes needed.
        need: u64,
        /// Bytes free.
        have: u64,
        /// Who says so.
        why: &'static str,
    },
    /// The driver has no memory left for something, or the limit set leaves none.
    #[error(
        "adapter `{adapter}`: no memory for {what}{}{} ({message}); {}, choose fewer bits, a shorter context or shorter passes, or pass --device NAME",
        bytes(*need),
        beside(*held),
        if limit.is_some() { "raise --memory-limit" } else { "close other programs that use its memory" }
    )]
    OutOfMemory {
        /// Adapter name.
        adapter: String,
        /// What was being allocated.
        what: String,
        /// Its bytes; 0 where nobody counts them.
        need: u64,
        /// Bytes that this program had on the device; 0 where nobody counts them.
        held: u64,
        /// The limit that was set, where that leaves no memory, in bytes.
        limit: Option<u64>,
        /// The driver's or wgpu's words.
        message: String,
    },
    /// No variant of a kernel runs with the capabilities the adapter has, or `--caps` leaves it.
    #[error("adapter `{adapter}` lacks {needs}, which every variant of `{kernel}` needs")]
    Lacks {
        /// Adapter name.
        adapter: String,
        /// Words of `variants.toml`.
        needs: String,
        /// Kernel.
        kernel: &'static str,
    },
    /// A tensor that the configuration calls for is not in the checkpoint.
    #[error("{}: tensor `{name}` is missing", file.display())]
    MissingTensor {
        /// Tensor name.
        name: String,
        /// File or directory looked in.
        file: PathBuf,
    },
    /// The configuration asks for something this crate does not know.
    #[error("{}: unsupported model: {key} is {value}", path.display())]
    UnsupportedModel {
        /// File.
        path: PathBuf,
        /// Configuration key.
        key: String,
        /// Its value and what is allowed.
        value: String,
    },
    /// A file of a checkpoint is damaged or contradicts another.
    #[error("{}: {reason}", path.display())]
    BadCheckpoint {
        /// File.
        path: PathBuf,
        /// What is wrong with it, with both values, and what to do.
        reason: String,
    },
    /// Statistics that cannot be added up or gone on with.
    #[error("{what}: these statistics have {here}, the others {there}")]
    StatsMismatch {
        /// What differs, or must not be the same.
        what: &'static str,
        /// Its value in the first.
        here: String,
        /// Its value in the second.
        there: String,
    },
    /// An input/output error.
    #[error("{}: {error}", path.display())]
    Io {
        /// File.
        path: PathBuf,
        /// Cause. Not a `source`, which would be printed a second time.
        error: std::io::Error,
    },
    /// The disk filled up while writing a checkpoint; what was written has been removed.
    #[error(
        "{}: no space left on the disk; nothing is left at {}: free some space or choose another output directory",
        file.display(),
        out.display()
    )]
    DiskFull {
        /// File that could not be written.
        file: PathBuf,
        /// Directory that was to be made.
        out: PathBuf,
    },
    /// Every variant of a kernel that the adapter can run gives wrong results on it.
    #[error(
        "adapter `{adapter}` ({driver}) computes `{kernel}` wrongly in every variant it can run: {failure}; update the driver, pass --device NAME to choose another adapter or --device cpu, see `wgquant doctor`, or pass --trust-gpu to use it all the same"
    )]
    Untrusted {
        /// Adapter name.
        adapter: String,
        /// Driver, its version and the backend.
        driver: String,
        /// Kernel, with its data format.
        kernel: String,
        /// What is wrong, for each variant.
        failure: String,
    },
    /// The GPU or its driver reported an error.
    #[error("GPU error in {what}: {message}")]
    Gpu {
        /// Kernel or operation.
        what: String,
        /// The driver's or wgpu's words.
        message: String,
    },
}

fn bytes(need: u64) -> String {
    if need == 0 { String::new() } else { format!(" of {need} bytes") }
}

fn beside(held: u64) -> String {
    if held == 0 { String::new() } else { format!(" beside the {held} bytes held") }
}

impl Error {
    /// Says what a tensor that did not fit was for.
    #[must_use]
    pub(crate) fn named(self, name: &str) -> Self {
        match self {
            Self::LimitExceeded { adapter, what, need, have } => {
                Self::LimitExceeded { adapter, what: format!("{what} (for {name})"), need, have }
            }
            Self::OutOfMemory { adapter, need, held, limit, message, .. } => {
                Self::OutOfMemory { adapter, what: name.to_owned(), need, held, limit, message }
            }
            other => other,
        }
    }

    /// Says which configuration asks for what this crate does not know.
    #[must_use]
    pub(crate) fn in_config(self, path: &Path) -> Self {
        match self {
            Self::UnsupportedModel { key, value, .. } => Self::UnsupportedModel { path: path.to_owned(), key, value },
            other => other,
        }
    }

    /// An I/O error at `path`.
    pub fn io(path: impl AsRef<Path>, error: std::io::Error) -> Self {
        Self::Io { path: path.as_ref().to_owned(), error }
    }

    /// A damaged checkpoint file at `path`.
    pub fn bad(path: impl AsRef<Path>, reason: impl Into<String>) -> Self {
        Self::BadCheckpoint { path: path.as_ref().to_owned(), reason: reason.into() }
    }

    /// An argument out of range.
    pub fn argument(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Argument { what: what.into(), reason: reason.into() }
    }
}
