// Integer products of few rows of codes, where rows of the weight, and groups of it, are whole vec4s of words: what a team of
// threads loads of 4 rows of the weight it uses for 16 rows of codes (with the word `few` 8), from registers. Each takes
// every vec4 after those of the others; the next ones are on the way meanwhile. Four teams are a workgroup: they read the
// same codes at about the same time. With the word `subgroups` a team is a subgroup, of any size, which adds up what its
// threads have; else 32 threads, who do so through workgroup memory. The importing shader has the bindings, `const QUAD`, the
// codes of a vec4 of weight, `const SHIFT`, by which its products are too large, `columns_of`, which makes int8 codes of four
// vec4s, and `add_quad`, which adds their products with those of 4 rows of codes.
#import int_block
#import place
#import slices
#import store_columns
#import weight_scales

const WG = 128u;
const TEAMS = 4u;
#ifndef few
const ROWS = 16u; // of codes
#else
const ROWS = 8u;
#endif
const COLS = 4u * TEAMS; // rows of weight

struct Quads {
    a: vec4<u32>,
    b: vec4<u32>,
    c: vec4<u32>,
    d: vec4<u32>,
}

// Four rows of `count`, the last again beyond the end: computed and not stored.
fn four(first: u32, count: u32) -> vec4<u32> {
    return min(vec4(first, first + 1u, first + 2u, first + 3u), vec4(count - 1u));
}

fn groups_of(group: u32) -> u32 {
    return (params.k + group - 1u) / group;
}

// One vec4 of each row of the weight; `rows`: where they start. Likewise of codes.
fn fetch_weight(rows: vec4<u32>, at: u32) -> Quads {
    let i = rows + at;
    return Quads(weight[i.x], weight[i.y], weight[i.z], weight[i.w]);
}

fn fetch_codes(rows: vec4<u32>, at: u32) -> Quads {
    let i = rows + at;
    return Quads(codes[i.x], codes[i.y], codes[i.z], codes[i.w]);
}

fn fetch_scales(rows: vec4<u32>) -> vec4<f32> {
    return vec4(scales[rows.x], scales[rows.y], scales[rows.z], scales[rows.w]);
}

// A thread's place in a team.
struct Member {
    team: u32,
    first: u32, // vec4 of a row
    step: u32,
}

// Of four rows of codes and the teams' rows of the weight: four floats, or integers, as bits.
#ifdef subgroups
var<workgroup> parts: array<vec4<u32>, 4u * TEAMS>;
var<workgroup> subgroups: u32;

fn member_of(place: Place) -> Member {
    return Member(place.subgroup, subgroupExclusiveAdd(1u), subgroupAdd(1u));
}

// Teams at work: by way of memory the number is known to be the same for all threads.
fn count_teams(place: Place) -> u32 {
    if place.thread == 0u {
        subgroups = place.subgroups;
    }
    return min(workgroupUniformLoad(&subgroups), TEAMS);
}

fn add_up(bits: vec4<u32>, whole: bool) -> vec4<u32> {
    if whole {
        return bitcast<vec4<u32>>(subgroupAdd(bitcast<vec4<i32>>(bits)));
    }
    return bitcast<vec4<u32>>(subgroupAdd(bitcast<vec4<f32>>(bits)));
}

fn put_parts(place: Place, member: Member, teams: u32, rows: array<vec4<u32>, 4>, whole: bool) {
    let a = add_up(rows[0], whole);
    let b = add_up(rows[1], whole);
    let c = add_up(rows[2], whole);
    let d = add_up(rows[3], whole);
    if member.first == 0u && member.team < teams {
        parts[member.team] = a;
        parts[TEAMS + member.team] = b;
        parts[2u * TEAMS + member.team] = c;
        parts[3u * TEAMS + member.team] = d;
    }
}

fn team_sum(row: u32, team: u32, col: u32, whole: bool) -> f32 {
    let word = parts[row * TEAMS + team][col];
    return select(bitcast<f32>(word), f32(bitcast<i32>(word) >> SHIFT), whole);
}
#else
const THREADS = WG / TEAMS; // of a team

var<workgroup> parts: array<vec4<u32>, 4u * WG>;

