//! Looking at what each op of a pass gives. Costs nothing where nobody looks.

use crate::error::Result;
use crate::gpu::{DeviceTensor, Plan};

/// Sees a named tensor as soon as the plan has computed it.
pub type Look<'a> = dyn FnMut(&mut Plan, String, &DeviceTensor) -> Result<()> + 'a;

/// Whoever looks at a pass, and the block it is in.
pub(super) struct Taps<'a> {
    look: Option<&'a mut Look<'a>>,
    /// `Some` within a block.
    layer: Option<usize>,
    /// What a block adds to the stream is not wanted.
    inputs_only: bool,
}

impl<'a> Taps<'a> {
    /// Nobody looks.
    pub(super) fn none() -> Self {
        Self { look: None, layer: None, inputs_only: false }
    }

    /// `look` sees everything.
    pub(super) fn new(look: &'a mut Look<'a>) -> Self {
        Self { look: Some(look), layer: None, inputs_only: false }
    }

    /// `look` sees everything up to the inputs of the layer that writes to the stream, which is left out.
    pub(super) fn of_inputs(look: &'a mut Look<'a>) -> Self {
        Self { inputs_only: true, ..Self::new(look) }
    }

    /// Is the layer that writes to the stream left out?
    pub(super) fn inputs_only(&self) -> bool {
        self.inputs_only
    }

    /// Does anybody look? Ops that are one launch elsewhere then run apart, to be seen one by one.
    pub(super) fn looking(&self) -> bool {
        self.look.is_some()
    }

    /// The stream entering block `layer`, or leaving the last: `hidden.{layer}`.
    pub(super) fn stream(&mut self, plan: &mut Plan, layer: usize, tensor: &DeviceTensor) -> Result<()> {
        self.layer = Some(layer);
        self.look.as_mut().map_or(Ok(()), |look| look(plan, format!("hidden.{layer}"), tensor))
    }

    /// What an op gives: `layer.{i}.{op}` within block i, else `{op}`.
    pub(super) fn op(&mut self, plan: &mut Plan, op: &'static str, tensor: &DeviceTensor) -> Result<()> {
        let Some(look) = &mut self.look else { return Ok(()) };
        let name = self.layer.map_or_else(|| op.to_owned(), |i| format!("layer.{i}.{op}"));
        look(plan, name, tensor)
    }

    /// What an op behind the blocks gives: `{op}`.
    pub(super) fn end(&mut self, plan: &mut Plan, op: &'static str, tensor: &DeviceTensor) -> Result<()> {
        self.layer = None;
        self.op(plan, op, tensor)
    }
}
