// The Hadamard transform of runs of up to 32 columns and int8 codes with a scale for each 32 columns, which are one pass, since no
// thread needs to know more than its group: 8 threads a group, a vec4 each, whose groups are one after the other in all rows. Or of the squared ReLU of what slices of
// a product give (split-K; split_k_reduce.wgsl), which is added up here: a launch less.
#import index
#import int8_codes
#import runs4
#import top

struct Params {
    groups: u32, // of 32 columns
    log_run: u32, // a run is 2^log_run columns, at most 32; 0: no transform
    unit: f32, // scale of the transform
    slices: u32, // of sums, of whose squared ReLU this is; 0: of x as it is
}

const WG = 256u;
const EACH = 4u; // vec4s of a thread

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>; // [max(slices, 1), groups, 32]
@group(0) @binding(1) var<storage, read_write> codes: array<u32>; // [groups, 32] int8
@group(0) @binding(2) var<storage, read_write> scales: array<f32>; // [groups]
@group(0) @binding(3) var<uniform> params: Params;

fn inputs(at: vec4<u32>) -> mat4x4<f32> {
    return mat4x4(x[at.x], x[at.y], x[at.z], x[at.w]);
}

fn relu_squared(v: vec4<f32>) -> vec4<f32> {
    return select(v * v, vec4(0.0), v < vec4(0.0));
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    place: Place,
) {
    let quads = 8u * params.groups;
    let first = EACH * WG * linear_workgroup(workgroup, grid) + place.thread;
    let spots = min(first + WG * vec4(0u, 1u, 2u, 3u), vec4(quads - 1u)); // beyond the end the last again
    var m = inputs(spots);
    if params.slices > 0u {
        for (var s = 1u; s < params.slices; s++) {
            m += inputs(s * quads + spots);
        }
        m = mat4x4(relu_squared(m[0]), relu_squared(m[1]), relu_squared(m[2]), relu_squared(m[3]));
    }
    let all = array(m[0], m[1], m[2], m[3]);
    for (var i = 0u; i < EACH; i++) {
        let v = transformed(all[i], params.log_run, params.unit, place);
        let largest = run_max(vec4(top(v)), 8u, place).x;
        let at = first + WG * i;
        if at < quads {
            codes[at] = codes_of(v, group_inverse_of(largest));
            if at % 8u == 0u {
                scales[at / 8u] = group_scale_of(largest);
            }
        }
    }
}