fn member_of(place: Place) -> Member {
    return Member(place.thread / THREADS, place.thread % THREADS, THREADS);
}

fn count_teams(place: Place) -> u32 {
    return TEAMS;
}

// Written out: a loop would index registers.
fn put_parts(place: Place, member: Member, teams: u32, rows: array<vec4<u32>, 4>, whole: bool) {
    parts[place.thread] = rows[0];
    parts[WG + place.thread] = rows[1];
    parts[2u * WG + place.thread] = rows[2];
    parts[3u * WG + place.thread] = rows[3];
}

// Each thread begins elsewhere, spread over the memory banks.
fn team_sum(row: u32, team: u32, col: u32, whole: bool) -> f32 {
    let first = row * WG + team * THREADS;
    var sum = 0.0;
    var exact = 0i;
    for (var i = 0u; i < THREADS; i++) {
        let word = parts[first + (i + team + row) % THREADS][col];
        if whole {
            exact += bitcast<i32>(word);
        } else {
            sum += bitcast<f32>(word);
        }
    }
    return select(sum, f32(exact >> SHIFT), whole);
}
#endif

fn bits_of(m: mat4x4<f32>) -> array<vec4<u32>, 4> {
    return array(bitcast<vec4<u32>>(m[0]), bitcast<vec4<u32>>(m[1]), bitcast<vec4<u32>>(m[2]), bitcast<vec4<u32>>(m[3]));
}

fn bits_of_sums(s: Sums) -> array<vec4<u32>, 4> {
    return array(bitcast<vec4<u32>>(s[0]), bitcast<vec4<u32>>(s[1]), bitcast<vec4<u32>>(s[2]), bitcast<vec4<u32>>(s[3]));
}

// Stores outputs of four rows of codes, `down` from the tile's first, of the columns that the teams have in this pass over them. Every thread
// must call it.
fn finish(place: Place, member: Member, teams: u32, bits: array<vec4<u32>, 4>, down: u32, tile: Tile, pass_of: u32, whole: bool) {
    workgroupBarrier(); // the last ones may still be read
    put_parts(place, member, teams, bits, whole);
    workgroupBarrier();
    let r = tile.row + down + place.thread / COLS;
    let block = place.thread % COLS / 4u;
    let c = tile.col + place.thread % COLS;
    if place.thread < 4u * COLS && block / teams == pass_of && r < params.m && c < params.n {
        var y = team_sum(place.thread / COLS, block % teams, place.thread % 4u, whole);
        if whole {
            y *= scales[r * groups_of(params.x_group)] * four_scales(first_scales(c, groups_of(params.group)))[c % 4u];
        }
        store_at(tile.above + r, c, y);
    }
}

// Where each row of codes and of the weight has one scale: one int32 sum.
fn whole_rows(place: Place, member: Member, teams: u32, tile: Tile, pass_of: u32) {
    let quads = params.k / QUAD;
    let block = member.team + pass_of * teams;
    let weight_rows = four(tile.col + 4u * block, params.n) * quads;
    let x_quads = params.k / 16u;
    let rows0 = four(tile.row, params.m) * x_quads;
    let rows1 = four(tile.row + 4u, params.m) * x_quads;
    var s0 = Sums();
    var s1 = Sums();
#ifndef few
    let rows2 = four(tile.row + 8u, params.m) * x_quads;
    let rows3 = four(tile.row + 12u, params.m) * x_quads;
    var s2 = Sums();
    var s3 = Sums();
#endif
    // Teams that are too many have nothing to do.
    let end = select(0u, tile.end / QUAD, member.team < teams && block < TEAMS);
    let first = tile.first / QUAD + member.first;
    var next = fetch_weight(weight_rows, min(first, quads - 1u));
    for (var at = first; at < end; at += member.step) {
        let columns = columns_of(next);
        next = fetch_weight(weight_rows, min(at + member.step, quads - 1u));
        s0 = add_quad(s0, rows0, at, columns);
        s1 = add_quad(s1, rows1, at, columns);
#ifndef few
        s2 = add_quad(s2, rows2, at, columns);
        s3 = add_quad(s3, rows3, at, columns);
#endif
    }
    finish(place, member, teams, bits_of_sums(s0), 0u, tile, pass_of, true);
    finish(place, member, teams, bits_of_sums(s1), 4u, tile, pass_of, true);
#ifndef few
    finish(place, member, teams, bits_of_sums(s2), 8u, tile, pass_of, true);
    finish(place, member, teams, bits_of_sums(s3), 12u, tile, pass_of, true);
#endif
}

