use pollster::block_on;
use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels::{self, Columns, Epilogue, ScaleBits, Scaled, ScaledWeight, SplitK, upload_scales};
use wgquant::tensor::DType;

use super::common::gpu;

#[test]
fn matches_reference() {
    super::common::check_all("matmul_w4a8");
}

/// The addressing of the cooperative matrices, on drivers that have none.
#[test]
fn emulated_coop_matches_reference() {
    super::common::check_variant("matmul_w4a8", "coop_emulated");
    super::common::check_variants("matmul_w4a8", &["rows_coop_emulated", "rows_of_half_tiles_coop_emulated"]);
    super::common::check_variant("matmul_w4a8", "rows_of_groups_coop_emulated");
    super::common::check_variant("matmul_w4a8", "rows_of_64x128_coop_emulated");
    super::common::check_variant("matmul_w4a8", "rows_of_32x128_coop_emulated");
    super::common::check_variant("matmul_w4a8", "rows_of_16x64_coop_emulated");
}

/// Codes and scales of each operand.
fn product(
    d: &Device,
    [m, n, k]: [usize; 3],
    [group, x_group]: [usize; 2],
    (codes, scales): (&[i8], &[f32]),
    (weight, weight_scales): (&[i8], &[f32]),
) -> Vec<f32> {
    let bits = ScaleBits::of(weight_scales, 4);
    let codes = d.upload_codes(8, [m, k], codes).unwrap();
    let scales = d.upload_f32([m, k.div_ceil(x_group)], scales).unwrap();
    let weight = d.upload_codes(4, [n, k], weight).unwrap();
    let weight_scales = kernels::upload_scales(d, [n, k.div_ceil(group)], weight_scales).unwrap();
    let out = d.alloc(DType::F32, [m, n]).unwrap();
    let mut plan = Plan::new(d);
    let x = Scaled { codes: &codes, scales: &scales, group: x_group };
    let weight = ScaledWeight { codes: &weight, scales: &weight_scales, group };
    kernels::matmul_w4a8(&mut plan, x, weight, bits, &out, Epilogue::Store, None).unwrap();
    plan.record().unwrap().run().unwrap();
    block_on(d.read_f32(&out)).unwrap()
}

/// f16 holds 64 times code times scale only if scales are short and neither tiny nor huge.
#[test]
fn short_scales() {
    let bit = |n: i32| 1.0 + 2f32.powi(1 - n); // a number of n significant bits
    let least = 2f32.powi(-23);
    for (scales, code_bits, bits) in [
        ([1.0, 2.0, bit(8)], 4, ScaleBits::Short),
        ([1.0, 1.0, bit(9)], 4, ScaleBits::Any),
        ([1.0, least, bit(8) / 2.0], 4, ScaleBits::Short),
        ([1.0, least * (1.0 - 1.0 / 256.0), bit(8) / 2.0], 4, ScaleBits::Any),
        // Scales beside codes of fewer bits have more, and f16 coarser steps for them.
        ([1.0, 2.0 * least, bit(9)], 3, ScaleBits::Short),
        ([1.0, least, bit(9)], 3, ScaleBits::Any),
        ([1.0, 4.0 * least, bit(10)], 2, ScaleBits::Short),
        ([1.0, 2.0 * least, bit(10)], 2, ScaleBits::Any),
        // 64 times the lowest code, too, is below f16's end of 65504.
        ([127.5, 0.0625, bit(8)], 4, ScaleBits::Short),
        ([128.0, 0.0625, bit(8)], 4, ScaleBits::Any),
        ([7.5, 0.75, bit(4)], 8, ScaleBits::Short),
        ([8.0, 0.75, bit(4)], 8, ScaleBits::Any),
        ([1.0, 0.75, bit(7)], 5, ScaleBits::Short),
        ([1.0, 0.75, bit(8)], 5, ScaleBits::Any),
        ([1.0, 0.75, bit(4)], 8, ScaleBits::Short),
        ([1.0, 0.75, bit(5)], 8, ScaleBits::Any),
    ] {
        assert_eq!(ScaleBits::of(&scales, code_bits), bits, "{scales:?} of codes of {code_bits} bits");
    }
}

/// With all scales 1 every output is an integer that f32 holds, and must be exact, whatever the group.
#[test]
fn integer_sums_are_exact() {
    // The second is in blocks, longer than one; the third has many tokens.
    for shape in [[3, 70, 133], [3, 70, 2080], [130, 5, 160]] {
        integer_sums(shape);
    }
}

fn integer_sums([m, n, k]: [usize; 3]) {
    let code = |i: usize, top: usize| ((i * 7919 + i * i * 31) % (2 * top + 1)) as i64 - top as i64;
    let x: Vec<i8> = (0..m * k).map(|i| code(i, 127) as i8).collect();
    let weight: Vec<i8> = (0..n * k).map(|i| code(i + 5, 7) as i8).collect();
    let want: Vec<f32> = (0..m * n)
        .map(|at| (0..k).map(|c| i32::from(x[at / n * k + c]) * i32::from(weight[at % n * k + c])).sum::<i32>() as f32)
        .collect();
    for d in [Device::Cpu, gpu()] {
        for groups in [[k, k], [64, k], [8, 8], [k, 32], [64, 32], [32, 64]] {
            let [weight_scales, scales] = groups.map(|g| vec![1.0; n.max(m) * k.div_ceil(g)]);
            let x = (&x[..], &scales[..m * k.div_ceil(groups[1])]);
            let weight = (&weight[..], &weight_scales[..n * k.div_ceil(groups[0])]);
            assert_eq!(product(&d, [m, n, k], groups, x, weight), want, "groups {groups:?} on {}", d.name());
        }
    }
}

