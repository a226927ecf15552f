// out = scale * H x for a dense matrix H of signs: x is [outer, order, stride], and H mixes its middle axis.
// A workgroup makes up to 128 rows of H times 32 vectors of x. Of each four elements of a vector it makes all 16 sums of
// them with signs first, in workgroup memory, so that a row takes one read and one addition for four products.
#import index

struct Params {
    count: u32, // elements
    order: u32,
    stride: u32,
    scale: f32,
}

const WG = 256u;
const VECTORS = 32u;
const TEAMS = 8u; // threads of a vector
const ROWS = 128u; // 16 a thread, TEAMS apart

@group(0) @binding(0) var<storage, read> x: array<f32>; // [outer, order, stride]
@group(0) @binding(1) var<storage, read> signs: array<u32>; // [order, order / 32] bits of a row, rounded up; 1 for -1
@group(0) @binding(2) var<storage, read_write> out: array<f32>; // [outer, order, stride]
@group(0) @binding(3) var<uniform> params: Params;

// Of 32 elements of a vector, by fours: the sum with the signs of the bits 0 to 15.
var<workgroup> sums: array<f32, 4096>;

fn four(column: u32) -> vec4<u32> {
    return column + vec4(0u, 1u, 2u, 3u);
}

// Elements of a vector, clamped.
fn fetch(first: u32, columns: vec4<u32>) -> vec4<f32> {
    let at = first + min(columns, vec4(params.order - 1u)) * params.stride;
    return vec4(x[at.x], x[at.y], x[at.z], x[at.w]);
}

// The sign words of rows row + 8 k, clamped.
fn words4(row: u32, word: u32) -> vec4<u32> {
    let rows = min(row + vec4(0u, 8u, 16u, 24u), vec4(params.order - 1u));
    let at = rows * ((params.order + 31u) / 32u) + word;
    return vec4(signs[at.x], signs[at.y], signs[at.z], signs[at.w]);
}

fn put4(at: u32, v: vec4<f32>) {
    sums[at] = v.x;
    sums[at + VECTORS] = v.y;
    sums[at + 2u * VECTORS] = v.z;
    sums[at + 3u * VECTORS] = v.w;
}

fn put16(at: u32, v: vec4<f32>) {
    let low = vec4(v.x + v.y, v.y - v.x, v.x - v.y, -v.x - v.y);
    let high = vec4(v.z + v.w, v.w - v.z, v.z - v.w, -v.z - v.w);
    put4(at, low + high.x);
    put4(at + 4u * VECTORS, low + high.y);
    put4(at + 8u * VECTORS, low + high.z);
    put4(at + 12u * VECTORS, low + high.w);
}

// The sums of fours number j under the signs of four rows.
fn pick(words: vec4<u32>, j: u32, vector: u32) -> vec4<f32> {
    let at = (16u * j + ((words >> vec4(4u * j)) & vec4(15u))) * VECTORS + vector;
    return vec4(sums[at.x], sums[at.y], sums[at.z], sums[at.w]);
}

fn store(row: u32, first: u32, v: vec4<f32>) {
    let scaled = v * params.scale;
    for (var r = 0u; r < 4u && row + TEAMS * r < params.order; r += 1u) {
        out[first + (row + TEAMS * r) * params.stride] = scaled[r];
    }
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let index = linear_workgroup(workgroup, grid);
    let row_groups = (params.order + ROWS - 1u) / ROWS;
    let vectors = params.count / params.order;
    let block = index / row_groups * VECTORS;
    if block >= vectors {
        return;
    }
    let lane = thread % VECTORS;
    let team = thread / VECTORS;
    let vector = min(block + lane, vectors - 1u);
    let first = (vector / params.stride) * params.order * params.stride + vector % params.stride;
    let row = index % row_groups * ROWS + team;
    var made = mat4x4<f32>();
    var next = fetch(first, four(4u * team));
    for (var word = 0u; word < (params.order + 31u) / 32u; word += 1u) {
        let columns = four(32u * word + 4u * team);
        let now = select(vec4(0.0), next, columns < vec4(params.order));
        let words = array(words4(row, word), words4(row + 32u, word), words4(row + 64u, word), words4(row + 96u, word));
        next = fetch(first, columns + 32u); // under way while this step computes
        put16(16u * team * VECTORS + lane, now);
        workgroupBarrier();
        for (var j = 0u; j < 8u; j += 2u) {
            made[0] += pick(words[0], j, lane) + pick(words[0], j + 1u, lane);
            if row + 32u < params.order {
                made[1] += pick(words[1], j, lane) + pick(words[1], j + 1u, lane);
            }
            if row + 64u < params.order {
                made[2] += pick(words[2], j, lane) + pick(words[2], j + 1u, lane);
            }
            if row + 96u < params.order {
                made[3] += pick(words[3], j, lane) + pick(words[3], j + 1u, lane);
            }
        }
        workgroupBarrier();
    }
    if block + lane < vectors {
        store(row, first, made[0]);
        store(row + 32u, first, made[1]);
        store(row + 64u, first, made[2]);
        store(row + 96u, first, made[3]);
    }
}
