// H x over runs of `block` (a power of two) of a line in workgroup memory, H Sylvester's matrix. Only sums and
// differences of f32: the same bits on every device. The importing shader defines `const WG` and, as it may turn several lines as
// one, `const LINES`.
// States are turned by H D, D signs drawn at random (QuaRot, arXiv:2404.00456): what all elements have in common, and B
// behind SiLU has a mean, H alone would gather in one element.
#import hash

const LINE = 256u; // most elements of a line

var<workgroup> line: array<f32, LINES * LINE>;

// Element n of D, 1 or -1; 1 where nothing is turned.
fn sign_at(n: u32, block: u32) -> f32 {
    return select(1.0 - 2.0 * f32(hash(n) & 1u), 1.0, block == 1u);
}

// Called by every thread of the workgroup; waits for what was written to the line, and ends with a barrier.
fn transform_line(count: u32, block: u32, thread: u32) {
    workgroupBarrier();
    for (var half = 1u; half < block; half *= 2u) {
        for (var i = thread; i < count / 2u; i += WG) {
            let at = i / half * 2u * half + i % half;
            let a = line[at];
            let b = line[at + half];
            line[at] = a + b;
            line[at + half] = a - b;
        }
        workgroupBarrier();
    }
}