/// The corners of packed products. This crate writes neither -128 nor -8 as a code, but other tools' files hold them.
#[test]
fn extreme_codes_multiply() {
    let extremes = [(-127, -7), (-127, 7), (127, 7), (-128, -8), (127, -8), (-128, 7), (0, -8)];
    for d in [Device::Cpu, gpu()] {
        for (a, b) in extremes {
            let k = 37;
            let got = product(&d, [1, 2, k], [k, k], (&vec![a; k], &[1.0]), (&vec![b; 2 * k], &[1.0, 0.5]));
            let sum = k as f32 * f32::from(a) * f32::from(b);
            assert_eq!(got, [sum, 0.5 * sum], "{a} {b} on {}", d.name());
        }
    }
}

/// Changes one thing of a right call: rows, weight dtype, columns of `weight_scales`, groups.
fn rejected(m: usize, weight: DType, groups: usize, group: usize, x_group: usize) -> Error {
    let d = Device::Cpu;
    let codes = d.alloc(DType::I8, [m, 32]).unwrap();
    let scales = d.alloc(DType::F32, [m, 32usize.div_ceil(x_group)]).unwrap();
    let weight = d.alloc(weight, [3, 32]).unwrap();
    let weight_scales = d.alloc(DType::F32, [1, 4 * groups]).unwrap();
    let out = d.alloc(DType::F32, [m, 3]).unwrap();
    let plan = &mut Plan::new(&d);
    let x = Scaled { codes: &codes, scales: &scales, group: x_group };
    let weight = ScaledWeight { codes: &weight, scales: &weight_scales, group };
    kernels::matmul_w4a8(plan, x, weight, ScaleBits::Any, &out, Epilogue::Store, None).unwrap_err()
}

#[test]
fn rejects_weight_of_other_bits() {
    let error = rejected(1, DType::I8, 2, 16, 32);
    assert!(matches!(error, Error::DType { arg: "weight", .. }), "{error}");
}

#[test]
fn rejects_scales_of_other_groups() {
    let error = rejected(1, DType::I4, 3, 16, 32);
    assert!(matches!(error, Error::Shape { arg: "weight_scales", .. }), "{error}");
}

#[test]
fn rejects_group_across_words() {
    let error = rejected(1, DType::I4, 6, 6, 32);
    assert!(error.to_string().contains("6 is neither a multiple of 8"), "{error}");
}

#[test]
fn rejects_groups_of_which_none_divides_the_other() {
    let error = rejected(1, DType::I4, 2, 24, 16);
    assert!(error.to_string().contains("groups of 16 codes and of 24 weights"), "{error}");
}

#[test]
fn rejects_group_of_codes_across_words() {
    let error = rejected(1, DType::I4, 2, 16, 6);
    assert!(error.to_string().contains("x_group") && error.to_string().contains("6 is neither"), "{error}");
}

/// On matrix units large tiles make whole rounds of outputs and small ones the rest: 1024 tokens by 8576 rows are 268 tiles, of which 132 run at a time.
/// Elsewhere, and where what large tiles need is missing, there is one launch.
#[test]
fn small_tiles_make_what_whole_rounds_leave() {
    let has_matrices = gpu().gpu().is_some_and(|gpu| gpu.caps.has("coop_matrix"));
    two_launches_give_what_one_does(&gpu(), has_matrices && gpu().gpu().is_some_and(|gpu| gpu.caps.has("f16")));
    if has_matrices {
        two_launches_give_what_one_does(&super::common::open(Some("packed_dot,coop_matrix")), false);
    }
}

fn two_launches_give_what_one_does(d: &Device, expected: bool) {
    let (m, n, k) = (1024, 8576, 1024);
    let codes = |count: usize, most: i32| -> Vec<i8> {
        (0..count as i32).map(|i| (i.wrapping_mul(7919).rem_euclid(2 * most + 1) - most) as i8).collect()
    };
    let ones = |shape: [usize; 2]| d.upload_f32(shape, &vec![1.0; shape[0] * shape[1]]).unwrap();
    let (x, x_scales) = (d.upload_codes(8, [m, k], &codes(m * k, 127)).unwrap(), ones([m, 1]));
    let x = Scaled { codes: &x, scales: &x_scales, group: k };
    let scales = upload_scales(d, [n, 1], &vec![1.0; n]).unwrap();
    let room = d.alloc(DType::F32, [16]).unwrap();
    for bits in [4, 8] {
        let w = d.upload_codes(bits, [n, k], &codes(n * k, if bits == 4 { 7 } else { 127 })).unwrap();
        let weight = ScaledWeight { codes: &w, scales: &scales, group: k };
        let [one, two] = [Some(1), None].map(|slices| {
            let (out, mut plan) = (ones([m, n + 4]), Plan::new(d));
            let (split, columns) = (Some(SplitK { room: &room, slices }), Columns::new("test", &out, 4, n).unwrap());
            let (short, add) = (ScaleBits::Short, Epilogue::Add);
            match bits {
                4 => kernels::matmul_w4a8(&mut plan, x, weight, short, columns, add, split).unwrap(),
                _ => kernels::matmul_w8a8(&mut plan, x, weight, short, columns, add, split).unwrap(),
            }
            let launches = plan.dispatches();
            plan.record().unwrap().run().unwrap();
            (launches, block_on(d.read_f32(&out)).unwrap())
        });
        assert_eq!((one.0, two.0), (1, 1 + usize::from(expected)), "int{bits}");
        // Integers, of which f32 holds all that come up here.
        assert!(one.1 == two.1 && one.1.iter().any(|v| v.abs() > 1e3), "int{bits}");
    }
}
