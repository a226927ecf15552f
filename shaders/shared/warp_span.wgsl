// The fast Walsh-Hadamard transform (QuaRot, arXiv:2404.00456) of a span of 4096 elements by four subgroups of 32 threads, 32 elements a thread:
// Sylvester's matrix in natural order, unscaled. Bits 0, 1 and 9 to 11 of an element's number are a thread's own, 2 to 6 its subgroup's, and 7
// and 8 change places with 9 and 10, through half of the span's workgroup memory at a time.
#import butterflies
#import warps

const WG = 128u;

// Quads, one a column, 128 apart from the first; when transformed 32 apart. Those of `b` begin 512 after those of `a`.
struct Span {
    a: mat4x4<f32>,
    b: mat4x4<f32>,
}

var<workgroup> swapped: array<vec4<f32>, 512>;

// A thread's first quad, and when transformed.
fn first_quad(place: Place) -> u32 {
    return 32u * warp_of(place) + lane_of(place);
}

fn last_quad(place: Place) -> u32 {
    return 128u * warp_of(place) + lane_of(place);
}

fn put_quads(m: mat4x4<f32>, place: Place) {
    let at = first_quad(place);
    swapped[at] = m[0];
    swapped[at + 128u] = m[1];
    swapped[at + 256u] = m[2];
    swapped[at + 384u] = m[3];
}

fn swapped_quads(place: Place) -> mat4x4<f32> {
    let at = last_quad(place);
    return mat4x4(swapped[at], swapped[at + 32u], swapped[at + 64u], swapped[at + 96u]);
}

// Runs of 2^log_run elements. Every thread must call it.
fn transform_span(span: Span, log_run: u32, place: Place) -> Span {
    let near = vec4(0u, 1u, 9u, 10u);
    var v = Span(butterflies(span.a, near, log_run), butterflies(span.b, near, log_run));
    if 11u < log_run {
        v = Span(v.a + v.b, v.a - v.b);
    }
    for (var level = 2u; level < min(log_run, 7u); level++) {
        v = Span(crossed(v.a, 1u << (level - 2u), place), crossed(v.b, 1u << (level - 2u), place));
    }
    let far = vec4(12u, 12u, 7u, 8u);
    put_quads(v.a, place);
    workgroupBarrier();
    let a = butterflies(swapped_quads(place), far, log_run);
    workgroupBarrier();
    put_quads(v.b, place);
    workgroupBarrier();
    return Span(a, butterflies(swapped_quads(place), far, log_run));
}