// Scales of four rows of codes at vec4 `at` of the weight; where there is one a row, those from before the loop.
fn scales_at(rows: vec4<u32>, at: u32, one: vec4<f32>) -> vec4<f32> {
    if params.x_group == params.k {
        return one;
    }
    return fetch_scales(rows + at * QUAD / params.x_group);
}

// Else each vec4's sum is scaled, and the rest is f32.
fn spans(place: Place, member: Member, teams: u32, tile: Tile, pass_of: u32) {
    let quads = params.k / QUAD;
    let block = member.team + pass_of * teams;
    let weight_rows = four(tile.col + 4u * block, params.n) * quads;
    let col_scales = first_scales(min(tile.col + 4u * block, params.n - 1u), groups_of(params.group));
    let x_quads = params.k / 16u;
    let x_groups = groups_of(params.x_group);
    let rows0 = four(tile.row, params.m);
    let rows1 = four(tile.row + 4u, params.m);
    let one0 = fetch_scales(rows0 * x_groups);
    let one1 = fetch_scales(rows1 * x_groups);
    var t0 = mat4x4<f32>();
    var t1 = mat4x4<f32>();
#ifndef few
    let rows2 = four(tile.row + 8u, params.m);
    let rows3 = four(tile.row + 12u, params.m);
    let one2 = fetch_scales(rows2 * x_groups);
    let one3 = fetch_scales(rows3 * x_groups);
    var t2 = mat4x4<f32>();
    var t3 = mat4x4<f32>();
#endif
    let end = select(0u, tile.end / QUAD, member.team < teams && block < TEAMS);
    let first = tile.first / QUAD + member.first;
    let group = params.group / QUAD;
    let last = quads - 1u;
    var next = fetch_weight(weight_rows, min(first, last));
    var next_scale = four_scales(col_scales + min(first, last) / group);
    for (var at = first; at < end; at += member.step) {
        let columns = columns_of(next);
        // A power of two: as exact as shifting the sums.
        let scale = next_scale / f32(1u << SHIFT);
        let after = min(at + member.step, last);
        next = fetch_weight(weight_rows, after);
        next_scale = four_scales(col_scales + after / group);
        t0 = add_scaled(t0, add_quad(Sums(), rows0 * x_quads, at, columns), scales_at(rows0 * x_groups, at, one0), scale);
        t1 = add_scaled(t1, add_quad(Sums(), rows1 * x_quads, at, columns), scales_at(rows1 * x_groups, at, one1), scale);
#ifndef few
        t2 = add_scaled(t2, add_quad(Sums(), rows2 * x_quads, at, columns), scales_at(rows2 * x_groups, at, one2), scale);
        t3 = add_scaled(t3, add_quad(Sums(), rows3 * x_quads, at, columns), scales_at(rows3 * x_groups, at, one3), scale);
#endif
    }
    finish(place, member, teams, bits_of(t0), 0u, tile, pass_of, false);
    finish(place, member, teams, bits_of(t1), 4u, tile, pass_of, false);
#ifndef few
    finish(place, member, teams, bits_of(t2), 8u, tile, pass_of, false);
    finish(place, member, teams, bits_of(t3), 12u, tile, pass_of, false);
#endif
}

fn product(workgroup: vec3<u32>, grid: vec3<u32>, place: Place) {
    let tile = tile_of(workgroup, grid, ROWS, COLS);
    if tile.col >= params.n {
        return;
    }
    let member = member_of(place);
    let teams = count_teams(place);
    for (var pass_of = 0u; pass_of * teams < TEAMS; pass_of++) {
        if min(params.group, params.x_group) == params.k {
            whole_rows(place, member, teams, tile, pass_of);
        } else {
            spans(place, member, teams, tile, pass_of);
        }
    }
}
