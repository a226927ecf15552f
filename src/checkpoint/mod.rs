//! Model directories on disk: reading safetensors shards safely, writing new ones whole or not at all.
//!
//! Nothing here knows what a model is; [`crate::model`] gives the tensors their meaning.

mod hub;
mod json;
mod packed;
mod reader;
mod shards;
#[cfg(not(target_arch = "wasm32"))]
mod verify;
#[cfg(not(target_arch = "wasm32"))]
mod writer;

pub use hub::locate;
pub use json::read_json;
pub use packed::{pack_bits, packed_words, unpack_bits};
pub use reader::{Checkpoint, GENERATION_CONFIG};
pub use shards::{StoredType, TensorInfo};
#[cfg(not(target_arch = "wasm32"))]
pub use verify::{Difference, Verified, verify};
#[cfg(not(target_arch = "wasm32"))]
pub use writer::{CheckpointWriter, DEFAULT_SHARD_BYTES, MANIFEST, TOOL, Written};

/// Lower-case hexadecimal, as `sha256sum` prints it.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
