// One token of each sequence of the recurrence (selective_state_update) on a stored state (ssm_load): with S the rounded state,
// y = exp(L) S C + sum over j of exp(L - L_j) (B_j . C) x_j + D x over the recent tokens j, the new one included, which
// is appended to them. What is stored is H D S (shared/fwht.wgsl): S C = (H D S)(H D C). So y is exact but for the last rounding of S.
// One workgroup: `each` heads of one group of a sequence, which share what is made of B and C: with many sequences all of the
// group, with one sequence one head. Their rows (head, p) are taken 256 at a time: 8 threads share a row's codes, 16 a
// load, then each thread makes y of one row. Codes are loaded a round ahead.
// Formats: states of whole 16 elements (`quads`), and `any`. With packed products (`packed_dot`) the turned C is three int8
// digits to base 256 of 23 bits, with one scale for each 16 elements, as exact as f32: products of codes are then whole numbers.
//
// The importing shader has the bindings `codes`, `scales`, `clock`, `recent` and `y`, `params`, and what the token brings:
// `channel_of`, of x, B and C (called once for each that the workgroup needs), `raw_dt`, and `head_vector`, of dt_bias, a_log and d.
#import float
#import fwht
#import heads
#import recent
#ifdef packed_dot
#import dot
#else
#import pack
#endif

const WG = 256u;
const LINES = 1u;
const LANES = 8u; // threads of a row
const ROWS = 32u; // at a time
const PITCH = WG + 4u; // of a lane's sums, so that neither rows nor lanes meet in a bank
const TOKENS = WG / 32u; // dots at a time
const DIGITS = 8e6; // largest number of three digits

var<workgroup> sums: array<f32, LANES * PITCH>; // [lane, row]
var<workgroup> parts: array<f32, 64>;
var<workgroup> plain_b: array<f32, LINE>;
var<workgroup> plain_c: array<f32, LINE>;
var<workgroup> dots: array<f32, 64>; // of recent tokens' B and C

// 16 elements of the turned C.
#ifdef packed_dot
struct Sixteen {
    low: vec4<u32>,
    middle: vec4<u32>,
    high: vec4<u32>,
    scale: f32,
}
#else
alias Sixteen = mat4x4<f32>;
#endif

// Elements n, n + 32, n + 64 and n + 96 of the new token's B, or of a recent one's.
fn new_b(n: u32) -> vec4<f32> {
    let i = min(n + 32u * vec4(0u, 1u, 2u, 3u), vec4(params.state - 1u));
    return vec4(plain_b[i.x], plain_b[i.y], plain_b[i.z], plain_b[i.w]);
}

fn old_b(j: u32, at: u32, n: u32) -> vec4<f32> {
    let i = at + min(n + 32u * vec4(0u, 1u, 2u, 3u), vec4(params.state - 1u));
    return vec4(recent_b(j, i.x), recent_b(j, i.y), recent_b(j, i.z), recent_b(j, i.w));
}

// Such elements times those of C.
fn with_c(b: vec4<f32>, n: u32) -> f32 {
    let i = n + 32u * vec4(0u, 1u, 2u, 3u);
    let at = min(i, vec4(params.state - 1u));
    let c = vec4(plain_c[at.x], plain_c[at.y], plain_c[at.z], plain_c[at.w]);
    return dot(select(vec4(0.0), b, i < vec4(params.state)), c);
}

// Four elements of the turned C; zeros beyond the state.
fn four(word: u32) -> vec4<f32> {
    let at = min(4u * word, LINE - 4u);
    let c = vec4(line[at], line[at + 1u], line[at + 2u], line[at + 3u]);
    return select(vec4(0.0), c, 4u * word < params.state);
}

#ifdef packed_dot
// The low, middle and high digits of four whole numbers, packed.
fn digits(numbers: vec4<f32>) -> vec3<u32> {
    let whole = vec4<i32>(round(numbers));
    let low = (whole << vec4(24u)) >> vec4(24u);
    let rest = (whole - low) >> vec4(8u);
    let middle = (rest << vec4(24u)) >> vec4(24u);
    return vec3(pack4xI8(low), pack4xI8(middle), pack4xI8((rest - middle) >> vec4(8u)));
}
#endif

