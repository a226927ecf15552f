// out = scale * H x for a dense matrix H of signs: x is [outer, order, stride], and H mixes its middle axis.
// A thread makes 8 rows of H times one vector of x, so neighbours read neighbouring elements and one word of
// signs serves 32 products: word = 4 columns (bytes) of 8 rows (bits), 1 for -1.
#import index

struct Params {
    count: u32, // elements
    order: u32,
    stride: u32,
    scale: f32,
}

const WG = 64u;

@group(0) @binding(0) var<storage, read> x: array<f32>; // [outer, order, stride]
@group(0) @binding(1) var<storage, read> signs: array<u32>; // [order / 8, order / 4], both rounded up
@group(0) @binding(2) var<storage, read_write> out: array<f32>; // [outer, order, stride]
@group(0) @binding(3) var<uniform> params: Params;

fn store(row: u32, first: u32, v: vec4<f32>) {
    let scaled = v * params.scale;
    for (var r = 0u; r < 4u && row + r < params.order; r += 1u) {
        out[first + (row + r) * params.stride] = scaled[r];
    }
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let index = linear_workgroup(workgroup, grid);
    let row_blocks = (params.order + 7u) / 8u;
    let row_block = index % row_blocks;
    let vector = (index / row_blocks) * WG + thread;
    if vector >= params.count / params.order {
        return;
    }
    let first = (vector / params.stride) * params.order * params.stride + vector % params.stride;
    let words = (params.order + 3u) / 4u;
    var low = vec4(0.0);
    var high = vec4(0.0);
    for (var w = 0u; w < words; w += 1u) {
        var bits = vec4(signs[row_block * words + w]);
        let end = min(4u * w + 4u, params.order);
        for (var column = 4u * w; column < end; column += 1u) {
            let v = vec4(x[first + column * params.stride]);
            low += select(v, -v, (bits & vec4(1u, 2u, 4u, 8u)) != vec4(0u));
            high += select(v, -v, (bits & vec4(16u, 32u, 64u, 128u)) != vec4(0u));
            bits >>= vec4(8u);
        }
    }
    store(8u * row_block, first, low);
    store(8u * row_block + 4u, first, high);
}
