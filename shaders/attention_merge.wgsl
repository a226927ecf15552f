// The results of attention_split.wgsl's workgroups put together (shared/merged_parts.wgsl). One workgroup a row (token, query head).
#import index
#import merged_parts

struct Params {
    sequences: u32,
    tokens: u32, // of a sequence
    heads: u32,
    head_dim: u32, // a multiple of 4
    max: u32, // rows of a sequence's cache
    splits: u32, // at most WG
}

@group(0) @binding(0) var<storage, read> parts: array<vec4<f32>>; // [sequences * tokens * heads * splits, head_dim]
@group(0) @binding(1) var<storage, read> stats: array<vec2<f32>>; // [sequences * tokens * heads * splits, 2] peak and sum
@group(0) @binding(2) var<storage, read> cursor: array<u32>; // [sequences]
@group(0) @binding(3) var<storage, read_write> out: array<vec4<f32>>; // [sequences * tokens, heads * head_dim]
@group(0) @binding(4) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, place: Place) {
    let row = linear_workgroup(workgroup, grid);
    if row >= params.sequences * params.tokens * params.heads {
        return;
    }
    let y = merged(row, place);
    if place.thread < params.head_dim / 4u {
        out[row * params.head_dim / 4u + place.thread] = y;
    }
}