// Elements 16 quad and on of the turned C.
fn sixteen(quad: u32) -> Sixteen {
    let c = mat4x4(four(4u * quad), four(4u * quad + 1u), four(4u * quad + 2u), four(4u * quad + 3u));
#ifdef packed_dot
    let most = max(max(abs(c[0]), abs(c[1])), max(abs(c[2]), abs(c[3])));
    let largest = max(max(most.x, most.y), max(most.z, most.w));
    let inverse = select(DIGITS / largest, 0.0, largest < 1e-30);
    let d0 = digits(c[0] * inverse);
    let d1 = digits(c[1] * inverse);
    let d2 = digits(c[2] * inverse);
    let d3 = digits(c[3] * inverse);
    let low = vec4(d0.x, d1.x, d2.x, d3.x);
    let middle = vec4(d0.y, d1.y, d2.y, d3.y);
    return Sixteen(low, middle, vec4(d0.z, d1.z, d2.z, d3.z), largest / DIGITS);
#else
    return c;
#endif
}

// Words 4 quad and on of a row's codes; the last one for those beyond the end.
fn fetch(row: u32, quad: u32) -> vec4<u32> {
#ifdef quads
    let quads = params.state / 16u;
    return codes[row * quads + min(quad, quads - 1u)];
#else
    let words = params.state / 4u;
    let at = row * words + min(4u * quad + vec4(0u, 1u, 2u, 3u), vec4(words - 1u));
    return vec4(codes[at.x], codes[at.y], codes[at.z], codes[at.w]);
#endif
}

// 16 codes times 16 elements of the turned C.
fn product(words: vec4<u32>, c: Sixteen) -> f32 {
#ifdef packed_dot
    let low = (dot_codes(words.x, c.low.x) + dot_codes(words.y, c.low.y))
        + (dot_codes(words.z, c.low.z) + dot_codes(words.w, c.low.w));
    let middle = (dot_codes(words.x, c.middle.x) + dot_codes(words.y, c.middle.y))
        + (dot_codes(words.z, c.middle.z) + dot_codes(words.w, c.middle.w));
    let high = (dot_codes(words.x, c.high.x) + dot_codes(words.y, c.high.y))
        + (dot_codes(words.z, c.high.z) + dot_codes(words.w, c.high.w));
    return c.scale * (f32(low) + 256.0 * f32(middle + 256 * high));
#else
    let near = dot(vec4<f32>(codes8(words.x)), c[0]) + dot(vec4<f32>(codes8(words.y)), c[1]);
    return near + dot(vec4<f32>(codes8(words.z)), c[2]) + dot(vec4<f32>(codes8(words.w)), c[3]);
#endif
}

// The thread's part of a row's codes, of which the first are `near`, times the turned C.
fn row_part(row: u32, lane: u32, near: vec4<u32>, c: Sixteen) -> f32 {
    var part = product(near, c);
    for (var quad = lane + LANES; 16u * quad < params.state; quad += LANES) {
        part += product(fetch(row, quad), sixteen(quad));
    }
    return part;
}

// Four tiles of rows at a time: of each the words of this thread's row. Rows beyond the end are the last.
struct Ahead {
    a: vec4<u32>,
    b: vec4<u32>,
    c: vec4<u32>,
    d: vec4<u32>,
}

fn ahead(first: u32, row: u32, end: u32, lane: u32) -> Ahead {
    let rows = first + min(row + ROWS * vec4(0u, 1u, 2u, 3u), vec4(end - 1u));
    return Ahead(fetch(rows.x, lane), fetch(rows.y, lane), fetch(rows.z, lane), fetch(rows.w, lane));
}

fn put_parts(first: u32, row: u32, end: u32, place: u32, lane: u32, words: Ahead, c: Sixteen) {
    let rows = first + min(row + ROWS * vec4(0u, 1u, 2u, 3u), vec4(end - 1u));
    let at = lane * PITCH + place;
    sums[at] = row_part(rows.x, lane, words.a, c);
    sums[at + ROWS] = row_part(rows.y, lane, words.b, c);
    sums[at + 2u * ROWS] = row_part(rows.z, lane, words.c, c);
    sums[at + 3u * ROWS] = row_part(rows.w, lane, words.d, c);
}

// dots[j] of all recent tokens and the new one.
fn make_dots(thread: u32, last: u32, in_group: u32) {
    let token = thread / 32u;
    let n = thread % 32u;
    for (var j0 = 0u; j0 <= last; j0 += TOKENS) {
        let j = j0 + token;
        let place = min(j, params.window - 1u);
        var sum = with_c(select(old_b(place, in_group, n), new_b(n), j == last), n);
        if params.state > 128u {
            let far = n + 128u;
            sum += with_c(select(old_b(place, in_group, far), new_b(far), j == last), far);
        }
        workgroupBarrier(); // the last tokens' parts may still be read
        sums[thread] = sum;
        workgroupBarrier();
        if thread < 64u {
            let at = 4u * thread;
            parts[thread] = (sums[at] + sums[at + 1u]) + (sums[at + 2u] + sums[at + 3u]);
        }
        workgroupBarrier();
        if n == 0u && j <= last {
            var all = 0.0;
            for (var i = 0u; i < 8u; i++) {
                all += parts[8u * token + i];
            }
            dots[j] = all;
        }
    }
    workgroupBarrier();
}

