//! Typed launches, emitted by build.rs from the shaders' bindings: a changed binding is a compile error here
//! or in the host file of the kernel.

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
