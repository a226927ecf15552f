// chunk_products.wgsl on cooperative matrices, as both forms have it (chunk_products.coop.wgsl, chunk_products.half_coop.wgsl). One
// workgroup: 64 tokens l by 64 tokens s of one group, 16 l a subgroup, UNITS units, of 16 bytes, of the state at a time. The importing
// shader has the bindings `xbc` in units and `products`, `const NUMBERS` of a unit, `TILE`, vec4s of a tile, `PITCH_X` and `PITCH_W`,
// those from a token to the next, `stage`, which puts a step's units into the tiles, `add_step`, and `store_quad`.
#import coop_tiles
#import index

const WG = 128u;
const SIDE = 64u; // of a tile, in tokens
const UNITS = 8u; // of a step
const SUM_PITCH = 4u; // of sums

var<workgroup> tile_x: array<vec4<f16>, TILE>; // C
var<workgroup> tile_w: array<vec4<f16>, TILE>; // B
var<workgroup> sums: array<vec4<f32>, 256>; // a matrix of each subgroup

// By 16 tokens s.
struct Sums {
    c0: Sum,
    c1: Sum,
    c2: Sum,
    c3: Sum,
}

struct Units {
    u0: vec4<u32>,
    u1: vec4<u32>,
    u2: vec4<u32>,
    u3: vec4<u32>,
}

// A unit of every sixteenth token from `token` on; beyond the last the last again.
fn fetch(token: u32, last: u32, column: u32) -> Units {
    let stride = (params.heads * params.head_dim + 2u * params.groups * params.state) / NUMBERS;
    let at = min(token + vec4(0u, 16u, 32u, 48u), vec4(last)) * stride + column;
    return Units(xbc[at.x], xbc[at.y], xbc[at.z], xbc[at.w]);
}

// Tokens s 16 part.. of the tile's 64, eight for each l a thread.
fn store(thread: u32, part: u32, row0: u32, last: u32, group: u32, first: u32, key0: u32) {
    let quads = (params.chunk + NUMBERS - 1u) / NUMBERS * (NUMBERS / 4u);
    let s = key0 + 16u * part + thread % 4u * 4u; // four threads a row
    let quad = (s - first) / 4u;
    for (var i = 0u; i < 2u; i++) {
        let l = row0 + thread / 4u + 32u * i;
        if l <= last && quad < quads {
            let before = vec4(s, s + 1u, s + 2u, s + 3u) <= vec4(l);
            store_quad((l * params.groups + group) * quads + quad, select(vec4(0.0), sums[thread + WG * i], before));
        }
    }
}

fn product(workgroup: vec3<u32>, grid: vec3<u32>, place: Place) {
    let thread = place.thread;
    let tiles = (params.chunk + SIDE - 1u) / SIDE;
    var item = linear_workgroup(workgroup, grid);
    let key_tile = item % tiles;
    item /= tiles;
    let row_tile = item % tiles;
    item /= tiles;
    let group = item % params.groups;
    let first = item / params.groups * params.chunk;
    let row0 = first + row_tile * SIDE;
    let key0 = first + key_tile * SIDE;
    let end = min(first + params.chunk, params.tokens);
    if row0 >= end {
        return;
    }
    let last = end - 1u;
    let n_end = params.state / NUMBERS;
    let b_at = params.heads * params.head_dim / NUMBERS + group * n_end;
    let c_at = b_at + params.groups * n_end;
    let warp = warp_of(place);
    let a = warp * 16u * PITCH_X;
    let region = warp * 64u;
    var total = Sums();
    // Tiles of later tokens alone are zero.
    for (var n = 0u; n < select(0u, n_end, key_tile <= row_tile); n += UNITS) {
        let unit = n + thread % UNITS;
        let column = min(unit, n_end - 1u);
        let c = fetch(row0 + thread / UNITS, last, c_at + column);
        let b = fetch(key0 + thread / UNITS, last, b_at + column);
        workgroupBarrier(); // the last step's may still be read
        stage(thread, c, b, select(0.0, 1.0, unit < n_end));
        workgroupBarrier();
        add_step(a, &total);
    }
    put_sum(total.c0, region);
    workgroupBarrier();
    store(thread, 0u, row0, last, group, first, key0);
    workgroupBarrier();
    put_sum(total.c1, region);
    workgroupBarrier();
    store(thread, 1u, row0, last, group, first, key0);
    workgroupBarrier();
    put_sum(total.c2, region);
    workgroupBarrier();
    store(thread, 2u, row0, last, group, first, key0);
    workgroupBarrier();
    put_sum(total.c3, region);
    workgroupBarrier();
    store(thread, 3u, row0, last, group, first, key0);
}