// What recent tokens before the last give a row.
fn since(row: u32, head: u32, now: f32, last: u32) -> f32 {
    var sum = 0.0;
    for (var j = 0u; j < last; j += 4u) {
        let i = j + vec4(0u, 1u, 2u, 3u);
        let at = min(i, vec4(last - 1u));
        let x = vec4(recent_x(at.x, row), recent_x(at.y, row), recent_x(at.z, row), recent_x(at.w, row));
        let logs = vec4(recent_log(at.x, head), recent_log(at.y, head), recent_log(at.z, head), recent_log(at.w, head));
        let weights = exp(now - logs) * vec4(dots[at.x], dots[at.y], dots[at.z], dots[at.w]);
        sum += dot(select(vec4(0.0), weights, i < vec4(last)), x);
    }
    return sum;
}

fn update(item: u32, thread: u32) {
    let mine = heads_of(item);
    let sequence = mine.sequence;
    if sequence >= params.sequences {
        return;
    }
    let head0 = mine.first;
    let in_group = mine.in_group;
    let d_inner = params.heads * params.head_dim;
    let b_at = d_inner + in_group; // channels
    let c_at = b_at + params.groups * params.state;
    let last = min(clock[1], params.window - 1u); // the new token's place
    start_recent(sequence);

    // Rows count from the workgroup's first; rows beyond the last are the last, and give nothing.
    let own0 = head0 * params.head_dim;
    let end = params.each * params.head_dim;
    let first = sequence * d_inner + own0;
    let lane = thread % LANES;
    let place = thread / LANES;
    var near = ahead(first, place, end, lane);
    var far = Ahead();
    if end > 4u * ROWS {
        far = ahead(first, place + 4u * ROWS, end, lane);
    }
    for (var n = thread; n < params.state; n += WG) {
        plain_b[n] = channel_of(sequence, b_at + n);
        let c = channel_of(sequence, c_at + n);
        plain_c[n] = c;
        line[n] = sign_at(n, params.block) * c;
    }
    transform_line(params.state, params.block, thread);
    make_dots(thread, last, in_group);
    let c = sixteen(lane);

    for (var row0 = 0u; row0 < end; row0 += WG) {
        let row = min(row0 + thread, end - 1u);
        let head = head0 + row / params.head_dim;
        let scale = scales[first + row];
        var x = 0.0;
        if row0 + thread < end {
            x = channel_of(sequence, own0 + row);
        }
        let step = clamp(softplus(raw_dt(sequence, head) + head_vector(head)), params.dt_min, params.dt_max);
        var now = -exp(head_vector(params.heads + head)) * step;
        if last > 0u {
            now += recent_log(last - 1u, head);
        }
        var sum = (step * dots[last] + head_vector(2u * params.heads + head)) * x;
        sum += since(own0 + row, head, now, last);

        put_parts(first, row0 + place, end, place, lane, near, c);
        if row0 + WG < end {
            near = ahead(first, row0 + WG + place, end, lane);
        }
        if row0 + 4u * ROWS < end {
            put_parts(first, row0 + 4u * ROWS + place, end, place + 4u * ROWS, lane, far, c);
            far = ahead(first, row0 + WG + 4u * ROWS + place, end, lane);
        }
        workgroupBarrier();
        var stored = 0.0;
        for (var i = 0u; i < LANES; i++) {
            stored += sums[i * PITCH + thread];
        }
        if row0 + thread < end {
            y[first + row] = sum + exp(now) / sqrt(f32(params.block)) * scale * stored;
            // Nobody reads the new token's place before the next launch.
            recent[recent_row(last) + params.heads + own0 + row] = step * x;
            if row % params.head_dim == 0u {
                recent[recent_row(last) + head] = now;
            }
        }
        workgroupBarrier(); // the sums may still be read
    }
    if head0 % (params.heads / params.groups) == 0u {
        for (var n = thread; n < params.state; n += WG) {
            recent[recent_row(last) + params.heads + d_inner + in_group + n] = plain_b[n];
        }
    }
}
